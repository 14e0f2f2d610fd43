"""An approval over arbitrary evidence: it serves what was shown, and no change of it."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from handlers.judgement.approval import fingerprint
from handlers.judgement.evidence import Evidence, Fact
from handlers.judgement.plan import make_plan
from handlers.recovery.summary import summarise
from tests.properties.evidences import FACTS, capabilities, pictures
from tests.unit.handlers.judgement.pictures import SEEING, Picture

WORDS = ("reason", "control", "unknown", "absent")
"""What a summary has in words, which may differ at each look at the same."""


def shown(picture: Picture) -> str:
    """Return all that history, and so a person, gets of a look: without order and words."""
    steps = make_plan(picture.diagnosis, SEEING)
    return json.dumps(_plain(summarise(picture.evidence, picture.diagnosis, steps)), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: k if k in WORDS else _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return sorted((_plain(item) for item in value), key=json.dumps)
    return value


def mark(picture: Picture) -> str:
    """Return the fingerprint of a picture's plan."""
    return fingerprint(picture.diagnosis, make_plan(picture.diagnosis, SEEING))


EVIDENCE = sorted(
    {
        "status", "migration", "attachments", "servers", "gone", "unseen", "backend", "computes",
        "holding", "elsewhere", "swapping", "protocol", "service_up",
    }
    & FACTS.keys()
)  # fmt: skip


@given(pictures(), st.sampled_from(EVIDENCE), st.data())
def test_whatever_a_person_is_shown_differently_needs_a_new_approval(
    picture: Picture, name: str, data: st.DataObject
) -> None:
    """One fact is another, and what is shown differs -> another fingerprint."""
    changed = picture.but(**{name: data.draw(FACTS[name])})
    assume(picture.diagnosis.situation is not None)
    assume(shown(changed) != shown(picture))
    assert mark(changed) != mark(picture)


@given(pictures(), capabilities, st.randoms(use_true_random=False))
def test_order_of_the_evidence_needs_no_new_approval(
    picture: Picture, able: Any, random: random.Random
) -> None:
    """Rows, servers, connections, hosts in any order, an older case -> the same fingerprint."""
    diagnosis = picture.diagnosis
    assume(diagnosis.situation is not None)
    assert diagnosis.situation is not None
    steps = make_plan(diagnosis, able)
    s = diagnosis.situation
    rows = dataclasses.replace(s.volume, attachments=_mixed(s.volume.attachments, random))
    backend = s.backend
    if isinstance(backend, Fact):
        connections = _mixed(backend.value.connections, random)
        backend = Fact(dataclasses.replace(backend.value, connections=connections))
    mixed = dataclasses.replace(
        s,
        case=dataclasses.replace(s.case, attempts=99),
        volume=rows,
        servers=dict(_mixed(tuple(s.servers.items()), random)),
        backend=backend,
        elsewhere=_mixed(s.elsewhere, random),
    )
    same = dataclasses.replace(diagnosis, situation=mixed, reason="in other words")
    assert fingerprint(same, steps) == fingerprint(diagnosis, steps)


def _mixed(items: tuple[Any, ...], random: random.Random) -> tuple[Any, ...]:
    return tuple(random.sample(items, len(items)))


def test_evidence_has_no_part_that_nobody_thought_of() -> None:
    """A new field of a look -> this test asks whether a person judges by it."""
    assert {field.name for field in dataclasses.fields(Evidence)} == {
        "volume", "servers", "backend", "ended_on", "deleted_by", "never_built", "computes",
        "connectors", "hosts_known", "holding", "elsewhere", "swapping",
        "protocol", "off",
        "learned", "reach",  # in the step that ends the client
    }  # fmt: skip
