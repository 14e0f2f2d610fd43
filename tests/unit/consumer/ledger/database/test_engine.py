"""The connection to the three databases: repetition, what is told of failures, database time."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import traceback
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger, LedgerUnavailableError, LedgerUrlError, Tls
from consumer.ledger.database import engine
from consumer.ledger.database.engine import Database, database_now
from tests.services import ledgers
from tests.services.mariadb import MariaDB
from tests.services.postgresql import PostgreSQL
from tests.unit.consumer.ledger.breaking import CrashError, lose_next_commit
from tests.unit.consumer.ledger.making import accept, at_once, places, told

SECRET = "s3cret"
SERVICE = 42710


@pytest.fixture
def database(ledger: Ledger) -> Database:
    """Return the database beneath a ledger."""
    return ledger._database


def test_database_time(database: Database) -> None:
    """The database is asked for the time -> aware, UTC, now, and it does not stand still."""
    first = database.write(database_now)
    assert first.tzinfo is UTC
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=30)
    assert database.read(database_now) >= first


def test_rolled_back(database: Database) -> None:
    """A transaction that fails -> nothing of it is kept, and the error comes through."""

    def fail(connection: sa.Connection) -> None:
        connection.exec_driver_sql("DELETE FROM alembic_version")
        raise CrashError

    with pytest.raises(CrashError):
        database.write(fail)
    kept = database.read(lambda c: c.exec_driver_sql("SELECT version_num FROM alembic_version"))
    assert kept is not None


def test_lost_connection(ledger: Ledger) -> None:
    """The connection is lost in a commit that held -> the batch is there once, as duplicates."""
    lost = lose_next_commit(ledger)
    notification = told()
    accept(ledger, notification)
    assert lost.times == 1
    assert places(ledger).keys() == {notification.message_id}


def test_lost_again_and_again(ledger: Ledger) -> None:
    """The connection is lost every time -> an error of the ledger after a bounded number."""
    lost = lose_next_commit(ledger, times=1000)
    with pytest.raises(LedgerUnavailableError, match="lost"):
        accept(ledger, told())
    assert 2 <= lost.times <= 10


@pytest.mark.parametrize(("number", "state"), [(1205, "HY000"), (1213, "40001"), (1047, "08S01")])
def test_number_beside_a_sqlstate(number: int, state: str) -> None:
    """PyMySQL 1.2 tells MariaDB's number and a SQLSTATE -> the number decides, as with 1.1."""
    error = pymysql.err.OperationalError(number, "words")
    error.sqlstate = state
    assert engine._code(error) == number
    told_of = sa.exc.OperationalError("COMMIT", None, error)
    assert engine._worth_repeating(told_of) is (number in engine.REPEAT)


def test_deadlock(database: Database) -> None:
    """Two transactions block each other -> one is repeated as a whole, both come to their end."""
    if database.file is not None:
        return  # SQLite has one writer: nothing to deadlock with
    database.write(_two_volumes)
    first, second = ("vol-a", "vol-b"), ("vol-b", "vol-a")
    at_once(*(lambda order=order: database.write(_raise_both(order)) for order in (first, second)))
    fences = database.read(lambda c: c.exec_driver_sql("SELECT fence FROM claims").scalars().all())
    assert fences == [2, 2]


def _two_volumes(connection: sa.Connection) -> None:
    for volume in ("vol-a", "vol-b"):
        connection.execute(
            sa.text("INSERT INTO claims (cloud, volume_id, fence) VALUES ('c', :v, 0)"),
            {"v": volume},
        )


def _raise_both(order: tuple[str, str]) -> object:
    def work(connection: sa.Connection) -> None:
        for volume in order:
            connection.execute(
                sa.text("UPDATE claims SET fence = fence + 1 WHERE volume_id = :v"), {"v": volume}
            )
            sleep = {"postgresql": "SELECT pg_sleep(0.2)", "mariadb": "SELECT SLEEP(0.2)"}
            connection.exec_driver_sql(sleep[connection.dialect.name])

    return work


