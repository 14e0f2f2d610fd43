"""Frames out of what the broker sends, in whatever pieces it comes."""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import UnexpectedFrame
from hypothesis import given
from hypothesis import strategies as st

from consumer.bus.transport import BufferedTCP, BufferedTLS, Frame, FrameReader
from tests.certificates import authority

FRAMES = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 8]), st.integers(0, 65535), st.binary(max_size=300)),
    min_size=1,
    max_size=8,
)


def wire(frames: list[Frame]) -> bytes:
    """Write frames as the broker does (AMQP 0-9-1, 2.3.5)."""
    return b"".join(
        struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"
        for kind, channel, payload in frames
    )


@st.composite
def pieces(draw: st.DrawFn) -> tuple[list[Frame], list[bytes]]:
    """Cut the bytes of some frames anywhere; an empty piece is a time-out there."""
    frames = draw(FRAMES)
    data = wire(frames)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=20)))
    edges = zip([0, *cuts], [*cuts, len(data)], strict=True)
    return frames, [data[begin:end] for begin, end in edges]


def receiving(parts: list[bytes]) -> Callable[[int], bytes]:
    """Return these one by one, a time-out for an empty one, then the end of the connection."""
    left = iter(parts)

    def receive(most: int) -> bytes:
        part = next(left, None)
        if part is None:
            return b""
        if not part:
            raise TimeoutError
        assert len(part) <= most
        return part

    return receive


def read_on(read: Callable[[], Frame]) -> Frame:
    """Read a frame, however many time-outs come before it."""
    while True:
        try:
            return read()
        except TimeoutError:
            continue


@given(pieces())
def test_any_cutting_gives_the_same_frames(cut: tuple[list[Frame], list[bytes]]) -> None:
    """Frames in any pieces, time-outs at any byte -> the frames, in order, then the end."""
    frames, parts = cut
    reader = FrameReader(receiving(parts))
    assert [read_on(reader.read) for _ in frames] == frames
    with pytest.raises(OSError, match="closed the connection"):
        read_on(reader.read)


@given(pieces(), st.binary(min_size=1, max_size=1).filter(lambda end: end != b"\xce"))
def test_frame_that_does_not_end_is_an_error(
    cut: tuple[list[Frame], list[bytes]], end: bytes
) -> None:
    """A frame whose last byte is another -> refused, as py-amqp does, nothing made up."""
    frames, _ = cut
    spoilt = wire(frames)[:-1] + end
    reader = FrameReader(receiving([spoilt]))
    assert [reader.read() for _ in frames[:-1]] == frames[:-1]
    with pytest.raises(UnexpectedFrame, match="0xce"):
        reader.read()


def pair(transport: Any) -> socket.socket:
    """Connect a transport to the returned socket, past the resolving and the connecting."""
    near, far = socket.socketpair()
    transport.sock = near
    transport._setup_transport()
    transport.connected = True
    return far


@pytest.fixture
def transport() -> Iterator[BufferedTCP]:
    """Give a plain transport that is not connected yet."""
    made = BufferedTCP("localhost:5672", read_timeout=15, write_timeout=15)
    yield made
    made.close()


FRAME = (3, 1, b"x" * 200_000)


def test_socket_with_a_timeout(transport: BufferedTCP) -> None:
    """Half a frame, then nothing in time -> TimeoutError, still connected; the rest -> the frame.

    Larger than what one read brings, so that many reads make one frame.
    """
    data = wire([FRAME, (8, 0, b"")])
    with pair(transport) as far:
        sending = threading.Thread(target=far.sendall, args=(data[:150_000],))
        sending.start()
        with pytest.raises(TimeoutError), transport.having_timeout(0.2):
            transport.read_frame()
        sending.join()
        assert transport.connected
        sending = threading.Thread(target=far.sendall, args=(data[150_000:],))
        sending.start()
        assert transport.read_frame() == FRAME
        assert transport.read_frame() == (8, 0, b"")
        sending.join()


def test_socket_whose_kernel_says_that_time_is_up(transport: BufferedTCP) -> None:
    """SO_RCVTIMEO over in the middle of a frame -> TimeoutError too, nothing lost.

    That is how py-amqp bounds the wait for an answer. Its own transport goes on reading then, and
    would never notice a broker that hangs in the middle of a frame.
    """
    data = wire([(1, 1, b"answer")])
    with pair(transport) as far:
        assert transport.sock is not None
        soon = struct.pack("ll", 0, 50_000)
        transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, soon)
        far.sendall(data[:9])
        with pytest.raises(TimeoutError):
            transport.read_frame()
        far.sendall(data[9:])
        assert transport.read_frame() == (1, 1, b"answer")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EINTR, errno.ENOENT])
def test_errors_that_are_none(transport: BufferedTCP, number: int) -> None:
    """The kernel, a signal or TLS says: again -> TimeoutError, still connected."""
    with pair(transport):

        def again(most: int) -> bytes:
            raise OSError(number, "again")

        transport._frames = FrameReader(again)
        with pytest.raises(TimeoutError):
            transport.read_frame()
        assert transport.connected


def test_connection_that_is_lost(transport: BufferedTCP) -> None:
    """The other side closes in the middle of a frame -> an error, and no longer connected."""
    with pair(transport) as far:
        far.sendall(wire([FRAME])[:100])
    with pytest.raises(OSError, match="closed the connection"):
        transport.read_frame()
    assert not transport.connected


def test_tls_socket(tmp_path: Path) -> None:
    """The same over TLS, a time-out within a record's frame -> nothing lost, nothing stuck.

    What TLS has decrypted and not handed over is not seen by the kernel any more.
    """
    ca = authority(tmp_path)
    shown = ca.issue("broker", "DNS:localhost")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(shown.certificate, shown.key)
    verified = {
        "ca_certs": str(ca.certificate),
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "localhost",
    }
    transport = BufferedTLS("localhost", connect_timeout=5, ssl=verified, read_timeout=7)
    data = wire([(1, 1, b"a"), FRAME, (8, 0, b"")])
    near, far = socket.socketpair()
    goes_on, ends = threading.Event(), threading.Event()

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as end:
            end.sendall(data[:120_000])
            goes_on.wait(60)
            end.sendall(data[120_000:])
            ends.wait(60)

    serving = threading.Thread(target=serve)
    serving.start()
    transport.sock = near
    transport._setup_transport()
    assert transport.sock.gettimeout() == 7
    assert transport.read_frame() == (1, 1, b"a")
    with pytest.raises(TimeoutError), transport.having_timeout(0.2):
        transport.read_frame()
    goes_on.set()
    assert [transport.read_frame(), transport.read_frame()] == [FRAME, (8, 0, b"")]
    ends.set()
    serving.join(60)
    transport.sock.close()
