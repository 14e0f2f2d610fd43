"""What a body on the replay queue asks for, and who is written down for it: pure."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.bus.subscription import Delivery
from consumer.intake.replay_queue import (
    ACTOR,
    REPLAY_REASON,
    CaseOrder,
    Order,
    Refused,
    UnreadableInputError,
    body_of,
    order_of,
    read_input,
    replay_of,
    split_documents,
    unwrap,
)
from consumer.ledger import Replay
from handlers.notification import Notification
from tests.recorded import FAILED_ATTACH, HEALTHY, recording

CASE = "0b7f9a52-2ad5-4f30-8bb4-6e0b8a1c2d3e"


def body(**fields: Any) -> bytes:
    """Return a JSON object as a body."""
    return json.dumps(fields).encode()


def test_order_for_a_case() -> None:
    """A case, an actor and a reason -> that order, and what is written is read again."""
    order = CaseOrder(CASE, "alice", "the array is back")
    assert order_of(body(case=CASE, actor="alice", reason="the array is back")) == order
    assert order_of(body_of(order)) == order
    assert order_of(body(case=CASE)) == CaseOrder(CASE, None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"case": None},
        {"case": 7},
        {"case": ""},
        {"case": "x" * 37},
        {"case": "a\nb"},
        {"case": {"id": CASE}},
        {"case": CASE, "actor": 7},
        {"case": CASE, "reason": ["why"]},
    ],
    ids=str,
)
def test_broken_order(fields: dict[str, Any]) -> None:
    """An order whose parts are not what they have to be -> refused, in words."""
    order = order_of(body(**fields))
    assert isinstance(order, Refused)
    assert '"' in order.reason
    assert not order.irrelevant


def test_notification_in_its_envelope_or_bare_or_recorded() -> None:
    """One notification in all three forms -> the same notification."""
    message = recording(HEALTHY)[3]
    bare = json.dumps(message.message).encode()
    record = body(exchange="cinder", routing_key="notifications.info", body=message.body.decode())
    read_all = [order_of(form) for form in (message.body, bare, record)]
    assert isinstance(read_all[0], Notification)
    assert {n.message_id for n in read_all if isinstance(n, Notification)} == {message.message_id}


def test_notification_with_a_case_of_its_own() -> None:
    """A notification that has a key "case" -> a notification all the same."""
    message = recording(HEALTHY)[3].message | {"case": CASE}
    assert isinstance(order_of(json.dumps(message).encode()), Notification)


@pytest.mark.parametrize(
    ("text", "irrelevant", "reason"),
    [
        pytest.param(b"\xff\x00", False, "not JSON", id="bytes"),
        pytest.param(b"", False, "not JSON", id="nothing"),
        pytest.param(b"[1]", False, "not an object", id="no object"),
        pytest.param(b'{"event_type": "volume.attach.start"}', False, "payload", id="no payload"),
        pytest.param(recording(FAILED_ATTACH)[0].body, True, "volume.create", id="of no concern"),
    ],
)
def test_neither(text: bytes, irrelevant: bool, reason: str) -> None:
    """What is neither -> refused with the reason; apart from what is sound and of no concern."""
    order = order_of(text)
    assert isinstance(order, Refused)
    assert order.irrelevant is irrelevant
    assert reason in order.reason


@given(
    st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["case", "body", "event_type", "oslo.message", "actor"])
                    | st.text(),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_never_raises(text: bytes) -> None:
    """Any bytes, any JSON -> an order, a notification or a refusal."""
    assert isinstance(order_of(text), CaseOrder | Notification | Refused)


# -- who, and why ----------------------------------------------------------------------------------


def kept(order: Order, **changes: Any) -> Replay:
    """Return what is kept of one delivery."""
    facts: dict[str, Any] = {
        "body": b"{}", "exchange": "", "routing_key": "detachd.replay",
        "content_type": "application/json", "content_encoding": "utf-8",
    }  # fmt: skip
    return replay_of(Delivery(**facts | changes), order, "replay:1", maybe_repeated=False)


NOBODY = CaseOrder(CASE, None, None)


@pytest.mark.parametrize(
    ("order", "delivery", "who_and_why"),
    [
        pytest.param(
            CaseOrder(CASE, "alice", "why"),
            {"headers": {ACTOR: "bob", REPLAY_REASON: "no"}, "user_id": "nova"},
            ("alice", "why"),
            id="said in the order",
        ),
        pytest.param(
            NOBODY,
            {"headers": {ACTOR: "bob", REPLAY_REASON: "because"}, "user_id": "nova"},
            ("bob", "because"),
            id="said in the headers",
        ),
        pytest.param(NOBODY, {"user_id": "nova"}, ("nova", "no reason given"), id="broker's user"),
        pytest.param(NOBODY, {}, ("unknown", "no reason given"), id="said nowhere"),
        pytest.param(
            CaseOrder(CASE, "", "\n"),
            {"headers": {ACTOR: 7, REPLAY_REASON: b"x"}},
            ("unknown", "no reason given"),
            id="said nothing",
        ),
    ],
)
def test_who_and_why(
    order: CaseOrder, delivery: dict[str, Any], who_and_why: tuple[str, str]
) -> None:
    """Where the order says who and why -> that; else the headers, else the broker's user."""
    replay = kept(order, **delivery)
    assert (replay.actor, replay.reason) == who_and_why


