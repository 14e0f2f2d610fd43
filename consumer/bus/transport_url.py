"""What is wrong with transport_url, in words that repeat nothing of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import oslo_messaging

from consumer.bus.broker import UnknownTransportError
from consumer.settings.files import ConfigurationError


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise ConfigurationError for whatever reading transport_url within raises."""
    try:
        yield
    except UnknownTransportError as error:
        raise ConfigurationError([f"transport_url: {error}"]) from error
    except (oslo_messaging.InvalidTransportURL, ValueError):
        # Their texts may repeat a part of the URL, and that of the password.
        problem = (
            "transport_url is no URL of a broker; write rabbit://USER:PASSWORD@HOST:5672/VHOST"
        )
        raise ConfigurationError([problem]) from None
