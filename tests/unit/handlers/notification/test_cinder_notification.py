"""Which row a Cinder notification proves, and what it says of backend, host and connector."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from drivers.base import Connector
from handlers.case import CaseState
from handlers.correlation.correlation import Recorded, correlate
from handlers.correlation.matching import Timing
from handlers.notification import Malformed, Notification, Phase, Source, parse
from tests.recordings import enveloped

NOW = datetime(2026, 1, 1, tzinfo=UTC)
API, BACKEND = "volume.api1", "volume.vol1@lvm"


def attachment(spec: str) -> dict[str, Any]:
    """Make a row of ``id:status`` or ``id:status:instance``."""
    attachment_id, status, *instance = spec.split(":")
    return {
        "id": attachment_id,
        "attach_status": status,
        "instance_uuid": instance[0] if instance else None,
        "attached_host": None,
        "connector": None,
    }


def read(event_type: str, publisher_id: str, *attachments: Any, **payload: Any) -> Notification:
    """Parse a notification with these rows."""
    shown = [attachment(r) if isinstance(r, str) else r for r in attachments]
    payload = {"volume_id": "v1", "volume_attachment": shown} | payload
    message = {"event_type": event_type, "publisher_id": publisher_id, "payload": payload}
    n = parse(enveloped(message))
    assert isinstance(n, Notification), n
    return n


@pytest.mark.parametrize(
    ("event", "publisher_id", "attachments", "proven"),
    [
        ("attach.start", BACKEND, ["a:reserved"], "a"),
        ("attach.start", BACKEND, ["a:attaching"], "a"),
        ("attach.start", BACKEND, ["a:error_attaching"], "a"),
        ("attach.start", BACKEND, ["a:attached", "b:reserved"], "b"),
        ("attach.start", BACKEND, ["a:attached", "b:attached", "c:attaching"], "c"),
        ("attach.start", BACKEND, ["a:reserved", "b:reserved"], None),
        ("attach.start", BACKEND, ["a:attaching", "b:reserved", "c:attached"], None),
        # os-attach makes its row later, and a late call's own row may be gone.
        ("attach.start", BACKEND, ["a:attached"], None),
        ("attach.start", BACKEND, [], None),
        ("attach.end", API, ["a:attached"], "a"),
        ("attach.end", BACKEND, ["a:attached"], "a"),
        ("attach.end", API, ["a:attaching"], None),
        ("attach.end", BACKEND, ["a:attaching"], "a"),
        ("attach.end", API, ["a:attached", "b:attached"], None),
        ("attach.end", API, ["a:attached", "b:reserved"], None),
        ("attach.end", API, [], None),
        ("detach.start", BACKEND, ["a:attached"], "a"),
        ("detach.start", BACKEND, ["a:reserved"], "a"),
        ("detach.start", BACKEND, ["a:attaching"], "a"),
        ("detach.start", BACKEND, ["a:attached", "b:attached"], None),
        # os-force_detach of either comes from the backend's host.
        ("detach.start", BACKEND, ["a:attached", "b:reserved"], None),
        ("detach.start", BACKEND, ["a:attached", "b:attaching"], None),
        ("detach.start", API, ["a:reserved"], "a"),
        ("detach.start", API, ["a:attached", "b:reserved"], "b"),
        ("detach.start", API, ["a:reserved", "b:reserved"], None),
        ("detach.start", API, ["a:attached", "b:attached"], None),
        ("detach.start", API, [], None),
        ("detach.end", API, ["a:attached"], None),
        ("detach.end", API, [], None),
        ("detach.end", BACKEND, ["a:attached"], None),
    ],
)
def test_an_attachment_is_named_only_where_one_attachment_can_be_meant(
    event: str, publisher_id: str, attachments: list[str], proven: str | None
) -> None:
    """Rows of which one alone fits the event -> that one; several or none -> no attachment."""
    n = read(f"volume.{event}", publisher_id, *attachments)
    assert n.attachment_id == proven
    assert [r.attachment_id for r in n.attachments] == [r.split(":")[0] for r in attachments]
    assert (n.attachment.attachment_id if n.attachment else None) == proven


@pytest.mark.parametrize(
    ("event", "publisher_id", "attachments", "instance_id"),
    [
        ("attach.start", BACKEND, ["a:attached:i1", "b:reserved:i2"], "i2"),
        ("attach.start", BACKEND, ["a:reserved:i1", "b:reserved:i1"], "i1"),
        ("attach.start", BACKEND, ["a:reserved:i1", "b:reserved:i2"], None),
        ("attach.start", BACKEND, ["a:reserved:i1", "b:reserved"], None),
        ("attach.start", BACKEND, ["a:attached:i1"], None),
        ("attach.start", BACKEND, [], None),
        ("attach.end", API, ["a:attached:i1", "b:attached:i1"], "i1"),
        ("attach.end", API, ["a:attached:i1", "b:attached:i2"], None),
        ("detach.start", BACKEND, ["a:attached:i1", "b:attached:i1"], "i1"),
        ("detach.start", BACKEND, ["a:attached:i1", "b:attached:i2"], None),
        ("detach.end", API, ["a:attached:i1"], None),
    ],
)
def test_an_instance_is_named_only_where_no_other_can_be_meant(
    event: str, publisher_id: str, attachments: list[str], instance_id: str | None
) -> None:
    """No proven row, but all rows of one instance -> that one; rows that remain -> none."""
    assert read(f"volume.{event}", publisher_id, *attachments).instance_id == instance_id


@pytest.mark.parametrize(
    ("publisher_id", "attachments", "phase"),
    [
        (BACKEND, ["a:attaching"], Phase.START),
        (BACKEND, ["a:attached", "b:attaching"], Phase.START),
        (BACKEND, ["a:attached"], Phase.END),
        (BACKEND, ["a:attached", "b:reserved"], Phase.END),
        (BACKEND, [], Phase.END),
        (API, ["a:attached", "b:attaching"], Phase.END),
    ],
)
def test_an_end_beside_a_row_still_attaching_is_no_end(
    publisher_id: str, attachments: list[str], phase: Phase
) -> None:
    """Queens and Rocky end an attach before Nova has the disk -> it goes on; later ones end it."""
    assert read("volume.attach.end", publisher_id, *attachments).phase is phase


def test_an_early_end_does_not_close_its_attach() -> None:
    """Rocky: start, early end, and Nova goes silent -> the case still waits for its deadline."""
    start = read("volume.attach.start", BACKEND, "a:reserved:i1")
    early = read("volume.attach.end", BACKEND, "a:attaching:i1")
    changes = correlate(
        Recorded("cloud", (), frozenset(), (), {}),
        [start, early],
        timing=Timing(),
        now=NOW,
        new_id=lambda: "case-1",
    )
    (case,) = changes.opened
    assert case.state is CaseState.WAITING
    assert not case.end_seen
    assert case.attachment_id == "a"


@pytest.mark.parametrize(
    ("event", "publisher_id", "attachments", "signature"),
    [
        ("detach.start", API, ["a:reserved"], True),
        ("detach.start", API, ["a:attached", "b:reserved"], True),
        ("detach.start", API, ["a:reserved", "b:reserved"], False),
        ("detach.start", API, ["a:attaching"], False),
        ("detach.start", BACKEND, ["a:reserved"], False),
        ("detach.end", API, ["a:reserved"], False),
        ("attach.start", API, ["a:reserved"], False),
    ],
)
def test_released_unasked_needs_the_api_host_and_a_reserved_attachment(
    event: str, publisher_id: str, attachments: list[str], signature: bool
) -> None:
    """Only a proven reserved row that the API host starts to detach -> UC5's signature."""
    n = read(f"volume.{event}", publisher_id, *attachments)
    assert n.released_unasked is signature
    assert not dataclasses.replace(n, phase=Phase.END).released_unasked
    assert not dataclasses.replace(n, source=Source.NOVA_LEGACY).released_unasked


