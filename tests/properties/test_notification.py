"""Whatever the bytes, the door answers; and what it lets in is fit to be stored and shown."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from handlers.notification import (
    Ignored,
    Malformed,
    Notification,
    Operation,
    Phase,
    may_concern,
    parse,
)
from handlers.notification.event_type import EVENT_TYPES
from tests.recordings import bodies, enveloped, inner, names

RECORDED = [body for name in names() for body in bodies(name) if may_concern(body)]
MESSAGES = [inner(body) for body in RECORDED]
CANARY = "canary-5ecret"

texts = st.text(max_size=300) | st.sampled_from(["", "\0", "a\0b", "\ud800", "x" * 256, "attached"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([10**400, float("nan"), float("inf"), 1e308])
    | st.floats()
    | texts
)
values = st.recursive(
    scalars,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(texts, inside, max_size=4),
    max_leaves=12,
)
json_styles = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\n"), (",\n", "\t: ")]),
        "indent": st.sampled_from([None, 0, 2]),
    }
)


def written(message: object, style: dict[str, Any], *, wrap: bool) -> bytes:
    """Return the message as a body; a style that JSON cannot carry as UTF-8 is mended."""
    text = json.dumps(message, **style)
    outer = json.dumps({"oslo.version": "2.0", "oslo.message": text}, **style) if wrap else text
    return outer.encode(errors="surrogatepass")


def check(body: bytes) -> None:
    """Parse the body and check all that holds for whatever comes out."""
    parsed = parse(body)
    match parsed:
        case Notification():
            check_notification(parsed)
            assert may_concern(body)
        case Ignored(event_type, reason):
            assert event_type is not None
            assert reason
        case Malformed(reason):
            assert reason
            assert reason.isprintable()
    assert parse(body) == parsed


def check_notification(n: Notification) -> None:
    """Check that the ledger can store it and that it claims no more than it shows."""
    meaning = EVENT_TYPES[n.event_type]
    assert (n.source, n.operation, n.phase) == (meaning.source, meaning.operation, meaning.phase)
    assert (n.volume_id is None) == (n.operation is None) == (n.event_type == "compute.exception")
    ids = (
        n.message_id, n.publisher_id, n.volume_id, n.instance_id, n.attachment_id, n.request_id,
        n.own_request_id, n.host, n.backend, n.volume_status, n.project_id, n.user_id,
    )  # fmt: skip
    of_attachments = [
        i for r in n.attachments for i in (r.attachment_id, r.status, r.instance_id, r.host)
    ]
    assert all(
        i is None or (0 < len(i) <= 255 and i.isprintable()) for i in (*ids, *of_attachments)
    )
    assert n.fault is None or (0 < len(n.fault) <= 500 and n.fault.isprintable())
    assert n.published_at is None or n.published_at.tzinfo is not None
    if n.attachments:
        assert n.attachment_id in {
            None,
            *(attachment.attachment_id for attachment in n.attachments),
        }
    if n.released_unasked:
        assert (n.operation, n.phase) == (Operation.DETACH, Phase.START)
        assert "@" not in n.publisher_id
    assert not any("\0" in r.connector.to_json() for r in n.attachments if r.connector)


@given(st.binary(max_size=2000))
@example(b"")
@example(b"{" * 100_000)
@example(b'{"a":' * 5000)
@example(b'{"oslo.version":"2.0","oslo.message":"' + b"[" * 5000 + b'"}')
@example(b'{"event_type":"volume.attach.start","payload":' + b"9" * 5000 + b"}")
@example(b'{"event_type":"volume.attach.start","payload":' + b"[" * 900 + b"]" * 900 + b"}")
def test_any_bytes(body: bytes) -> None:
    """Random bytes -> an answer, never an exception."""
    check(body)


@given(values, values, st.sampled_from(sorted(EVENT_TYPES)), json_styles)
def test_any_json(message: object, payload: object, event_type: str, style: dict[str, Any]) -> None:
    """Random JSON as body, within the envelope, and as payload of our events -> an answer."""
    ours = {"event_type": event_type, "publisher_id": "volume.x", "payload": payload}
    for body in (message, ours, {"oslo.version": message, "oslo.message": payload}):
        check(written(body, style, wrap=False))
        check(written(body, style, wrap=True))


@given(st.data())
def test_a_recorded_message_with_bytes_damaged(data: st.DataObject) -> None:
    """A real body with bytes changed, left out, put in or cut off -> an answer."""
    body = bytearray(data.draw(st.sampled_from(RECORDED)))
    for _ in range(data.draw(st.integers(1, 6))):
        at, new = data.draw(st.integers(0, len(body))), data.draw(st.binary(max_size=4))
        body[at : at + data.draw(st.integers(0, 3))] = new
    check(bytes(body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return container and key of everything within, at every depth."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found: list[tuple[Any, Any]] = []
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_recorded_message_with_wrong_types(data: st.DataObject) -> None:
    """A real message with anything anywhere, or anything left out -> an answer."""
    message = copy.deepcopy(data.draw(st.sampled_from(MESSAGES)))
    for _ in range(data.draw(st.integers(1, 4))):
        container, key = data.draw(st.sampled_from(places(message)))
        if isinstance(container, dict) and data.draw(st.booleans()):
            container.pop(key, None)
        elif isinstance(container, dict) or key < len(container):
            container[key] = data.draw(values)
    check(written(message, data.draw(json_styles), wrap=data.draw(st.booleans())))


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_every_single_value_of_the_wrong_type(event_type: str) -> None:
    """Each place of a real message of this type, one by one, of each wrong type -> an answer."""
    original = next((m for m in MESSAGES if m["event_type"] == event_type), None)
    if original is None:
        original = next(m for m in MESSAGES if m["event_type"] == "attach_volume")
        original = original | {"event_type": event_type}
    message = copy.deepcopy(original)
    for container, key in places(message):
        right = container[key]
        for wrong in (None, 7, "", "\0", [], {}, ["x"], {"a": "b"}, True, "x" * 300):
            container[key] = wrong
            check(orjson.dumps(message))
        container[key] = right
    assert message == original


# --- the filter -----------------------------------------------------------------------------------

keys_of_payload = st.sampled_from(["event_type", "oslo.message", "a", '"event_type"', "\\", "é\n"])
noise = st.recursive(
    st.sampled_from(["event_type", "volume.create.end", '"event_type": "x"', "\\", "ü"])
    | st.integers(-(2**60), 2**60),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(keys_of_payload, inside, max_size=3)
    ),
    max_leaves=8,
)


@given(st.data(), st.sampled_from(sorted(EVENT_TYPES)), noise, json_styles, st.booleans())
def test_the_filter_loses_no_message_of_ours(
    data: st.DataObject, event_type: str, payload: object, style: dict[str, Any], wrap: bool
) -> None:
    """One of our events, its keys in any order, its JSON in any style -> let through."""
    message = {"message_id": "m", "event_type": event_type, "payload": payload, "_context_a": None}
    shuffled = dict(data.draw(st.permutations(list(message.items()))))
    assert may_concern(written(shuffled, style, wrap=wrap))
    assert may_concern(
        orjson.dumps({"oslo.version": "2.0", "oslo.message": orjson.dumps(shuffled).decode()})
    )


@given(
    st.from_regex(r"[a-z_]{1,10}(\.[a-z_]{1,10}){0,3}", fullmatch=True).filter(
        lambda name: name not in EVENT_TYPES
    ),
    st.dictionaries(st.sampled_from(["a", "key", "value"]), st.sampled_from(sorted(EVENT_TYPES))),
    json_styles,
    st.booleans(),
)
def test_the_filter_stops_other_messages(
    event_type: str, payload: dict[str, str], style: dict[str, Any], wrap: bool
) -> None:
    """An event of another kind, whatever its payload says -> stopped."""
    message = {"event_type": event_type, "publisher_id": "p", "payload": payload}
    assert not may_concern(written(message, style, wrap=wrap))


@given(st.sampled_from(RECORDED))
def test_what_the_filter_stops_the_parser_would_not_use(body: bytes) -> None:
    """A real message as another kind of event -> stopped, and the parser agrees."""
    message = inner(body) | {"event_type": "volume.update.end"}
    stopped = enveloped(message)
    assert not may_concern(stopped)
    assert isinstance(parse(stopped), Ignored)


# --- secrets --------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from([m for m in MESSAGES if m["event_type"] != "compute.exception"]))
def test_a_secret_under_a_name_that_we_do_not_know_is_dropped(
    data: st.DataObject, message: dict[str, Any]
) -> None:
    """A new key with a secret anywhere in a real message -> it does not get past the door."""
    message = copy.deepcopy(message)
    objects = [message, *(c[k] for c, k in places(message) if isinstance(c[k], dict))]
    name = data.draw(st.sampled_from(["auth_password", "provider_auth", "user_data", "novel_key"]))
    data.draw(st.sampled_from(objects))[name] = CANARY
    parsed = parse(enveloped(message))
    assert isinstance(parsed, Notification)
    assert CANARY not in repr(parsed)
