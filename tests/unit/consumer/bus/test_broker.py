"""Where the broker is, as operators write it in transport_url and [oslo_messaging_rabbit]."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path

import pytest
from oslo_config import cfg

from consumer.bus.broker import (
    BrokerSettings,
    BrokerUnavailableError,
    UnknownTransportError,
    backoff_seconds,
    connect,
    describe,
    url_explained,
)
from consumer.errors import ConfigurationError
from tests.services.ports import free_port


def settings(tmp_path: Path, text: str) -> BrokerSettings:
    """Read the broker's settings from a configuration file."""
    path = tmp_path / "detachd.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(path)], default_config_files=[], default_config_dirs=[])
    return BrokerSettings.from_conf(conf)


def test_several_hosts_with_credentials(tmp_path: Path) -> None:
    """Two hosts, one of them IPv6, a virtual host, odd characters -> all of it read."""
    broker = settings(
        tmp_path,
        "[DEFAULT]\ntransport_url = rabbit://nova:p%2Fw%40@one:5673,nova:x@[::1]:5674/cell%2F1\n",
    )
    assert [(host.hostname, host.port, host.userid) for host in broker.hosts] == [
        ("one", 5673, "nova"),
        ("[::1]", 5674, "nova"),
    ]
    assert broker.hosts[0].password == "p/w@"
    assert broker.virtual_host == "cell/1"


def test_password_never_shows(tmp_path: Path) -> None:
    """Settings printed, or a connection refused -> no password in it."""
    broker = settings(
        tmp_path, f"[DEFAULT]\ntransport_url = rabbit://u:swordfish@127.0.0.1:{free_port()}/\n"
    )
    with pytest.raises(BrokerUnavailableError, match="Connection refused") as refused:
        connect(broker, "test", heartbeats=False)
    assert "swordfish" not in f"{broker!r} {refused.value} {broker.hosts[0]}"


def test_every_host_is_named_when_none_answers(tmp_path: Path) -> None:
    """Two hosts that refuse -> both in the error."""
    one, two = free_port(), free_port()
    broker = settings(
        tmp_path, f"[DEFAULT]\ntransport_url = rabbit://u:p@127.0.0.1:{one},u:p@127.0.0.1:{two}/\n"
    )
    with pytest.raises(BrokerUnavailableError) as refused:
        connect(broker, "test", heartbeats=False)
    assert f"127.0.0.1:{one}" in str(refused.value)
    assert f"127.0.0.1:{two}" in str(refused.value)


def test_no_host_is_localhost(tmp_path: Path) -> None:
    """oslo.messaging's default, rabbit:// -> localhost, as oslo.messaging has it."""
    assert str(settings(tmp_path, "").hosts[0]) == "localhost"


def test_notifications_may_have_a_broker_of_their_own(tmp_path: Path) -> None:
    """[oslo_messaging_notifications] transport_url -> goes before the general one."""
    broker = settings(
        tmp_path,
        "[DEFAULT]\ntransport_url = rabbit://u:p@rpc/\n"
        "[oslo_messaging_notifications]\ntransport_url = rabbit://u:p@notifications/\n",
    )
    assert str(broker.hosts[0]) == "notifications"


