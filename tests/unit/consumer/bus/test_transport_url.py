"""What is wrong with transport_url, in words that repeat nothing of it."""

from __future__ import annotations

import oslo_messaging
import pytest
from oslo_config import cfg

from consumer.bus.broker import BrokerSettings, UnknownTransportError, url_explained
from consumer.errors import ConfigurationError


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(oslo_messaging.InvalidTransportURL("rabbit://u:canary@", "no"), id="no URL"),
        pytest.param(ValueError("port canary"), id="no port"),
        pytest.param(UnknownTransportError("rabbit:// it must be"), id="another broker"),
    ],
)
def test_explained(error: Exception) -> None:
    """Whatever reading the URL raises -> a configuration error that says what to write instead."""
    with pytest.raises(ConfigurationError, match="transport_url") as refused, url_explained():
        raise error
    assert "rabbit://" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_anything_else_is_left_alone() -> None:
    """An error that is not about the URL -> as it is."""
    with pytest.raises(KeyError), url_explained():
        raise KeyError("other")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("rabbit:guest:canary@host/", id="no slashes"),
        pytest.param("rabbit://guest:canary@/", id="no host"),
        pytest.param("rabbit://guest:canary@:5672/", id="a port alone"),
    ],
)
def test_a_typing_error_does_not_mean_localhost(url: str) -> None:
    """oslo.messaging reads no host, or an empty one -> refused, and localhost is not tried."""
    with pytest.raises(ConfigurationError, match="names no host") as refused, url_explained():
        BrokerSettings.from_conf(cfg.ConfigOpts(), url)
    assert "canary" not in str(refused.value)


def test_the_default_of_transport_url_can_be_read() -> None:
    """Nothing is set, as for a command that needs no broker -> settings; doctor says the rest."""
    assert not BrokerSettings.from_conf(cfg.ConfigOpts()).is_named
