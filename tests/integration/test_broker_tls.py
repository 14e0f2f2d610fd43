"""TLS to a real broker: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.bus.broker import BrokerSettings, BrokerUnavailableError, connect
from consumer.bus.settings import ListenerSettings
from consumer.intake.listener import Listener
from consumer.ledger import Ledger
from tests.bus import Peer, configured, new_ledger, running, stored, until
from tests.certificates import Authority, authority
from tests.recorded import HEALTHY, Recorded, recording, renewed
from tests.services.fixtures import installed
from tests.services.rabbitmq import RabbitMQ

pytestmark = pytest.mark.integration
PASSWORD = "swordfish"

Ask = Callable[..., BrokerSettings]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make the CA that the broker's certificate is of."""
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def broker(ca: Authority) -> Iterator[RabbitMQ]:
    """Start a broker whose certificate is for 127.0.0.1."""
    installed(RabbitMQ)  # or the tests are skipped
    with RabbitMQ(ca.issue("broker", "IP:127.0.0.1")) as made:
        made.ctl("add_user", "detachd", PASSWORD)
        made.ctl("set_permissions", "detachd", ".*", ".*", ".*")
        yield made


def asked(url: str, **options: object) -> ListenerSettings:
    """Read a listener's settings as from [oslo_messaging_rabbit]."""
    conf = configured(url)
    for name, value in options.items():
        conf.set_override(name, value, group="oslo_messaging_rabbit")
    return ListenerSettings.from_conf(conf)


def url_of(broker: RabbitMQ, *, host: str = "127.0.0.1", port: int | None = None) -> str:
    """Return the broker's URL, TLS's port unless told otherwise."""
    return f"rabbit://detachd:{PASSWORD}@{host}:{port or broker.tls_port}/"


def refused(settings: BrokerSettings) -> str:
    """Try to connect; return in which words it is refused, the password never among them."""
    with pytest.raises(BrokerUnavailableError) as error:
        connect(settings, "test", heartbeats=False)
    assert PASSWORD not in f"{error.value!r}{error.value.__context__!r}"
    return str(error.value)


def relevant(messages: list[Recorded]) -> list[str]:
    """Return the ids of those messages that concern an attachment."""
    return [m.message_id for m in messages if not m.event_type.startswith("volume.create")]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


def test_messages_come_in_over_tls(
    broker: RabbitMQ, ca: Authority, ledger: Ledger, tmp_path: Path
) -> None:
    """The right CA and name -> connected; small and large messages stored, none lost."""
    own = asked(url_of(broker), ssl=True, ssl_ca_file=str(ca.certificate))
    listener = Listener(own, ledger)
    messages = [m for _ in range(40) for m in renewed(recording(HEALTHY))]
    with running(listener), Peer(broker.url) as peer:
        until(lambda: listener.caught_up)
        peer.put(b"[]" * 200_000, "cinder", "notifications.info")  # many records of TLS
        peer.publish(messages)
        until(lambda: len(stored(tmp_path)) == len(relevant(messages)))
        assert listener.status().problems == ()
    assert sorted(stored(tmp_path)) == sorted(relevant(messages))


def test_silence_is_noticed_over_tls(
    broker: RabbitMQ, ca: Authority, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker hangs, its TLS connection open -> noticed by its silence; back -> caught up."""
    monkeypatch.setattr("consumer.bus.broker.ANSWER_SECONDS", 2.0)
    own = asked(url_of(broker), ssl=True, ssl_ca_file=str(ca.certificate))
    listener = Listener(own, ledger)
    with running(listener):
        until(lambda: listener.caught_up)
        with broker.paused():
            until(lambda: not listener.status().connected)
        until(lambda: listener.caught_up, 60)


def test_wrong_ca_is_refused(broker: RabbitMQ, tmp_path: Path) -> None:
    """Another CA than the broker's -> refused, and why."""
    other = authority(tmp_path)
    own = asked(url_of(broker), ssl=True, ssl_ca_file=str(other.certificate))
    words = refused(own.broker)
    assert "the broker's certificate is not accepted" in words
    assert f"127.0.0.1:{broker.tls_port}" in words


def test_no_ca_means_the_system_s(broker: RabbitMQ) -> None:
    """Set ssl and nothing else -> verified all the same, by the system's CAs: refused."""
    assert "the broker's certificate is not accepted" in refused(
        asked(url_of(broker), ssl=True).broker
    )


def test_query_of_the_url_is_verified_too(broker: RabbitMQ) -> None:
    """?ssl=1, as OpenStack-Ansible writes -> verified, refused without the CA."""
    own = asked(f"{url_of(broker)}?ssl=1")
    assert "the broker's certificate is not accepted" in refused(own.broker)


def test_wrong_name_is_refused(broker: RabbitMQ, ca: Authority) -> None:
    """A certificate for 127.0.0.1, the URL says localhost -> refused, and why."""
    url = url_of(broker, host="localhost")
    own = asked(url, ssl=True, ssl_ca_file=str(ca.certificate))
    assert "Hostname mismatch" in refused(own.broker)


def test_wrong_name_only_when_asked_for(
    broker: RabbitMQ, ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """ssl_enforce_hostname_verification = false -> any name, said in the log; the CA still counts.

    There is no option that lets any certificate pass.
    """
    url, any_name = url_of(broker, host="localhost"), {"ssl_enforce_hostname_verification": False}
    own = asked(url, ssl=True, ssl_ca_file=str(ca.certificate), **any_name)
    with caplog.at_level(logging.WARNING, "consumer.bus.broker"):
        connect(own.broker, "test", heartbeats=False).release()
    assert "the host name in the broker's certificate is not checked" in caplog.text
    assert "the broker's certificate is not accepted" in refused(
        asked(url, ssl=True, **any_name).broker
    )


def test_plain_client_at_the_tls_port(broker: RabbitMQ) -> None:
    """No ssl, the port of TLS -> refused, and what to set."""
    assert "set [oslo_messaging_rabbit] ssl = true" in refused(asked(url_of(broker)).broker)


def test_tls_client_at_the_plain_port(broker: RabbitMQ, ca: Authority) -> None:
    """Set ssl, the plain port -> refused, and why; nothing is said in the clear."""
    url = url_of(broker, port=broker.port)
    own = asked(url, ssl=True, ssl_ca_file=str(ca.certificate))
    assert "does not speak TLS on this port" in refused(own.broker)


def test_wrong_password_is_refused_without_it(broker: RabbitMQ, ca: Authority) -> None:
    """A password that the broker does not know -> refused in its words, never showing it."""
    url = url_of(broker).replace("detachd:", "nobody:")
    own = asked(url, ssl=True, ssl_ca_file=str(ca.certificate))
    assert "ACCESS_REFUSED" in refused(own.broker)


def test_missing_ca_file_is_said(broker: RabbitMQ, tmp_path: Path) -> None:
    """A CA file that is not there -> said, rather than anything accepted."""
    own = asked(url_of(broker), ssl=True, ssl_ca_file=str(tmp_path / "none.pem"))
    assert "ssl_ca_file" in refused(own.broker)
