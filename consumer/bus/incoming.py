"""Messages out of the broker's frames, without a look at what their senders wrote in them.

Py-amqp decodes properties, names and headers while it puts a message together, and what it fails on
there takes the connection with it, before anybody can put the message aside. So here they stay
bytes: ``properties.py`` reads them when they are asked for. Kombu would inflate a compressed body
without a bound: here a body stays as it came.

What kombu calls a transport is at the end: py-amqp's connections, on our reading of them. Bytes
come in large pieces (``transport.py``), messages as they are.
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

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_SIGNATURE = struct.Struct(">HH")
_BODY_SIZE = struct.Struct(">4xQ")
_DELIVER, _GET_OK, _RETURN = spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return
_WITH_CONTENT = frozenset({_DELIVER, _GET_OK, _RETURN})


class Incoming:
    """One message as it came: its body, and in ``raw_properties`` what is said of it.

    It takes the place of py-amqp's and of kombu's message, each of which sets or asks for some of
    this. ``errors`` is what kombu found wrong with it, which does not look.
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
        """Return what it is acked by."""
        return int(self.delivery_info["delivery_tag"])

    def add(self, kind: int, payload: bytes) -> bool:
        """Take its next frame; tell whether it is whole. Raises UnexpectedFrame."""
        if kind != self._expects:
            raise UnexpectedFrame(f"a frame of type {kind} came instead of {self._expects}")
        if kind == _HEADER:
            self._begin(payload)
        else:
            self._missing -= len(payload)
            self._chunks.append(payload)
        if self._missing > 0:
            return False
        self.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return True

    def _begin(self, payload: bytes) -> None:
        if len(payload) < _BODY_SIZE.size:
            raise UnexpectedFrame("the header of a message says nothing of its body's size")
        (self._missing,) = _BODY_SIZE.unpack_from(payload)
        self.raw_properties = payload[_BODY_SIZE.size :]
        self._expects = _BODY


class RawChannel(pyamqp.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel whose messages stay as they came."""

    def message_to_python(self, raw_message: Incoming) -> Incoming:
        """Return the message itself; kombu asks for one of its own."""
        return raw_message

    def dispatch_method(
        self, method_sig: Signature, payload: bytes, content: Incoming | None
    ) -> None:
        """Hand on what the broker says; py-amqp decodes the arguments, and fails on odd names."""
        if content is not None:
            payload = with_readable_names(method_sig, payload)
        super().dispatch_method(method_sig, payload, content)


def with_readable_names(signature: Signature, arguments: bytes) -> bytes:
    """Return the arguments with a ? for what is not UTF-8 in the exchange and the routing key.

    The broker does not look into either, and a sender's CC header brings us a message whatever its
    routing key is (RabbitMQ, "Sender-selected Distribution").
    """
    at = _names_begin(signature, arguments)
    if arguments[at:].isascii():
        return arguments
    pieces = [arguments[:at]]
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
    """Return what py-amqp's own of that name does: tells of each frame whether something is whole.

    ``callback`` is called with each method and, where it has one, its message. Raises
    UnexpectedFrame where the broker keeps no order.
    """
    begun: dict[int, Incoming] = {}

    def on_frame(frame: Frame) -> bool:
        kind, channel, payload = frame
        connection.bytes_recv += 1
        if kind == _HEARTBEAT:
            return False
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
        raise UnexpectedFrame(f"a frame of type {kind} came that is no method")
    signature: Signature = _SIGNATURE.unpack_from(payload)
    return signature


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
