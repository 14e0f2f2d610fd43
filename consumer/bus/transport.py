"""py-amqp's transports with another way of reading: in large pieces.

Py-amqp makes nine system calls for each message: for the head, the payload and the end of three
frames. Here one call reads what the kernel has, and frames are cut out of that. A frame is consumed
only when it is complete, so that a timeout at any byte loses nothing.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from amqp.exceptions import UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport

RECEIVE_BYTES = 64 * 1024

_HEAD = struct.Struct(">BHI")
_END = 0xCE
_TRY_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOENT})
"""The errors of a read that timed out: the first two with SO_RCVTIMEO, the last with TLS."""

Frame = tuple[int, int, bytes]
"""Type, channel and payload (AMQP 0-9-1, 2.3.5)."""


class FrameReader:
    """Cuts frames out of the bytes that ``receive`` returns."""

    __slots__ = ("_at", "_data", "_receive")

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._data = b""
        self._at = 0

    def read(self) -> Frame:
        """Return the next frame; blocks as ``receive`` does.

        May be called again after ``receive`` raised: the bytes received so far are kept. Raises
        UnexpectedFrame if a frame has no end mark, and OSError if the other side has closed.
        """
        data, begins = self._data, self._at + _HEAD.size
        if begins > len(data):
            self._need(_HEAD.size)
            data, begins = self._data, _HEAD.size
        kind, channel, size = _HEAD.unpack_from(data, self._at)
        ends = begins + size
        # Not ">": the end mark is one byte behind the payload.
        if ends >= len(data):
            self._need(_HEAD.size + size + 1)
            data, begins, ends = self._data, _HEAD.size, _HEAD.size + size
        if data[ends] != _END:
            raise UnexpectedFrame(f"a frame ends with {data[ends]:#04x} instead of {_END:#04x}")
        self._at = ends + 1
        return kind, channel, data[begins:ends]

    def _need(self, count: int) -> None:
        """Receive until ``count`` bytes are available, from position 0 on."""
        # What was consumed is dropped here alone, so each byte is copied once for a piece and not
        # once for a frame.
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
    """What both transports change. For one thread, as py-amqp's transports are."""

    _frames: FrameReader
    connected: bool

    def read_frame(self) -> Frame:
        """Return the next frame. Raises TimeoutError, and OSError when the connection is lost."""
        try:
            return self._frames.read()
        # First, as it is an OSError too. The connection is good: the next read goes on with the
        # same frame.
        except TimeoutError:
            raise
        except OSError as error:
            if error.errno in _TRY_AGAIN:
                raise TimeoutError("the broker did not answer in time") from error
            # py-amqp does not talk to a transport that is not connected, for example when it
            # closes.
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
        # SO_RCVTIMEO does not end a read of Python's ssl module, which tries again; the socket's
        # own timeout does. Py-amqp leaves the one for connecting, which is too short here.
        self.sock.settimeout(self.read_timeout)
        self._frames = FrameReader(self.sock.recv)
