"""What is wrong with transport_url, in words that repeat nothing of it."""

from __future__ import annotations

import oslo_messaging
import pytest

from consumer.bus.broker import UnknownTransportError, url_explained
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
