"""TLS to real database servers: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger, LedgerUnavailableError, Tls
from tests.certificates import Authority, authority
from tests.services import ledgers
from tests.services.database import PrivateDatabase
from tests.services.fixtures import installed
from tests.services.mariadb import MariaDB
from tests.services.postgresql import PostgreSQL

pytestmark = pytest.mark.integration

KINDS: dict[str, type[PrivateDatabase]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}
SPOKEN = {
    "postgresql": "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mariadb": "SELECT variable_value FROM information_schema.session_status "
    "WHERE variable_name = 'Ssl_version'",
}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the CA that the servers' certificates are of."""
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module", params=list(KINDS))
def server(request: pytest.FixtureRequest, ca: Authority) -> Iterator[PrivateDatabase]:
    """Start each server in turn, with a certificate for 127.0.0.1."""
    kind = KINDS[request.param]
    installed(kind)  # or the tests are skipped
    with kind(ca.issue(request.param, "IP:127.0.0.1")) as made:
        yield made


@pytest.fixture
def verified(ca: Authority) -> Tls:
    """Return what an operator has who sets ssl and the CA."""
    return Tls(str(ca.certificate))


def ask(server: PrivateDatabase, tls: Tls | None, *, host: str = "127.0.0.1") -> str | None:
    """Connect; return in which version of TLS the server speaks with us."""
    url = sa.make_url(server.url).set(host=host).render_as_string(hide_password=False)
    ledger = Ledger(url, tls=tls)
    try:
        spoken = SPOKEN[server.name]
        return ledger._database.read(lambda c: c.exec_driver_sql(spoken).scalar())
    finally:
        ledger.close()


def refused(server: PrivateDatabase, tls: Tls | None, *, host: str = "127.0.0.1") -> str:
    """Try to connect; return in which words it is refused, the password never among them."""
    with pytest.raises(LedgerUnavailableError) as error:
        ask(server, tls, host=host)
    assert server.password not in "".join(traceback.format_exception(error.value))
    return str(error.value)


def test_right_ca(server: PrivateDatabase, verified: Tls) -> None:
    """The CA of the server's certificate, and its name -> TLS is spoken, the ledger works."""
    assert str(ask(server, verified)).startswith("TLSv1")
    ledger = Ledger(server.fresh_database(), tls=verified)
    ledger.upgrade()
    assert ledger.cases() == ()
    ledger.close()


def test_wrong_ca(server: PrivateDatabase, tmp_path: Path) -> None:
    """Another CA than the certificate's -> refused, and why, with the file that was trusted."""
    other = authority(tmp_path)
    words = refused(server, Tls(str(other.certificate)))
    assert f"the server's certificate was not issued by a CA in {other.certificate}" in words


def test_no_ca_means_the_system_s(server: PrivateDatabase) -> None:
    """Nothing but ssl = true -> verified all the same, by the system's CAs: refused."""
    assert "not issued by a CA in the system" in refused(server, Tls())


def test_wrong_host_name(server: PrivateDatabase, verified: Tls) -> None:
    """A certificate for 127.0.0.1, the URL says localhost -> refused, and why."""
    assert "for another name than the host" in refused(server, verified, host="localhost")


def test_wrong_host_name_where_allowed(server: PrivateDatabase, ca: Authority) -> None:
    """ssl_verify_hostname = false -> any name of that CA; another CA is refused all the same."""
    any_name = Tls(str(ca.certificate), verify_hostname=False)
    assert ask(server, any_name, host="localhost")


def test_wrong_ca_where_any_name_is_allowed(server: PrivateDatabase, tmp_path: Path) -> None:
    """ssl_verify_hostname = false and another CA -> refused."""
    other = Tls(str(authority(tmp_path).certificate), verify_hostname=False)
    assert "not issued by a CA in" in refused(server, other, host="localhost")


@pytest.mark.parametrize("kind", list(KINDS))
def test_server_without_tls(kind: str, verified: Tls, request: pytest.FixtureRequest) -> None:
    """Set ssl = true, a server that speaks none -> refused, in words: nothing goes in the clear."""
    plain: PrivateDatabase = request.getfixturevalue(kind)
    assert "ssl is true, but this server does not speak TLS" in refused(plain, verified)


def test_client_s_certificate(server: PrivateDatabase, ca: Authority, verified: Tls) -> None:
    """A server that asks who we are -> refused without a certificate, accepted with one."""
    own = ca.issue("client", "DNS:client")
    url = new_user_with_a_certificate(server)
    with pytest.raises(LedgerUnavailableError) as error:
        ping(url, verified)
    assert "swordfish" not in "".join(traceback.format_exception(error.value)).replace(__file__, "")
    ping(url, Tls(verified.ca_file, str(own.certificate), str(own.key)))


def new_user_with_a_certificate(server: PrivateDatabase) -> str:
    """Make a user who is let in with a certificate only; return the URL."""
    url = sa.make_url(server.url).set(username="known", password="swordfish")
    if server.name == "mariadb":
        server.execute("CREATE USER known@localhost IDENTIFIED BY 'swordfish' REQUIRE X509")
        url = url.set(database="information_schema")  # which everybody may see
    else:
        server.execute("CREATE USER known PASSWORD 'swordfish'")
        rules = server.directory / "data" / "pg_hba.conf"
        wanted = "hostssl all known 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        rules.write_text(wanted + rules.read_text())
        server.execute("SELECT pg_reload_conf()")
    return url.render_as_string(hide_password=False)


def ping(url: str, tls: Tls) -> None:
    """Connect once."""
    with contextlib.closing(Ledger(url, tls=tls)) as ledger:
        ledgers.ask(ledger)
