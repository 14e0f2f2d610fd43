"""Messages with properties that no client library writes, on a real broker."""

from __future__ import annotations

import struct
import zlib

from amqp.basic_message import Message

from tests.bus import Peer

HEADERS_FLAG, NOTHING = 0x2000, b"\0\0"
MEBIBYTE = 1024 * 1024


def table(*entries: bytes) -> bytes:
    """Return a table of these entries (AMQP 0-9-1, 4.2.5.5)."""
    content = b"".join(entries)
    return struct.pack(">I", len(content)) + content


def entry(name: bytes, tag: bytes, value: bytes) -> bytes:
    """Return an entry of a table: its name, the tag of its type, and its value."""
    return bytes([len(name)]) + name + tag + value


def text(name: bytes, value: bytes) -> bytes:
    """Return an entry that is a text."""
    return entry(name, b"S", struct.pack(">I", len(value)) + value)


def with_headers(*entries: bytes) -> bytes:
    """Return properties that are headers and nothing else."""
    return struct.pack(">H", HEADERS_FLAG) + table(*entries)


def nested(depth: int) -> bytes:
    """Return a table in a table in a table."""
    inside = table(entry(b"z", b"I", b"\0\0\0\1"))
    for _ in range(depth - 1):
        inside = table(entry(b"a", b"F", inside))
    return inside


def bomb(mebibytes: int = 1024) -> bytes:
    """Return a notification whose compressed form has a thousandth of its size."""
    stream = zlib.compressobj(9)
    pieces = [stream.compress(b'{"event_type":"volume.attach.start","payload":"')]
    pieces += [stream.compress(b"A" * MEBIBYTE) for _ in range(mebibytes)]
    return b"".join((*pieces, stream.compress(b'"}'), stream.flush()))


LATE = with_headers(entry(b"t", b"T", struct.pack(">Q", 2**62)))
"""A time that no datetime can be."""

DEEP = struct.pack(">H", HEADERS_FLAG) + table(entry(b"a", b"F", nested(3000)))
"""About 20 KB of tables, each in the one before."""

GZIP = with_headers(text(b"compression", b"application/x-gzip"))


def publish(
    peer: Peer, body: bytes, properties: bytes, exchange: str, routing_key: bytes | str
) -> None:
    """Publish a body under the very bytes of its properties; confirmed when this returns."""
    message = Message(body)
    message._serialize_properties = lambda: properties
    peer.channel.basic_publish(message, exchange=exchange, routing_key=routing_key)