@pytest.mark.parametrize(
    ("payload", "nested", "backend"),
    [
        ({"host": "labhost@lab#pool"}, None, "labhost@lab"),
        ({"host": "labhost@lab"}, "other@x", "labhost@lab"),
        ({"host": None}, "labhost@lab#pool", "labhost@lab"),
        ({}, "labhost@lab#pool", "labhost@lab"),
        ({"host": "#"}, None, None),
        ({"host": 7}, None, None),
        ({}, None, None),
    ],
)
def test_the_backend_is_cinders_host_without_its_pool(
    payload: dict[str, Any], nested: str | None, backend: str | None
) -> None:
    """Cinder's host of the volume, else of a row's nested volume -> host@backend."""
    shown = attachment("a:attached") | {"volume": {"host": nested}}
    assert read("volume.detach.start", BACKEND, shown, **payload).backend == backend


CONNECTOR = {"host": "compute1", "initiator": "iqn.x", "ip": "10.0.0.1", "multipath": False}


@pytest.mark.parametrize(
    ("text", "connector"),
    [
        (json.dumps(CONNECTOR), Connector.from_mapping(CONNECTOR)),
        (json.dumps(CONNECTOR | {"auth_password": "x"}), Connector.from_mapping(CONNECTOR)),
        (json.dumps(CONNECTOR | {"ip": "\0"}), None),
        (json.dumps(CONNECTOR | {"ip": "x" * 20_000}), None),
        (json.dumps([CONNECTOR]), None),
        ("{}", None),
        ("{", None),
        ("NaN", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_a_attachment_keeps_the_connector_that_can_be_read(
    text: object, connector: Connector | None
) -> None:
    """Connector text as Cinder stores it -> the connector; anything else -> none, and no error."""
    (seen,) = read(
        "volume.attach.end", API, attachment("a:attached") | {"connector": text}
    ).attachments
    assert seen.connector == connector


@pytest.mark.parametrize(
    ("attached_host", "connector", "host"),
    [
        ("compute1", None, "compute1"),
        ("compute1", '{"host": "compute2"}', "compute1"),
        (None, '{"host": "compute2"}', "compute2"),
        (None, None, None),
        (7, None, None),
    ],
)
def test_the_host_is_the_proven_attachments(
    attached_host: object, connector: str | None, host: str | None
) -> None:
    """The row says its host, or its connector does -> the host; no proven row -> none."""
    shown = attachment("a:attached") | {"attached_host": attached_host, "connector": connector}
    assert read("volume.attach.end", API, shown).host == host
    assert read("volume.detach.end", API, shown).host is None


@pytest.mark.parametrize(
    ("attachments", "where"),
    [
        ("attachments", "payload.volume_attachment is not a list"),
        ([[]], "payload.volume_attachment[0] is not an object"),
        ([attachment("a:attached"), 1], "payload.volume_attachment[1] is not an object"),
        (
            [attachment("a:attached") | {"attach_status": None}],
            "payload.volume_attachment[0].attach_st",
        ),
        ([attachment("a:attached") | {"id": "x" * 256}], "payload.volume_attachment[0].id"),
        ([{}], "payload.volume_attachment[0].id"),
    ],
)
def test_attachments_that_cannot_be_read_make_the_message_malformed(
    attachments: object, where: str
) -> None:
    """A row of the wrong shape -> Malformed, naming the place."""
    payload = {"volume_id": "v1", "volume_attachment": attachments}
    message = {"event_type": "volume.detach.end", "publisher_id": API, "payload": payload}
    parsed = parse(enveloped(message))
    assert isinstance(parsed, Malformed)
    assert where in parsed.reason


@pytest.mark.parametrize(
    "payload", [{"volume_id": "v1"}, {"volume_id": "v1", "volume_attachment": None}]
)
def test_no_attachments_at_all_is_an_answer(payload: dict[str, Any]) -> None:
    """The rows are missing or null -> a notification that shows none."""
    message = {"event_type": "volume.detach.end", "publisher_id": API, "payload": payload}
    parsed = parse(enveloped(message))
    assert isinstance(parsed, Notification)
    assert parsed.attachments == ()


def test_ids_that_are_not_fit_are_left_out() -> None:
    """An instance, project, status or request id of the wrong type -> unknown, message kept."""
    shown = attachment("a:attached") | {"instance_uuid": 7}
    n = read("volume.attach.end", API, shown, tenant_id=[], status="x\0", user_id="u" * 256)
    assert (n.attachment_id, n.instance_id) == ("a", None)
    assert (n.project_id, n.user_id, n.volume_status, n.request_id) == (None, None, None, None)
