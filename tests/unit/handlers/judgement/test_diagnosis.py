"""The decision table: situations in words -> the rule that decides, and near-misses that must not.

The situations are those of the specification's five use cases, of reading Cinder and Nova, and of
some forty faults that were made on purpose on a real Cinder and Nova.
"""

from __future__ import annotations

import re

import pytest

from handlers.case import UseCase
from handlers.judgement.diagnosis import condemn, diagnose, rule_ids
from handlers.judgement.evidence import Absent, Evidence, Unknown
from handlers.judgement.rule import ACTING, Verdict
from handlers.judgement.rules import CRASHES, RULES
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import UC1, UC5
from tests.unit.handlers.judgement.completed_pictures import COMPLETED_ATTACHES
from tests.unit.handlers.judgement.ghost_pictures import GHOSTS
from tests.unit.handlers.judgement.later_strangers import LATER_STRANGERS
from tests.unit.handlers.judgement.left_pictures import LEFT_FOR_A_PERSON
from tests.unit.handlers.judgement.near_misses import BASES, SEES_TO_IT
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    Y,
    connector,
)
from tests.unit.handlers.judgement.situations import ACTING_AND_HEALTHY
from tests.unit.handlers.judgement.situations_of_others import NOT_FOR_US
from tests.unit.handlers.judgement.strangers import STRANGERS
from tests.unit.handlers.judgement.strangers_of_hands import STRANGERS_OF_HANDS, unseen
from tests.unit.handlers.judgement.strangers_of_the_field import STRANGERS_OF_THE_FIELD
from tests.unit.handlers.judgement.writer_pictures import TWO, TWO_WRITERS, WRITERS

WITH_BOTH_SIGHTS = (*STRANGERS_OF_HANDS, *STRANGERS_OF_THE_FIELD)
TABLE = (
    *ACTING_AND_HEALTHY,
    *NOT_FOR_US,
    *LEFT_FOR_A_PERSON,
    *COMPLETED_ATTACHES,
    *GHOSTS,
    *WRITERS,
    *STRANGERS,
    *LATER_STRANGERS,
    *((s.words, s.picture, s.seen) for s in WITH_BOTH_SIGHTS),
    *((f"{s.words}, unseen", unseen(s), s.blind) for s in WITH_BOTH_SIGHTS),
)
NEAR_MISSES = [
    pytest.param(base.but(**change), id=f"{rule}, but {words}")
    for rule, (base, changes) in BASES.items()
    for words, change in (changes | SEES_TO_IT).items()
]


