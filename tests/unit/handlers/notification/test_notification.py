"""The door as a whole: recorded messages in, their meaning out, nothing secret left."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.notification import (
    Ignored,
    Malformed,
    Notification,
    Phase,
    Source,
    may_concern,
    parse,
)
from tests.recordings import bodies, enveloped, inner, names, recorded
from tests.unit.handlers.judgement.meanings import MEANINGS

EVERY = [(name, i) for name in names() for i in range(len(bodies(name)))]
RELEVANT = [(name, i) for name, i in EVERY if isinstance(parse(bodies(name)[i]), Notification)]
NAMING_A_VOLUME = [(name, i) for name, i in RELEVANT if b"compute.exception" not in bodies(name)[i]]


def meaning(body: bytes) -> str:
    """Write down what was parsed as tests/unit/handlers/judgement/meanings.py does."""
    match parse(body):
        case Notification() as n:
            operation = n.operation.value if n.operation else "-"
            ids = ((i or "-")[:8] for i in (n.volume_id, n.instance_id, n.attachment_id))
            return " ".join((n.event_type, operation, n.phase.value, *ids))
        case Ignored(event_type):
            return f"{event_type} -"
        case Malformed(reason):
            return f"malformed: {reason}"


@pytest.mark.parametrize("name", names())
def test_a_recorded_message_means_what_happened(name: str) -> None:
    """Each recorded message -> its operation and phase, and the ids that it proves, no more."""
    expected = [line.strip() for line in MEANINGS[name].strip().splitlines()]
    assert [meaning(body) for body in bodies(name)] == expected


@pytest.mark.parametrize(("name", "i"), EVERY)
def test_the_filter_lets_through_what_is_used_and_nothing_else(name: str, i: int) -> None:
    """A recorded message -> the filter on its bytes agrees with the parser."""
    body = bodies(name)[i]
    unjoined = inner(body)["event_type"] == "compute.exception"
    assert may_concern(body) == (isinstance(parse(body), Notification) or unjoined)


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("cinder/e_uc5early_put__del.jsonl", 1),
        ("cinder/l_uc5late_put__del.jsonl", 1),
        ("nova-compute/b_hang_60.jsonl", 1),
        ("cinder/error_attaching_new__del.jsonl", 1),
        ("cinder/reserved_new__del.jsonl", 1),
        ("cinder/uc5_put__del.jsonl", 0),
        ("cinder/inuse_new__del.jsonl", 0),
        ("cinder/attaching_new__del.jsonl", 0),
        ("cinder/detaching_new__fd_ca.jsonl", 0),
        ("cinder/m_multiattach__del.jsonl", 0),
        ("nova-compute/o_healthy.jsonl", 0),
        ("nova-compute/f_terminate_raises.jsonl", 0),
    ],
)
def test_only_the_start_of_a_reserved_attachments_detach_by_the_api_is_uc5s_signature(
    name: str, times: int
) -> None:
    """A scenario -> UC5's signature shows where the backend was not asked, and only there."""
    parsed = [parse(body) for body in bodies(name)]
    found = [n for n in parsed if isinstance(n, Notification) and n.released_unasked]
    assert len(found) == times
    assert all((n.event_type, n.phase) == ("volume.detach.start", Phase.START) for n in found)


def test_a_notification_carries_who_where_and_when() -> None:
    """A healthy attach's end -> every field of it, the request id being the one Nova shares."""
    name = "nova-compute/o_healthy.jsonl"
    raw, body = recorded("volume.attach.end", name), bodies(name)[4]
    n = parse(body)
    assert isinstance(n, Notification)
    assert (n.message_id, n.publisher_id, n.source) == (
        "65b0e8ae-83c9-486e-91cf-21997e2c4bb4",
        "volume.labhost",
        Source.CINDER,
    )
    assert n.request_id == raw["_context_global_request_id"]
    assert n.request_id == recorded("instance.volume_attach.start", name)["_context_request_id"]
    assert n.own_request_id == raw["_context_request_id"] != n.request_id
    assert (n.host, n.backend, n.volume_status) == ("compute1", "labhost@lab", "in-use")
    assert (n.project_id, n.user_id) == (raw["payload"]["tenant_id"], raw["payload"]["user_id"])
    assert n.published_at is not None
    assert n.published_at.isoformat() == "2026-11-22T12:46:15.097957+00:00"
    assert n.attachment is not None
    assert n.attachment.connector is not None
    assert n.attachment.connector.initiator == "iqn.1993-08.org.debian:01:compute1"


@pytest.mark.parametrize(("name", "i"), RELEVANT)
def test_the_envelope_makes_no_difference(name: str, i: int) -> None:
    """The same message with and without envelope -> the same meaning, and its own message id."""
    message = {"message_id": "m-1"} | inner(bodies(name)[i])
    bare, wrapped = parse(json.dumps(message).encode()), parse(enveloped(message))
    assert isinstance(bare, Notification)
    assert bare == wrapped
    assert bare.message_id == message["message_id"]


