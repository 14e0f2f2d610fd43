"""Both envelopes, and what is not one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from handlers.notification.envelope import BrokenMessageError, Message, identifier, open_envelope
from tests.recordings import enveloped

MESSAGE = {"event_type": "x.y", "publisher_id": "p"}


def test_both_envelopes_are_opened() -> None:
    """messagingv2's envelope and none -> the same message."""
    bare, wrapped = open_envelope(json.dumps(MESSAGE).encode()), open_envelope(enveloped(MESSAGE))
    assert bare.fields == wrapped.fields == MESSAGE
    assert bare.event_type == wrapped.event_type == "x.y"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is not JSON"),
        (b"canary", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"\xef\xbb\xbf{}", "the body is not JSON"),
        (b'{"event_type": "x", "a": NaN}', "the body is not JSON"),
        (rb'{"event_type": "x", "a": "\ud800"}', "the body is not JSON"),
        (b'{"event_type": "x", "a": 1e999}', "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[" * 2000 + b"]" * 2000, "the body is not JSON"),
        (b"[]", "the body is JSON, but not an object"),
        (b'"canary"', "the body is JSON, but not an object"),
        (b"{}", "event_type is not a text of 1 to 255 printable characters"),
        (b'{"event_type": ""}', "event_type is not a text of 1 to 255 printable characters"),
        (b'{"event_type": ["canary"]}', "event_type is not a text"),
        (b'{"event_type": "\\u0000canary"}', "event_type is not a text"),
        (b'{"oslo.message": "{}"}', "the envelope's oslo.version is not 2.x"),
        (b'{"oslo.version": "3.0", "oslo.message": "{}"}', "oslo.version is not 2.x"),
        (b'{"oslo.version": 2.0, "oslo.message": "{}"}', "oslo.version is not 2.x"),
        (b'{"oslo.version": "2.0", "oslo.message": {}}', "oslo.message is not a text"),
        (b'{"oslo.version": "2.0", "oslo.message": null}', "oslo.message is not a text"),
        (b'{"oslo.version": "2.0", "oslo.message": "canary"}', "oslo.message is not JSON"),
        (b'{"oslo.version": "2.0", "oslo.message": "[1]"}', "but not an object"),
        (b'{"oslo.version": "2.0", "oslo.message": "{}"}', "event_type is not a text"),
    ],
)
def test_what_is_no_notification_is_refused_in_words(body: bytes, reason: str) -> None:
    """A body that is no notification -> an error that says why and shows nothing of it."""
    with pytest.raises(BrokenMessageError) as caught:
        open_envelope(body)
    assert reason in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2026-11-22 11:26:50.002172", datetime(2026, 11, 22, 11, 26, 50, 2172, UTC)),
        ("2026-11-22 11:26:50", datetime(2026, 11, 22, 11, 26, 50, 0, UTC)),
        ("2026-11-22T13:26:50+02:00", datetime(2026, 11, 22, 11, 26, 50, 0, UTC)),
        ("0001-01-01T00:00:00+23:00", None),
        ("9999-12-31T23:59:59-23:00", None),
        ("yesterday", None),
        ("", None),
        (1795346810, None),
        (None, None),
    ],
)
def test_the_publishers_clock_is_read_as_utc(timestamp: object, expected: datetime | None) -> None:
    """Naive text -> aware UTC; what is no time -> unknown, and the message is kept."""
    at = Message("x.y", {"timestamp": timestamp}, b"").published_at
    assert at == expected
    assert at is None or at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("own", [None, "", 7, "x" * 256, "a\0b", ["m"]])
def test_an_id_that_cannot_serve_is_made_of_the_body(own: object) -> None:
    """message_id is missing or not fit -> one of the bytes: the same for the same, else another."""
    first, again = Message("x", {"message_id": own}, b"1"), Message("x", {"message_id": own}, b"1")
    other = Message("x", {"message_id": own}, b"2")
    assert first.message_id.startswith("sha256:")
    assert first.message_id == again.message_id != other.message_id


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("v", True),
        ("x" * 255, True),
        ("größe", True),
        ("x" * 256, False),
        ("", False),
        ("a\0", False),
        ("a\x1b[2J", False),
        ("a\nb", False),
        (7, False),
        (None, False),
    ],
)
def test_an_id_is_a_short_printable_text(value: object, fits: bool) -> None:
    """1 to 255 printable characters -> an id; anything else -> none."""
    assert identifier(value) == (value if fits else None)
