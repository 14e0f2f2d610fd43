"""Reading from the broker in large pieces: py-amqp's transports, but for how they read.

Py-amqp asks the kernel nine times for each message: for the head, the payload and the end of its
three frames. Here one question brings what the kernel has, and frames are cut out of that. Nothing
of a frame is taken before the whole of it has come, so that a timeout at any byte loses nothing.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_handler
from amqp.transport import SSLTransport, TCPTransport
from kombu.transport import pyamqp

RECEIVE_BYTES = 64 * 1024

_HEAD = struct.Struct(">BHI")
_END = 0xCE
_CONTENT_HEADER_FRAME = 2
_HEADER_FIXED_BYTES = 12
_TRY_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOENT})
"""What a read says whose time is up: SO_RCVTIMEO the first two, TLS the last (its WANT_READ)."""

Frame = tuple[int, int, bytes]
"""Type, channel and payload (AMQP 0-9-1, 2.3.5)."""


class FrameReader:
    """Cuts frames out of what ``receive`` returns, in whatever pieces that comes."""

    __slots__ = ("_at", "_data", "_receive")

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._data = b""
        self._at = 0

    def read(self) -> Frame:
        """Return the next frame; blocks as ``receive`` does.

        May be called again after whatever ``receive`` raised: what had come is kept. Raises
        UnexpectedFrame where no frame ends, and OSError when the other side has closed.
        """
        data, begins = self._data, self._at + _HEAD.size
        if begins > len(data):
            self._need(_HEAD.size)
            data, begins = self._data, _HEAD.size
        kind, channel, size = _HEAD.unpack_from(data, self._at)
        ends = begins + size
        if ends >= len(data):
            self._need(_HEAD.size + size + 1)
            data, begins, ends = self._data, _HEAD.size, _HEAD.size + size
        if data[ends] != _END:
            raise UnexpectedFrame(f"a frame ends with {data[ends]:#04x} instead of {_END:#04x}")
        self._at = ends + 1
        return kind, channel, data[begins:ends]

    def _need(self, count: int) -> None:
        """Receive until so many bytes are there, which then begin at 0."""
        pieces = [self._data[self._at :]]
        missing = count - len(pieces[0])
        try:
            while missing > 0:
                piece = self._receive(RECEIVE_BYTES)
                if not piece:
                    raise OSError("the broker closed the connection")
                pieces.append(piece)
                missing -= len(piece)
        finally:
            self._data, self._at = b"".join(pieces), 0


class _Buffered:
    """What both transports do differently; for one thread, as py-amqp's are."""

    _frames: FrameReader
    connected: bool

    def read_frame(self) -> Frame:
        """Return the next frame. Raises TimeoutError, and OSError when the connection is lost."""
        try:
            return self._frames.read()
        except TimeoutError:
            raise
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                raise TimeoutError("the broker sent nothing in time") from error
            self.connected = False
            raise


class BufferedTCP(_Buffered, TCPTransport):  # type: ignore[misc]  # py-amqp has no types
    """A plain connection."""

    def _setup_transport(self) -> None:
        super()._setup_transport()
        self._frames = FrameReader(self.sock.recv)


class BufferedTLS(_Buffered, SSLTransport):  # type: ignore[misc]  # py-amqp has no types
    """A TLS connection."""

    def _setup_transport(self) -> None:
        super()._setup_transport()
        # SO_RCVTIMEO does not end a read of Python's ssl module, which tries again; a timeout of
        # its own does. Py-amqp leaves that of connecting, which is too short for an answer.
        self.sock.settimeout(self.read_timeout)
        self._frames = FrameReader(self.sock.recv)


class _Connection(pyamqp.Connection):  # type: ignore[misc]  # kombu has no types
    """Py-amqp's connection, on these transports."""

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


def lenient_frame_handler(connection: Any, callback: Callable[..., None]) -> Callable[..., bool]:
    """Let a message through whose properties py-amqp cannot decode, without its properties.

    py-amqp raises out of the middle of the message (a ``content_type`` that is not UTF-8 is
    enough) and the connection is of no use any more; the broker redelivers the message first, so
    that one message would stop the listener for good. The body is what we want, and it is whole.
    """
    handle = frame_handler(connection, callback)

    def handle_leniently(frame: tuple[int, int, Any]) -> bool:
        try:
            return bool(handle(frame))
        except (UnicodeDecodeError, struct.error, IndexError):
            kind, channel, content = frame
            if kind != _CONTENT_HEADER_FRAME:
                raise
            bare = bytes(content[:_HEADER_FIXED_BYTES]) + b"\x00\x00"
            return bool(handle((kind, channel, bare)))

    return handle_leniently