def test_sqlite_is_durable(tmp_path: Path) -> None:
    """A ledger in SQLite -> WAL, synchronous FULL, foreign keys on."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

    def pragma(name: str) -> object:
        return database.read(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar_one())

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    database.close()


def test_sqlite_readers_do_not_wait(ledger: Ledger) -> None:
    """A writing transaction is open -> reading goes on, and sees what was there before."""
    if ledger._database.file is None:
        return
    assert ledger._database.write(lambda _: ledger.cases()) == ()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_outage(request: pytest.FixtureRequest, kind: str) -> None:
    """The server dies and comes back -> an error without its password, then work goes on."""
    server: PostgreSQL | MariaDB = request.getfixturevalue(kind)
    ledger = Ledger(server.fresh_database())
    ledger.upgrade()
    ledgers.ask(ledger)
    with server.killed():
        with pytest.raises(LedgerUnavailableError) as down:
            accept(ledger, told())
        with pytest.raises(LedgerUnavailableError):
            ledgers.ask(ledger)
    accept(ledger, told())
    assert len(places(ledger)) == 1
    assert server.password not in "".join(traceback.format_exception(down.value))
    assert server.password not in repr(ledger)
    ledger.close()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_wrong_password(request: pytest.FixtureRequest, kind: str) -> None:
    """A wrong password -> an error that names the server and the reason, not the password."""
    server: PostgreSQL | MariaDB = request.getfixturevalue(kind)
    url = sa.make_url(server.fresh_database()).set(password=SECRET)
    ledger = Ledger(url.render_as_string(hide_password=False))
    with pytest.raises(LedgerUnavailableError, match=r"127\.0\.0\.1") as refused:
        ledgers.ask(ledger)
    traceback_text = "".join(traceback.format_exception(refused.value))
    assert SECRET not in traceback_text.replace(__file__, "")
    ledger.close()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://detachd:{SECRET}@127.0.0.1:1/detachd",
        f"postgresql://127.0.0.1:1/detachd?user=u&password={SECRET}",
        f"mariadb://detachd:{SECRET}@127.0.0.1:1/detachd",
        f"mysql+pymysql://detachd:{SECRET}@127.0.0.1:1/detachd",
    ],
)
def test_nobody_answers(url: str) -> None:
    """Nobody listens there -> an error that names the place, and the password nowhere."""
    ledger = Ledger(url)
    with pytest.raises(LedgerUnavailableError, match=r"127\.0\.0\.1:1/detachd") as refused:
        ledgers.ask(ledger)
    for text in (str(refused.value), repr(refused.value), repr(ledger), ledger.name):
        assert SECRET not in text
    assert SECRET not in repr(ledger._database)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"oracle://detachd:{SECRET}@db/x", "sqlite, postgresql or mariadb"),
        ("sqlite://", "use a file"),
        ("sqlite:///:memory:", "use a file"),
        ("sqlite:///ledger.sqlite", "relative path.*absolute path, with four slashes"),
        ("sqlite://var/lib/detachd/ledger.sqlite", "relative path.*absolute path"),
        ("sqlite:///~/ledger.sqlite", "relative path"),
        (f"not a url {SECRET}", "does not parse"),
        (f"postgresql://u:a@{SECRET}@db/x", "more than one @.*write %40"),
        (f"postgresql://u:a@{SECRET}/b@db/x", "more than one @.*write %40"),
        (f"mariadb://u:a@b?{SECRET}@db/x", "more than one @.*write %40"),
        (f"mariadb://u:{SECRET}@db:port/x", "does not parse"),
        ("postgresql://u@db/x?sslmode=require", r"has sslmode; use the options ssl, ssl_ca"),
        ("mariadb://u@db/x?ssl_ca=/ca.pem", "has ssl_ca; use the options"),
    ],
)
def test_bad_url(url: str, message: str) -> None:
    """A URL that cannot be used -> refused at once, in words, with the fix, without secrets."""
    with pytest.raises(LedgerUrlError, match=message) as refused:
        Ledger(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (Tls("/nowhere/ca.pem"), "ssl_ca_file = /nowhere/ca.pem cannot be used: No such file"),
        (Tls(__file__), "ssl_ca_file = .* cannot be used"),
        (Tls(None, "/nowhere/c.pem", "/nowhere/k.pem"), "ssl_cert_file or ssl_key_file = /nowhere"),
    ],
)
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_bad_tls_file(kind: str, tls: Tls, message: str) -> None:
    """A file of TLS that cannot be used -> refused before anything is tried, with its option."""
    with pytest.raises(LedgerUrlError, match=message):
        Ledger(f"{kind}://detachd:{SECRET}@db/x", tls=tls)


def test_tls_by_a_client_that_does_not_insist_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyMySQL 1.1, as 2025.2's constraints have it -> TLS refused, the server used without it."""
    of_any = metadata.version
    old = {"PyMySQL": "1.1.1"}
    monkeypatch.setattr(metadata, "version", lambda name: old.get(name) or of_any(name))
    with pytest.raises(LedgerUrlError, match=r"PyMySQL 1\.1\.1 goes on in the clear .* 1\.2 or"):
        Ledger(f"mariadb://detachd:{SECRET}@db/x", tls=Tls())
    Ledger(f"mariadb://detachd:{SECRET}@db/x").close()
    Ledger(f"postgresql://detachd:{SECRET}@db/x", tls=Tls()).close()


def test_tls_to_a_file() -> None:
    """TLS asked for and a ledger in SQLite -> refused: there is nobody to speak it with."""
    with pytest.raises(LedgerUrlError, match="SQLite has no server"):
        Ledger("sqlite:////tmp/ledger.sqlite", tls=Tls())


def test_driver_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database's module is not installed -> told which extra to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerUrlError, match=r"pip install 'detachd\[postgresql\]'"):
        Ledger("postgresql://db/detachd")


def test_not_a_database(tmp_path: Path) -> None:
    """A file that is no SQLite database -> an error of the ledger that says so."""
    file = tmp_path / "ledger.sqlite"
    file.write_text("certainly not a database, but long enough to be read as one's header " * 9)
    ledger = Ledger(f"sqlite:///{file}")
    with pytest.raises(LedgerUnavailableError, match="not a database"):
        ledgers.ask(ledger)
    ledger.close()


def test_no_such_directory(tmp_path: Path) -> None:
    """A directory that is not there -> an error of the ledger that names the file."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'missing' / 'ledger.sqlite'}")
    with pytest.raises(LedgerUnavailableError, match=r"missing/ledger\.sqlite"):
        ledger.upgrade()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that is another's")
def test_file_that_root_makes_belongs_to_the_owner_of_its_directory(tmp_path: Path) -> None:
    """`ledger upgrade` as root, the directory is the service's -> the service can open the ledger.

    The two files beside it are made by whoever opens it first, and belong to the same owner.
    """
    os.chown(tmp_path, SERVICE, SERVICE)
    with contextlib.closing(Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        ledger.upgrade()
        owners = {f.name: (f.stat().st_uid, f.stat().st_gid) for f in tmp_path.iterdir()}
    assert {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"} <= owners.keys()
    assert set(owners.values()) == {(SERVICE, SERVICE)}


def test_file_of_the_ledger_is_its_owner_s_alone(tmp_path: Path) -> None:
    """A new ledger, whatever the umask -> nobody else reads the file or the two beside it."""
    before = os.umask(0)
    try:
        with contextlib.closing(Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
            ledger.upgrade()
            modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}