def test_a_message_without_an_id_gets_one_of_its_bytes() -> None:
    """No message_id -> the body's SHA-256, so that the same bytes twice are one message."""
    (body,) = bodies("nova/detach_ok-0-instance.volume_detach.start.json")
    n = parse(body)
    assert isinstance(n, Notification)
    assert n.message_id == f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize(
    ("event_type", "reason", "source"),
    [
        ("volume.delete.start", "is known but not used yet", Source.CINDER),
        ("instance.volume_swap.error", "is known but not used yet", None),
        ("volume.create.end", "does not concern an attachment", Source.CINDER),
        ("volume.force_detach.end", "is an announcement of detachd's own", None),
        ("compute.instance.update", "does not concern an attachment", Source.NOVA_LEGACY),
        ("volume.usage", "does not concern an attachment", None),
        ("image.create", "does not concern an attachment", None),
    ],
)
def test_an_unrelated_event_is_ignored_with_its_reason(
    event_type: str, reason: str, source: Source | None
) -> None:
    """An event of another kind -> Ignored, saying why, with its publisher where it shows."""
    body = enveloped({"event_type": event_type, "publisher_id": "p", "payload": {}})
    assert parse(body) == Ignored(event_type, f"{event_type} {reason}", source)
    assert not may_concern(body)


@pytest.mark.parametrize(
    ("payload", "source"),
    [
        ({"nova_object.name": "X"}, Source.NOVA_VERSIONED),
        ({"exception": "e", "args": {}}, Source.NOVA_LEGACY),
        ({"exception": "e"}, None),
        (None, None),
    ],
)
def test_an_ignored_message_is_recognised_by_its_payload(
    payload: object, source: Source | None
) -> None:
    """Another of Nova's events -> Nova's format is told by the payload's shape."""
    parsed = parse(enveloped({"event_type": "pre_live_migration", "payload": payload}))
    assert isinstance(parsed, Ignored)
    assert parsed.source is source


def holders(message: dict[str, Any], volume_id: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every place of the payload, rows left out, that holds the volume's id."""
    stack: list[dict[str, Any]] = [message["payload"]]
    while stack:
        place = stack.pop()
        for key, value in place.items():
            if isinstance(value, dict):
                stack.append(value)
            elif value == volume_id:
                yield place, key


CONTROL = st.characters(max_codepoint=31)
UNFIT_IDS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just("")
    | st.text(st.characters(codec="ascii"), min_size=256, max_size=300)
    | st.tuples(st.text("abc"), CONTROL, st.text("abc")).map("".join)
    | st.lists(st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text("id", max_size=2), st.text(max_size=3), max_size=2)
)
"""What is no id of a volume: of another type, empty, too long, or with a control character."""


@given(UNFIT_IDS)
@example("x" * 256)
@example("a\0b")
@example("a\nb")
@example(True)
@settings(max_examples=30)
def test_an_attachments_event_without_a_fit_volume_id_is_malformed(bad: object) -> None:
    """The volume id of any recorded event is unfit -> Malformed, naming event and field."""
    for name, i in NAMING_A_VOLUME:
        original = parse(bodies(name)[i])
        assert isinstance(original, Notification)
        assert original.volume_id is not None
        message = copy.deepcopy(inner(bodies(name)[i]))
        for place, key in holders(message, original.volume_id):
            place[key] = bad
        parsed = parse(enveloped(message))
        assert isinstance(parsed, Malformed), (name, i)
        assert (parsed.event_type, parsed.source) == (original.event_type, original.source)
        assert parsed.reason.startswith(f"{original.event_type}: ")
        assert "volume_id" in parsed.reason


@pytest.mark.parametrize("payload", [None, [], "text", 1])
@pytest.mark.parametrize(
    "event_type", ["volume.attach.start", "attach_volume", "compute.exception"]
)
def test_an_attachments_event_without_a_payload_is_malformed(
    event_type: str, payload: object
) -> None:
    """The payload is not an object -> Malformed."""
    message = {"event_type": event_type, "publisher_id": "p", "payload": payload}
    assert parse(enveloped(message)) == Malformed(
        f"{event_type}: payload is not an object",
        event_type,
        Source.CINDER
        if event_type.startswith("volume.")
        else {"attach_volume": Source.NOVA_LEGACY}.get(event_type, Source.NOVA_VERSIONED),
    )


def test_without_a_publisher_uc5s_signature_could_not_be_told_so_it_is_malformed() -> None:
    """An attachment's event that does not say who published it -> Malformed."""
    message = recorded("volume.detach.start", "cinder/reserved_new__del.jsonl")
    del message["publisher_id"]
    parsed = parse(enveloped(message))
    assert isinstance(parsed, Malformed)
    assert "publisher_id" in parsed.reason


def test_a_attachment_that_cannot_be_read_is_not_left_out() -> None:
    """One of two rows has no id -> Malformed: without it the other would look like the only one."""
    message = recorded("volume.attach.start", "cinder/m_multiattach__del.jsonl", which=1)
    message["payload"]["volume_attachment"][0]["id"] = None
    parsed = parse(enveloped(message))
    assert isinstance(parsed, Malformed)
    assert "payload.volume_attachment[0].id" in parsed.reason
