"""Makes messages from the broker's frames, without decoding what their senders wrote.

Py-amqp decodes properties, names and headers while it assembles a message. If it cannot decode one,
the connection breaks before detachd can quarantine the message. Here they stay bytes, and
``properties.py`` reads them when they are needed. Kombu would decompress a body without a limit;
here a body stays as it is.

The kombu transport at the end joins this with ``transport.py``, which reads the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar

from amqp import spec
from amqp.exceptions import UnexpectedFrame
from kombu.transport import pyamqp

from consumer.bus.transport import BufferedTCP, BufferedTLS, Frame

Signature = tuple[int, int]
Callback = Callable[[int, Signature, bytes, "Incoming | None"], None]

# The types of frames (AMQP 0-9-1, 4.2.3).
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_SIGNATURE = struct.Struct(">HH")
_BODY_SIZE = struct.Struct(">4xQ")
_DELIVER, _GET_OK, _RETURN = spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return
_WITH_CONTENT = frozenset({_DELIVER, _GET_OK, _RETURN})


class Incoming:
    """One message: its body, and its properties undecoded in ``raw_properties``.

    It replaces the message classes of py-amqp and of kombu, so it has the attributes that either
    of them uses. ``errors`` is one of those; it is always empty.
    """

    __slots__ = (
        "_chunks", "_expects", "_missing", "accept", "arguments", "body", "channel",
        "delivery_info", "raw_properties", "signature",
    )  # fmt: skip
    errors: ClassVar[tuple[()]] = ()

    def __init__(self, signature: Signature, arguments: bytes) -> None:
        self.signature = signature
        self.arguments = arguments
        self._expects = _HEADER
        self.body = self.raw_properties = b""
        self.channel: Any = None
        self.delivery_info: dict[str, Any] = {}
        self._chunks: list[bytes] = []
        self._missing = 0

    @property
    def delivery_tag(self) -> int:
        """Return the tag by which it is acked."""
        return int(self.delivery_info["delivery_tag"])

    def add(self, kind: int, payload: bytes) -> bool:
        """Add the next frame; tell whether the message is complete. Raises UnexpectedFrame."""
        if kind != self._expects:
            raise UnexpectedFrame(f"got a frame of type {kind} instead of {self._expects}")
        if kind == _HEADER:
            self._begin(payload)
        else:
            self._missing -= len(payload)
            self._chunks.append(payload)
        # A body without bytes has no body frame: then the header already completes the message.
        if self._missing > 0:
            return False
        self.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return True

    def _begin(self, payload: bytes) -> None:
        if len(payload) < _BODY_SIZE.size:
            raise UnexpectedFrame("the header frame of a message has no body size")
        (self._missing,) = _BODY_SIZE.unpack_from(payload)
        self.raw_properties = payload[_BODY_SIZE.size :]
        self._expects = _BODY


class RawChannel(pyamqp.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel that does not decode messages."""

    def message_to_python(self, raw_message: Incoming) -> Incoming:
        """Return the message itself; kombu would make one of its own class."""
        return raw_message

    def dispatch_method(
        self, method_sig: Signature, payload: bytes, content: Incoming | None
    ) -> None:
        """Pass a method on, with names that py-amqp can decode."""
        if content is not None:
            # Only methods with content carry names that a sender writes. All others come from the
            # broker itself.
            payload = with_readable_names(method_sig, payload)
        super().dispatch_method(method_sig, payload, content)


def with_readable_names(signature: Signature, arguments: bytes) -> bytes:
    """Return the arguments with ? for each character of exchange and routing key that is no UTF-8.

    The broker accepts any bytes there. A CC header of the sender can route a message to our queue
    with any routing key (RabbitMQ, "Sender-selected Distribution").
    """
    at = _names_begin(signature, arguments)
    # Nearly always, so the common message is not copied.
    if arguments[at:].isascii():
        return arguments
    pieces = [arguments[:at]]
    # AMQP 0-9-1: two short strings, each a byte of length and its text.
    for _ in ("exchange", "routing key"):
        ends = at + 1 + int.from_bytes(arguments[at : at + 1], "big")
        name = _readable(arguments[at + 1 : ends])
        pieces += (bytes([len(name)]), name)
        at = ends
    return b"".join((*pieces, arguments[at:]))


def _names_begin(signature: Signature, arguments: bytes) -> int:
    if signature == _GET_OK:
        return 4 + 8 + 1  # delivery tag, redelivered
    if signature == _RETURN:
        return 7 + int.from_bytes(arguments[6:7], "big")  # code, text
    return 5 + int.from_bytes(arguments[4:5], "big") + 8 + 1  # consumer tag, and the same


def _readable(name: bytes) -> bytes:
    try:
        name.decode()
    except UnicodeDecodeError:
        return name.decode(errors="replace").replace("\ufffd", "?").encode()
    return name


def frame_handler(connection: Any, callback: Callback) -> Callable[[Frame], bool]:
    """Return a handler of frames, as py-amqp's function of this name does.

    The handler returns True when a method, with its message if it has one, is complete; it then
    has called ``callback``. It raises UnexpectedFrame if frames come in a wrong order.
    """
    begun: dict[int, Incoming] = {}

    def on_frame(frame: Frame) -> bool:
        kind, channel, payload = frame
        # py-amqp takes heartbeats for missing unless this number grows; its own handler counts
        # frames too.
        connection.bytes_recv += 1
        if kind == _HEARTBEAT:
            return False
        # By channel: frames of messages of several channels may come between one another (AMQP
        # 0-9-1, 4.2.6).
        message = begun.pop(channel, None)
        if message is None:
            signature = _signature(kind, payload)
            if signature in _WITH_CONTENT:
                begun[channel] = Incoming(signature, payload)
                return False
            callback(channel, signature, payload, None)
            return True
        if not message.add(kind, payload):
            begun[channel] = message
            return False
        callback(channel, message.signature, message.arguments, message)
        return True

    return on_frame


def _signature(kind: int, payload: bytes) -> Signature:
    if kind != _METHOD or len(payload) < _SIGNATURE.size:
        raise UnexpectedFrame(f"got a frame of type {kind} instead of a method")
    signature: Signature = _SIGNATURE.unpack_from(payload)
    return signature


class _Connection(pyamqp.Connection):  # type: ignore[misc]  # kombu has no types
    """Py-amqp's connection with our transports and channels."""

    Channel = RawChannel

    def Transport(  # noqa: N802 - py-amqp's name
        self, host: str, connect_timeout: float, ssl: Any = False, *timeouts: Any, **rest: Any
    ) -> Any:
        """Return a transport that is not connected yet; py-amqp calls this."""
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
        """Read and handle one frame; set the socket's timeout only if one is given."""
        # Setting the timeout of a socket is a system call. A batch sets it once
        # (Subscription._patience).
        if timeout is not None:
            return super().blocking_read(timeout)
        return self.on_inbound_frame(self.transport.read_frame())


class BufferedAmqp(pyamqp.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's pyamqp transport with our connections."""

    Connection = _Connection
