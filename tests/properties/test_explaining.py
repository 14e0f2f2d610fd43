"""What a person reads of arbitrary evidence: all of it, and nothing that nobody saw."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Capabilities
from handlers.judgement.accounting import Party, unexplained
from handlers.judgement.approval import fingerprint
from handlers.judgement.evidence import Blind, Unknown
from handlers.judgement.guards import Guard, Means, guard, objections
from handlers.judgement.parties import parties
from handlers.judgement.plan import make_plan
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import ACTING
from handlers.recovery.explanation import About, Explanation, GuardAnswer, Outlook, explain
from handlers.recovery.summary import Judged, summarise
from tests.properties.evidences import capabilities, moments, pictures, policies
from tests.unit.handlers.judgement.pictures import BLIND, NOW, SEEING, UNSEEN, Picture

NOT_SEEN: dict[str, Blind | Unknown] = {"blind": BLIND, "unknown": UNSEEN}
CLAIMS = re.compile(
    r"(has|have|had) (a|no|another|an) (live )?(connection|session|access)|has access|no access"
    r"|\blets? \S+ ?\S* in\b|\blet in\b|\b(is|not|seen) clean\b|no (connection|session)"
    r"|live session|probe proves|connection is left|still has|host that is let in",
    re.IGNORECASE,
)
"""What only a look at the backend could say."""
HERE = About()


def explained(
    picture: Picture,
    policy: BackendPolicy,
    able: Capabilities = SEEING,
    now: datetime = NOW,
    about: About = HERE,
) -> Explanation:
    """Return what a person reads of the picture, after a journey through JSON as in history."""
    diagnosis, judged = picture.diagnosis, None
    steps = make_plan(diagnosis, able) if diagnosis.verdict in ACTING else ()
    if diagnosis.situation is not None and steps:
        mark = fingerprint(diagnosis, steps)
        means = Means(able, policy, now, mark)
        judged = Judged(mark, objections(diagnosis.situation, steps, means))
    look = summarise(picture.evidence, diagnosis, steps, judged=judged, asked_at={"cinder": now})
    return explain(json.loads(json.dumps(look)), about)


def texts(told: Explanation) -> Iterator[str]:
    """Yield every text that is told as being so: a guard's sentence only where it stops."""
    yield told.reason
    yield from (fact.sentence for fact in told.facts)
    yield from (f"{party.who} {party.why}" for party in told.parties or ())
    yield from (g.sentence for g in told.guards or () if g.answer is GuardAnswer.STOP)
    yield from (*told.missing, *told.next)
    yield from (answer.text for side in told.sides for answer in side.answers)
    yield from (call.call for call in told.plan)


@pytest.mark.parametrize("answer", NOT_SEEN.values(), ids=NOT_SEEN)
@given(picture=pictures(), policy=policies, able=capabilities, now=moments)
def test_of_a_backend_that_nobody_saw_nothing_is_told(
    answer: Blind | Unknown,
    picture: Picture,
    policy: BackendPolicy,
    able: Capabilities,
    now: datetime,
) -> None:
    """Blind, or no answer -> no text says who is let in, has a session, or that it is clean."""
    able = dataclasses.replace(able, sees_connections=False, sees_hosts=False, sees_sessions=False)
    told = explained(picture.but(backend=answer, hosts_known=False), policy, able, now)
    for text in texts(told):
        assert not CLAIMS.search(text), (told.rule, text)


@given(pictures())
def test_every_party_is_accounted_for_and_the_unexplained_are_the_same(picture: Picture) -> None:
    """Whatever is on the volume -> each party once, and those without a reason as the rules see."""
    s = picture.situation
    found = parties(s)
    left = [Party(party.kind, party.words) for party in found if party.by is None]
    assert sorted(map(repr, left)) == sorted(map(repr, unexplained(s)))
    rows = [party for party in found if party.words.startswith("attachment ")]
    assert len(rows) == len(s.volume.attachments)


@given(pictures(), capabilities, policies, moments)
def test_all_guards_are_asked_and_the_first_decides(
    picture: Picture, able: Capabilities, policy: BackendPolicy, now: datetime
) -> None:
    """Any plan -> the first objection is the one that the service reports, each is told once."""
    steps = make_plan(picture.diagnosis, able)
    means = Means(able, policy, now, fingerprint(picture.diagnosis, steps))
    held = objections(picture.situation, steps, means)
    assert (held[0] if held else None) == guard(picture.situation, steps, means)
    told = explained(picture, policy, able, now)
    assert [g.name for g in told.guards or ()] == [g.name for g in Guard]
    if not steps:
        assert {g.answer for g in told.guards or ()} == {GuardAnswer.NOT_ASKED}
        return
    stops = [g.name for g in told.guards or () if g.answer is GuardAnswer.STOP]
    assert stops == [o.guard.name for o in held]
    assert [g.name for g in told.guards or () if g.decides] == stops[:1]
    assert (told.outlook is Outlook.ACT) == (not held)


@given(picture=pictures(), answer=st.sampled_from(sorted(NOT_SEEN)), policy=policies)
def test_a_guard_that_could_not_see_did_not_pass(
    picture: Picture, answer: str, policy: BackendPolicy
) -> None:
    """The backend was not seen -> no guard that asks of its connections is told to have passed."""
    told = explained(picture.but(backend=NOT_SEEN[answer], hosts_known=False), policy)
    answers = {g.name: g.answer for g in told.guards or ()}
    for name in ("NAMELESS_CONNECTION", "FOREIGN_CONNECTION", "LIVE_SESSION"):
        assert answers[name] is not GuardAnswer.PASS


@given(picture=pictures(), policy=policies)
def test_without_the_ledger_nothing_would_act(picture: Picture, policy: BackendPolicy) -> None:
    """What the bus told and which calls may still act is not known -> never "would act"."""
    told = explained(picture, policy, about=About(ledger_away="it is down"))
    assert told.outlook is not Outlook.ACT
    assert told.missing[0].startswith("the ledger (it is down)")


@given(pictures(), policies)
def test_an_explanation_is_plain_json(picture: Picture, policy: BackendPolicy) -> None:
    """Any look -> values that JSON gives back as they were."""
    made = explained(picture, policy).plain()
    assert json.loads(json.dumps(made)) == json.loads(json.dumps(made, default=str))
