"""What subscribers are told: every event meets the published schema, and nothing else gets in."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import jsonschema
import pytest

from handlers.announcement import PRIORITIES, Details, Event, announce, schema
from handlers.case import Announcement, Priority, StepKind, Trigger, UseCase, VerifiedBy
from handlers.judgement.diagnosis import condemn, diagnose, rule_ids
from handlers.judgement.evidence import Absent, Evidence, Unknown
from handlers.judgement.rule import Diagnosis, Verdict
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import UC1, UC5
from tests.unit.handlers.judgement.ghost_pictures import GHOSTS
from tests.unit.handlers.judgement.pictures import NOW, OPENED_AT, A, Picture, connector
from tests.unit.handlers.judgement.situations import ACTING_AND_HEALTHY
from tests.unit.handlers.judgement.situations_of_others import NOT_FOR_US

VALIDATOR = jsonschema.Draft202012Validator(schema())
CINDERS_KEYS = {
    "volume_id", "tenant_id", "user_id", "display_name", "size", "volume_type",
    "availability_zone", "host", "status",
}  # fmt: skip


def details(event: Event, verified_by: VerifiedBy | None = None) -> Details:
    """Return what an announcement says beside case and diagnosis."""
    return Details(event, NOW, ("cinder.reserve", "backend.force_detach"), "why", verified_by)


def announced(picture: Picture, event: Event = Event.END) -> Announcement:
    """Announce one picture."""
    return announce(picture.case, picture.diagnosis, details(event, VerifiedBy.PROBE))


def test_the_schema_itself_is_valid() -> None:
    """The published schema -> a valid schema of its draft."""
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_event_of_every_situation_meets_the_schema() -> None:
    """Any situation, any event -> valid after a journey through JSON."""
    for words, picture, _ in (*ACTING_AND_HEALTHY, *NOT_FOR_US, *GHOSTS):
        for event in Event:
            payload = json.loads(json.dumps(announced(picture, event).payload))
            problems = [error.message for error in VALIDATOR.iter_errors(payload)]
            assert problems == [], (words, event)
            assert payload.keys() > CINDERS_KEYS, (words, event)


@pytest.mark.parametrize(
    "diagnosis",
    [
        diagnose(UC1.case, Evidence(Unknown("Cinder: no answer"))),
        diagnose(UC1.case, Evidence(Absent("no such volume"))),
        condemn(UC1.but(crashes=3).case),
    ],
    ids=["Cinder unknown", "volume gone", "crashes"],
)
def test_without_a_volume_the_event_still_meets_the_schema(diagnosis: Diagnosis) -> None:
    """Cinder showed no volume -> what the case knows, valid."""
    payload = announce(UC1.case, diagnosis, details(Event.PARKED)).payload
    VALIDATOR.validate(payload)
    assert (payload["volume_id"], payload["host"]) == ("volume-1", "storage-1@tgt")
    assert payload["status"] is None


def test_a_key_that_nobody_published_is_refused_by_the_schema() -> None:
    """One key more, or one less -> invalid: so the tests above mean something."""
    payload = dict(announced(UC5).payload)
    assert VALIDATOR.is_valid(payload)
    assert not VALIDATOR.is_valid(payload | {"connection_info": {}})
    for key in set(schema()["required"]):
        assert not VALIDATOR.is_valid({k: v for k, v in payload.items() if k != key})


def test_the_schema_knows_each_value_of_the_code_s_closed_sets() -> None:
    """Steps, verdicts, use cases, triggers ... -> the schema's enums are exactly the code's."""
    properties = schema()["properties"]
    enums = {
        "steps": StepKind, "verdict": Verdict, "use_case": UseCase, "trigger": Trigger,
        "verified_by": VerifiedBy, "operation": Operation,
    }  # fmt: skip
    for key, kinds in enums.items():
        allowed = properties[key].get("items", properties[key])["enum"]
        assert {value for value in allowed if value is not None} == {kind.value for kind in kinds}
    rules = (*rule_ids(), "internal-error", "ledger-away")  # the worker's, for errors of our own
    assert all(VALIDATOR.is_valid({**announced(UC5).payload, "rule": r}) for r in rules)


def test_what_is_said_is_about_this_attachment() -> None:
    """A leak -> case, rule, attachment, host, steps, duration and request ids as they are."""
    payload = announced(UC5.but(trigger=Trigger.RELEASED_UNASKED, attempts=3)).payload
    expected = {
        "force_detach": True, "case_id": "case-1", "cloud": "test", "operation": "attach",
        "use_case": "UC5", "verdict": "terminate", "rule": "UC5.leaked", "reason": "why",
        "attachment_id": A, "instance_uuid": "instance-x", "attached_host": "compute-1",
        "verified_by": "probe", "steps": ["cinder.reserve", "backend.force_detach"],
        "attempts": 3, "duration_seconds": 1200.0, "trigger": "released-unasked",
        "request_ids": ["req-1"],
    }  # fmt: skip
    assert {key: payload[key] for key in expected} == expected


def test_the_volume_is_told_in_cinder_s_own_keys() -> None:
    """Owner, size, type ... -> under the names that Cinder's notifications have."""
    picture = UC5
    volume = dataclasses.replace(
        picture.volume, project_id="p", user_id="u", display_name="d", size_gib=3,
        volume_type_id="t", availability_zone="z",
    )  # fmt: skip
    situation = dataclasses.replace(picture.situation, volume=volume)
    diagnosis = dataclasses.replace(picture.diagnosis, situation=situation)
    payload = announce(picture.case, diagnosis, details(Event.START)).payload
    expected = {
        "tenant_id": "p", "user_id": "u", "display_name": "d", "size": 3, "volume_type": "t",
        "availability_zone": "z", "host": "storage-1@tgt", "status": "available",
    }  # fmt: skip
    assert {key: payload[key] for key in expected} == expected


def test_the_attachment_is_the_attachment_s_where_the_case_knows_none() -> None:
    """Nova's messages carried no row -> the one that was found."""
    assert announced(UC1.but(attachment_id=None)).payload["attachment_id"] == A


def test_an_attachment_without_a_recorded_connector_is_told_by_its_host() -> None:
    """No connector was ever seen -> the compute host that the messages named."""
    assert announced(UC5.but(known=())).payload["attached_host"] == "compute-1"


def test_the_event_type_and_priority_are_the_event_s() -> None:
    """Start, end and a person's closing are news; error and parked are errors."""
    for event in Event:
        made = announced(UC5, event)
        assert made.event_type == f"volume.force_detach.{event.name.lower()}"
        news = event in (Event.START, Event.END, Event.DISMISSED)
        assert made.priority is (Priority.INFO if news else Priority.ERROR)
    assert set(PRIORITIES) == set(Event)


def test_a_clock_that_went_back_makes_no_negative_duration() -> None:
    """The database's clock was set back -> a duration of zero, still valid."""
    early = dataclasses.replace(details(Event.END), now=OPENED_AT - timedelta(seconds=5))
    payload = announce(UC5.case, UC5.diagnosis, early).payload
    VALIDATOR.validate(payload)
    assert payload["duration_seconds"] == 0


def test_nothing_of_the_connector_but_its_host_is_told() -> None:
    """The connector names the host to the storage -> subscribers get the host's name only."""
    picture = UC5.but(connector=connector("compute-1"))
    assert "iqn." not in json.dumps(announced(picture).payload)
