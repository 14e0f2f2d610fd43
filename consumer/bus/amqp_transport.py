"""What kombu calls a transport: py-amqp's connections, on our reading of them.

Bytes come in large pieces (``consumer.bus.transport``), messages as they are
(``consumer.bus.incoming``).
"""

from __future__ import annotations

from typing import Any

from kombu.transport import pyamqp

from consumer.bus.incoming import RawChannel
from consumer.bus.transport import BufferedTCP, BufferedTLS


class _Connection(pyamqp.Connection):  # type: ignore[misc]  # kombu has no types
    """Py-amqp's connection, on our transports and with our channels."""

    Channel = RawChannel

    def Transport(  # noqa: N802 - py-amqp's name
        self, host: str, connect_timeout: float, ssl: Any = False, *timeouts: Any, **rest: Any
    ) -> Any:
        """Make a transport that is not connected yet; py-amqp calls this."""
        read_timeout, write_timeout = timeouts
        transport = BufferedTLS if ssl else BufferedTCP
        return transport(
            host,
            connect_timeout=connect_timeout,
            ssl=ssl,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            **rest,
        )

    def blocking_read(self, timeout: float | None = None) -> Any:
        """Read one frame, and do what it asks for; without a timeout, without setting one."""
        if timeout is not None:
            return super().blocking_read(timeout)
        return self.on_inbound_frame(self.transport.read_frame())


class BufferedAmqp(pyamqp.Transport):  # type: ignore[misc]  # kombu has no types
    """What kombu calls a transport: pyamqp's, on connections that read in large pieces."""

    Connection = _Connection