def test_what_is_kept_is_short_and_without_secrets() -> None:
    """A long actor, a reason with a password -> cut to what the ledger takes, and scrubbed."""
    replay = kept(CaseOrder(CASE, "a" * 1000, "auth_password=swordfish " + "x" * 1000))
    assert len(replay.actor) == 255
    assert len(replay.reason) <= 500
    assert "swordfish" not in replay.reason


def test_bus_is_where_it_came_from_first() -> None:
    """Out of quarantine, with the bus in its headers -> that bus; else the replay queue."""
    assert kept(NOBODY, headers={"x-detachd-bus": "cell1"}).bus == "cell1"
    assert kept(NOBODY).bus == "replay"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(b'{"a": 1}\n', b'{"a": 1}\n', id="one line -> one document"),
        pytest.param(b'{\n "a": 1\n}', b'{\n "a": 1\n}', id="over several lines -> one document"),
        pytest.param(b"{\n broken", b"{\n broken", id="broken over several -> one document"),
        pytest.param(b'{"a": 1}\n\n{"b": 2}\n', [b'{"a": 1}', b'{"b": 2}'], id="two -> a list"),
        pytest.param(b'{"a": 1}\nnonsense', [b'{"a": 1}', b"nonsense"], id="one broken -> a list"),
        pytest.param(b"\n \n", [], id="blank -> nothing"),
    ],
)
def test_split(text: bytes, found: object) -> None:
    """A text -> one document, or one a line."""
    assert split_documents(text) == found


@pytest.mark.parametrize(
    ("document", "body"),
    [
        pytest.param(b'{"routing_key": "x", "body": "{}"}', b"{}", id="text in a record"),
        pytest.param(b'{"body": {"a": 1}}', b'{"a":1}', id="object in a record"),
        pytest.param(b'{"event_type": "e", "body": "x"}', None, id="a message with a body"),
        pytest.param(b'{"a": 1}', None, id="no record"),
        pytest.param(b"[1]", None, id="no object"),
        pytest.param(b"\xff\x00", None, id="no JSON"),
    ],
)
def test_unwrap(document: bytes, body: bytes | None) -> None:
    """A record of a delivery -> the body in it; anything else -> itself."""
    assert unwrap(document) == (document if body is None else body)


def test_read_a_file(tmp_path: Path) -> None:
    """A file -> its bytes; one that is not there -> said so, and what to do."""
    path = tmp_path / "messages"
    path.write_bytes(b"\xff{}")
    assert read_input(str(path)) == b"\xff{}"
    with pytest.raises(UnreadableInputError, match=r"No such file.*or - for standard input"):
        read_input(str(tmp_path / "no"))


def test_read_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """- -> what comes in on standard input."""
    text = json.dumps({"a": 1}).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    assert read_input("-") == text