def test_tls_is_verified(tmp_path: Path) -> None:
    """TLS with a CA file -> certificate required, the CA's, and the host's name checked."""
    broker = settings(
        tmp_path,
        "[DEFAULT]\ntransport_url = rabbit://u:p@one/\n"
        "[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = /ca.pem\n",
    )
    assert broker.tls == {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/ca.pem"}
    assert broker.tls_names


def test_no_tls_by_default(tmp_path: Path) -> None:
    """Nothing said of ssl -> none."""
    assert settings(tmp_path, "[DEFAULT]\ntransport_url = rabbit://u:p@one/\n").tls is None


def test_query_goes_before_the_options(tmp_path: Path) -> None:
    """?ssl=1&heartbeat_timeout_threshold=7, as OpenStack-Ansible writes -> read, and as numbers."""
    broker = settings(
        tmp_path,
        "[DEFAULT]\n"
        "transport_url = rabbit://u:p@one/?ssl=1&heartbeat_timeout_threshold=7\n"
        "[oslo_messaging_rabbit]\nssl = false\nheartbeat_timeout_threshold = 60\n",
    )
    assert broker.tls is not None
    assert broker.heartbeat_seconds == 7


@pytest.mark.parametrize(
    ("text", "durable"),
    [
        pytest.param("", False, id="nothing said -> not durable, as oslo.messaging declares"),
        pytest.param("amqp_durable_queues = true", True, id="durable queues -> durable"),
        pytest.param("rabbit_quorum_queue = true", True, id="quorum queues -> durable"),
    ],
)
def test_durability_is_that_of_the_cloud(tmp_path: Path, text: str, durable: bool) -> None:
    """The options that Nova and Cinder have -> how we declare an exchange that is missing."""
    broker = settings(tmp_path, f"[oslo_messaging_rabbit]\n{text}\n")
    assert broker.durable_exchanges is durable


def test_other_transport_is_refused_in_words(tmp_path: Path) -> None:
    """kafka:// -> refused, saying what is wanted."""
    with pytest.raises(UnknownTransportError, match=r"rabbit://.*kafka"):
        settings(tmp_path, "[DEFAULT]\ntransport_url = kafka://u:p@one/\n")


@pytest.mark.parametrize(
    "password", ["a@S3", "a/S3", "1/S3", "1#S3", "1?S3", "a,S3", "1,S3", "1/@S3", "@S3", "1?a=S3"]
)
@pytest.mark.parametrize("others", ["", ",u:p@two:5672"])
def test_password_that_is_not_encoded_is_refused_and_not_shown(
    tmp_path: Path, password: str, others: str
) -> None:
    """A character that ends the password -> refused with the fix; no part of it is told."""
    text = f"[DEFAULT]\ntransport_url = rabbit://u:{password}@one:5672{others}/v\n"
    with pytest.raises(ConfigurationError) as refused, url_explained():
        settings(tmp_path, text)
    assert "%40 for @" in str(refused.value)
    assert "S3" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "transport_url = rabbit:///cell\n"])
def test_no_host_at_all_is_said(tmp_path: Path, text: str) -> None:
    """transport_url is not set, or names no host -> the error says so beside localhost."""
    broker = settings(tmp_path, f"[DEFAULT]\n{text}")
    assert str(broker.hosts[0]) == "localhost"
    nobody = dataclasses.replace(
        broker, hosts=(dataclasses.replace(broker.hosts[0], port=free_port()),)
    )
    with pytest.raises(BrokerUnavailableError, match=r"\(transport_url names no host\): "):
        connect(nobody, "test", heartbeats=False)


@pytest.mark.parametrize(
    "url",
    ["rabbit://u:a%40b%2Cc@one/", "rabbit://one,two/", "rabbit://u:p@one,two/", "rabbit://u@one/v"],
)
def test_url_that_is_clear_is_taken(tmp_path: Path, url: str) -> None:
    """Encoded characters, hosts without a user -> read as oslo.messaging reads them."""
    assert settings(tmp_path, f"[DEFAULT]\ntransport_url = {url}\n").hosts[0].hostname == "one"


def test_memory_transport_neither_confirms_nor_returns(tmp_path: Path) -> None:
    """kombu+memory:////, the demo's -> known to do neither."""
    broker = settings(tmp_path, "[DEFAULT]\ntransport_url = kombu+memory:////\n")
    assert not broker.confirms


def test_backoff_grows_to_its_bound() -> None:
    """One failure, then many, with both extremes of the draw -> between a fifth and the bound."""
    assert backoff_seconds(1, draw=lambda: 1.0) == 0.5
    assert backoff_seconds(3, draw=lambda: 1.0) == 2.0
    assert backoff_seconds(10_000, draw=lambda: 1.0) == 30.0
    assert backoff_seconds(10_000, draw=lambda: 0.0) == 6.0


def test_an_error_without_words_is_named() -> None:
    """A timeout, which says nothing -> its name; several lines -> one."""
    assert describe(TimeoutError()) == "TimeoutError"
    assert describe(OSError("two\nlines")) == "two lines"
