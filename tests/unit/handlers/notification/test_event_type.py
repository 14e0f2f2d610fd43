"""The filter on raw bytes, and the table of event types."""

from __future__ import annotations

import json

import pytest

from handlers.notification.event_type import EVENT_TYPES, may_concern
from tests.recordings import enveloped


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_every_event_type_of_the_table_passes_the_filter(event_type: str) -> None:
    """A message of ours, in either envelope and however its JSON is spaced -> let through."""
    message = {"publisher_id": "p", "event_type": event_type, "payload": {}}
    for options in (
        {},
        {"separators": (",", ":")},
        {"separators": (" ,\n", "\t:\n ")},
        {"indent": 1},
    ):
        assert may_concern(json.dumps(message, **options).encode())
        assert may_concern(enveloped(message, **options))


@pytest.mark.parametrize(
    "event_type",
    [
        "volume.create.end",
        "volume.unmanage.start",
        "volume.attach",
        "volume.attach.start.x",
        "xvolume.attach.start",
        "compute.instance.update",
        "instance.update",
        "instance.volume_swap.start",
        "volume.force_detach.end",
        "pre_live_migration",
        "",
    ],
)
def test_other_traffic_does_not_pass_the_filter(event_type: str) -> None:
    """A message of another kind -> stopped, though its payload speaks of our event types."""
    payload = {"key": "event_type", "value": "volume.attach.start", "name": "volume.detach.end"}
    message = {"event_type": event_type, "payload": payload}
    for options in ({}, {"separators": (",", ":")}, {"separators": (" ,\n", "\t:\n ")}):
        assert not may_concern(json.dumps(message, **options).encode())
        assert not may_concern(enveloped(message, **options))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"{}",
        b'{"payload": {"key": "event_type"}}',
        b'{"event_type": null}',
        b'{"event_type": 7}',
        b'{"event_type"',
        b'{"event_type": "volume.cre',
        rb'{"event_type": "volume\u002eattach.start"}',
        rb'{"oslo.message": "{\"event_type\": \"volume\\u002eattach.start\"}"}',
        '{"event_type": "volume.create.end"}'.encode("utf-16"),
    ],
)
def test_what_shows_no_plain_event_type_is_left_to_the_parser(body: bytes) -> None:
    """No event_type, or one that is not plain text -> let through: it may be for quarantine."""
    assert may_concern(body)


def test_our_event_type_is_found_behind_another() -> None:
    """An event_type of the payload that comes first -> the message's own one still counts."""
    message = {"payload": {"event_type": "volume.create.end"}, "event_type": "volume.attach.start"}
    assert may_concern(json.dumps(message).encode())
    assert may_concern(enveloped(message))
