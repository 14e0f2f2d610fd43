"""Parses a message's properties, those that detachd uses, from the bytes of its header. Pure.

Py-amqp decodes all properties before detachd sees the message. It fails on values that any sender
may write: a time after the year 9999, text that is not UTF-8, nested tables. The broker then
redelivers the same message first, for ever. Here a value that is not used is skipped by its length
(AMQP 0-9-1, 4.2.5 and 4.2.6, with RabbitMQ's types). So no bytes are an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS = 0x8000, 0x4000, 0x2000
_MESSAGE_ID, _USER_ID, _MORE_FLAGS = 0x0080, 0x0010, 0x0001
_SHORT, _LONG = -1, -4
_FIELDS: tuple[tuple[int, int], ...] = (
    (_CONTENT_TYPE, _SHORT),
    (_CONTENT_ENCODING, _SHORT),
    (_HEADERS, _LONG),
    (0x1000, 1),  # delivery_mode
    (0x0800, 1),  # priority
    (0x0400, _SHORT),  # correlation_id
    (0x0200, _SHORT),  # reply_to
    (0x0100, _SHORT),  # expiration
    (_MESSAGE_ID, _SHORT),
    (0x0040, 8),  # timestamp
    (0x0020, _SHORT),  # type
    (_USER_ID, _SHORT),
)
"""The flag and size of each property, in their order, up to the last that we use."""

_TEXT = b"S"
_WITH_LENGTH = frozenset(b"SxAF")
_SIZES: Mapping[int, int] = {
    ord(tag): size
    for tags, size in (("V", 0), ("tbB", 1), ("sUu", 2), ("Iif", 4), ("D", 5), ("LldT", 8))
    for tag in tags
}


@dataclasses.dataclass(frozen=True, slots=True)
class Properties:
    """The properties of a message; None if one is not set or not UTF-8.

    In ``headers`` a value that is not text is None. ``problem``: what could not be parsed. The
    fields before that place are set.
    """

    content_type: str | None
    content_encoding: str | None
    message_id: str | None
    user_id: str | None
    headers: Mapping[str, str | None]
    problem: str | None = None


class _UnreadableError(Exception):
    """Nothing after this place can be parsed."""


class _Bytes:
    """Bytes with a position up to which they are read."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """Tell whether bytes are left."""
        return self._at < len(self._data)

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        ends = self._at + count
        if ends > len(self._data):
            raise _UnreadableError("its properties are incomplete")
        piece, self._at = self._data[self._at : ends], ends
        return piece

    def number(self, size: int) -> int:
        """Return the next ``size`` bytes as an unsigned number."""
        return int.from_bytes(self.read(size), "big")


def parse_properties(data: bytes) -> Properties:
    """Parse the part of a content header after the body size. Never raises; linear time."""
    fields: dict[int, bytes] = {}
    headers: dict[str, str | None] = {}
    problem = None
    try:
        _read_fields(_Bytes(data), fields)
        # After all fields: a table that cannot be read costs the headers alone, and not the message
        # id.
        _read_headers(_Bytes(fields.get(_HEADERS, b"")), headers)
    except _UnreadableError as error:
        problem = str(error)
    used = (_CONTENT_TYPE, _CONTENT_ENCODING, _MESSAGE_ID, _USER_ID)
    texts = {flag: _utf8(fields[flag]) for flag in used if flag in fields}
    if problem is None and None in texts.values():
        problem = "a text in its properties is not UTF-8"
    return Properties(
        content_type=texts.get(_CONTENT_TYPE),
        content_encoding=texts.get(_CONTENT_ENCODING),
        message_id=texts.get(_MESSAGE_ID),
        user_id=texts.get(_USER_ID),
        headers=headers,
        problem=problem,
    )


def _read_fields(data: _Bytes, fields: dict[int, bytes]) -> None:
    flags = more = data.number(2)
    # A sender may set the bit in every word of flags: each word is read once, so this is linear
    # too.
    while more & _MORE_FLAGS:
        more = data.number(2)  # flags of properties that AMQP 0-9-1 does not define
    for flag, size in _FIELDS:
        if flags & flag:
            fields[flag] = data.read(data.number(-size) if size < 0 else size)


def _read_headers(table: _Bytes, headers: dict[str, str | None]) -> None:
    while table.left:
        name = _utf8(table.read(table.number(1)))
        value = _text(table)
        if name is not None:
            headers[name] = value


def _text(table: _Bytes) -> str | None:
    """Read the next value; return it if it is text, else None."""
    tag = table.read(1)
    # Tables and arrays are skipped by their length, not walked: 3,000 nested ones end a parser that
    # recurses.
    if tag[0] in _WITH_LENGTH:
        value = table.read(table.number(4))
        return _utf8(value) if tag == _TEXT else None
    size = _SIZES.get(tag[0])
    if size is None:
        raise _UnreadableError("a value in its headers has a type that AMQP 0-9-1 does not define")
    table.read(size)
    return None


def _utf8(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None
