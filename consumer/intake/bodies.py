"""Message bodies in a file: one document, or one a line; bare, or as records of deliveries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson


class UnreadableInputError(Exception):
    """The notifications cannot be read; name a file that can, or - for standard input."""


def read(file: str) -> bytes:
    """Return what is in the file, "-" being standard input. Raises UnreadableInputError."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fix = "name a file that can be read, or - for standard input"
        raise UnreadableInputError(f"cannot read {file}: {error.strerror}; {fix}") from error


def split(text: bytes) -> bytes | Sequence[bytes]:
    """Return the text where it is one document, else its lines, blank ones left out."""
    lines = [line for line in text.splitlines() if line.strip()]
    return text if lines and _is_one_document(text, lines) else lines


def _is_one_document(text: bytes, lines: Sequence[bytes]) -> bool:
    # A lone brace opens a message written over several lines, even if one of them is broken.
    if len(lines) == 1 or lines[0].strip() == b"{":
        return True
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def unwrap(document: bytes) -> bytes:
    """Return the body that a record of a delivery holds, or the document itself.

    A record is an object with a ``body``, beside whatever else was written down of the delivery.
    """
    try:
        record = orjson.loads(document)
        if not isinstance(record, dict) or "body" not in record or "event_type" in record:
            return document
        body = record["body"]
        return body.encode() if isinstance(body, str) else orjson.dumps(body)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, UnicodeEncodeError):
        return document