@pytest.mark.parametrize(("picture", "rule"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_the_situation_is_decided_by_its_rule(picture: Picture, rule: str) -> None:
    """A situation -> the one rule that knows it."""
    assert picture.diagnosis.rule == rule


def test_every_rule_decides_at_least_one_situation() -> None:
    """A rule that no situation reaches -> it would be dead, or hidden by one above it."""
    assert {rule.rule_id for rule in RULES} == {rule for _, _, rule in TABLE}


def test_no_two_rules_have_one_id() -> None:
    """A rule id in history -> exactly one rule."""
    assert len(set(rule_ids())) == len(rule_ids()) == len(RULES) + 4


@pytest.mark.parametrize("rule", BASES)
def test_the_base_of_the_near_misses_acts(rule: str) -> None:
    """The whole picture -> its rule acts: so a near-miss is near."""
    diagnosis = BASES[rule][0].diagnosis
    assert diagnosis.rule == rule
    assert diagnosis.verdict in ACTING


@pytest.mark.parametrize("picture", NEAR_MISSES)
def test_one_fact_less_and_nothing_is_done(picture: Picture) -> None:
    """One fact changed -> no verdict that acts."""
    diagnosis = picture.diagnosis
    assert diagnosis.verdict not in ACTING, diagnosis.rule


def test_every_acting_rule_has_near_misses() -> None:
    """A rule that acts -> it has a base and near-misses here."""
    acting = {rule.rule_id for rule in RULES if rule.verdict in ACTING}
    assert acting == {*BASES, "UC2.late-first-try"}


@pytest.mark.parametrize("picture", [p for _, p in TWO_WRITERS], ids=[w for w, _ in TWO_WRITERS])
def test_two_writers_are_told_of_whichever_attachment_a_case_is_about(picture: Picture) -> None:
    """Another case of the same volume, whatever it is about -> the same, for a person."""
    for operation in Operation:
        for about in ({"attachment_id": "another"}, {"attachment_id": None, "instance_id": None}):
            diagnosis = picture.but(operation=operation, **about).diagnosis
            assert (diagnosis.verdict, diagnosis.rule) == (Verdict.PARK, "P15.two-writers")


def test_the_reason_names_both_writers_and_says_how_grave_it_is() -> None:
    """Two writers -> "critical", and both hosts; one that is not known by its initiator name."""
    assert TWO.diagnosis.reason.startswith("critical: ")
    assert f"({H1} and {H2}; " in TWO.diagnosis.reason
    assert connector(H2).initiator in TWO.but(known=(H1,)).diagnosis.reason


def test_the_reason_names_the_servers_and_the_attachments_of_two_writers() -> None:
    """Two rows of two servers, one host each -> all four are named, and so is that there is none.

    A person has to know which guest is the right one, and the announcement is all that some see.
    """
    both = dict(TWO_WRITERS)["two servers' rows on a volume for one"].diagnosis.reason
    rows = f"attachment {A} of server {X}, attachment {B} of server {Y}"
    assert both.endswith(f"({H1} and {H2}; server {X}, server {Y}, {rows})")
    alone = TWO.but(attachments=(), servers=(), attachment_id=None, instance_id=None)
    assert alone.diagnosis.reason.endswith(f"({H1} and {H2}; no record)")


def test_the_reason_names_the_host_that_lost_its_access() -> None:
    """The first of two hosts is not let in any more -> that one is named, the other is not."""
    reason = next(p for _, p, rule in WRITERS if rule == "P8.access-lost").diagnosis.reason
    assert reason.endswith(f"({H1})")


SEEN = re.compile("the backend (has|lets|is clean|does not|and Nova)|has no access|is seen")


@pytest.mark.parametrize("picture", [r[1] for r in TABLE], ids=[r[0] for r in TABLE])
def test_no_reason_claims_what_a_blind_backend_could_not_show(picture: Picture) -> None:
    """The same situation on a backend that cannot be seen -> no reason says what was seen there."""
    for unasked in (False, True):
        blind = picture.but(backend=BLIND, released_unasked=unasked).diagnosis
        assert not SEEN.search(blind.reason), blind.rule


# -- without a situation ---------------------------------------------------------------------------


def test_cinder_does_not_answer_and_nothing_is_known() -> None:
    """Cinder is unknown -> unknown, with Cinder's own words."""
    diagnosis = diagnose(Picture().case, Evidence(Unknown("Cinder: no answer")))
    assert (diagnosis.verdict, diagnosis.rule) == (Verdict.UNKNOWN, "X1.cinder-unknown")
    assert diagnosis.reason == "Cinder: no answer"
    assert diagnosis.situation is None


def test_the_volume_was_deleted() -> None:
    """Cinder says that there is no such volume -> gone."""
    diagnosis = diagnose(Picture().case, Evidence(Absent("no such volume")))
    assert (diagnosis.verdict, diagnosis.rule) == (Verdict.GONE, "G1.volume-gone")


def test_the_reason_names_what_could_not_be_seen() -> None:
    """Nova and the backend do not answer -> both say why in the reason."""
    picture = UC1.but(servers=(), unseen=(X,), backend=UNSEEN)
    assert "Nova: no answer" in picture.diagnosis.reason
    assert "storage-1@tgt: no answer" in picture.diagnosis.reason


def test_a_case_that_ends_the_process_again_and_again_is_not_looked_at() -> None:
    """The lease of three claims in a row ran out -> parked; two are no proof."""
    assert condemn(UC1.but(crashes=2).case) is None
    condemned = condemn(UC1.but(crashes=3).case)
    assert condemned is not None
    assert (condemned.verdict, condemned.rule) == (Verdict.PARK, CRASHES)
    assert "last 3 attempts" in condemned.reason


def test_the_use_case_is_the_specification_s() -> None:
    """Rules named after a use case -> announce that one, and only those do."""
    for rule in RULES:
        named = rule.rule_id.partition(".")[0]
        assert rule.use_case == (UseCase(named) if named.startswith("UC") else None)


def test_the_case_s_own_connector_counts_before_its_host_s() -> None:
    """A message of this very attachment carried a connector -> that one names the connection."""
    picture = UC5.but(host=H2, connector=connector(H1))
    assert picture.diagnosis.rule == "UC5.leaked"
