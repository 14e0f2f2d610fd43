"""Strange sequences of messages -> these cases, and this verdict: seen, unseen, and trusted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from consumer.ledger import Arrival, Ledger
from handlers.case import Case, CaseState, Conclusion
from handlers.notification import Malformed, Notification, parse
from tests.services import ledgers
from tests.situations.strange_messages import HEALTHY, SEQUENCES, Comes, Told
from tests.unit.handlers.judgement.pictures import BLIND, VOLUME, Picture

IDS = [told.name for told in SEQUENCES]
LOOKED_AT = [told for told in SEQUENCES if told.world is not None]


@dataclasses.dataclass(frozen=True)
class Of(Picture):
    """A picture of the sides, for a case that a ledger holds."""

    stored: Case | None = None

    @property
    def case(self) -> Case:
        """The case as it came of its messages, at its first attempt."""
        assert self.stored is not None
        return dataclasses.replace(self.stored, attempts=1)


def taken_in(directory: Path, bodies: Iterable[bytes]) -> tuple[Case, ...]:
    """Let a new ledger accept the messages one by one; return its cases, oldest first."""
    ledger = Ledger(ledgers.sqlite_in(directory))
    for body in bodies:
        told = parse(body)
        if isinstance(told, Notification):
            assert ledger.accept([Arrival(told, "0" * 64, "test")]).rejected == ()
        else:
            assert isinstance(told, Malformed)
    cases = ledger.cases(volume_id=VOLUME)
    ledger.close()
    return tuple(sorted(cases, key=lambda case: case.opened_at))


def became(case: Case) -> str:
    """Return what becomes of a case, in a word; a look at an ended one is as good as an end."""
    if case.conclusion is Conclusion.ENDED or (case.only_ended and case.starts <= 1):
        return "ended"
    words = {CaseState.WAITING: "waits", CaseState.DUE: "due", CaseState.SETTLING: "settles"}
    return words[case.state]


def come_of(cases: Iterable[Case]) -> list[Comes]:
    """Return the cases as the sequences tell them."""
    return sorted(
        ((c.operation.value, c.attachment_id, became(c)) for c in cases),
        key=lambda comes: tuple(str(word) for word in comes),
    )


def open_one(cases: Iterable[Case]) -> Case:
    """Return the case that is looked at."""
    (only,) = (case for case in cases if became(case) != "ended")
    return only


def pictured(world: Picture, case: Case) -> Of:
    """Return the picture of how the sides stand, for this case."""
    fields = {f.name: getattr(world, f.name) for f in dataclasses.fields(Picture)}
    return Of(**fields, stored=case)


@pytest.mark.parametrize("told", SEQUENCES, ids=IDS)
def test_the_sequence_comes_to_these_cases(told: Told, tmp_path: Path) -> None:
    """A sequence -> its cases, each about the right attachment, none too many and none too few."""
    expected = sorted(told.comes, key=lambda comes: tuple(str(word) for word in comes))
    cases = taken_in(tmp_path, told.messages)
    assert come_of(cases) == expected
    attaches = [case for case in cases if case.operation.value == "attach"]
    assert any(case.released_unasked for case in attaches) is told.suspected


@pytest.mark.parametrize("told", LOOKED_AT, ids=[told.name for told in LOOKED_AT])
def test_the_look_at_it_comes_to_this_rule(told: Told, tmp_path: Path) -> None:
    """What came of a sequence, and how the sides stand -> the rule, seen and unseen."""
    assert told.world is not None
    picture = pictured(told.world, open_one(taken_in(tmp_path, told.messages)))
    rules = picture.diagnosis.rule, picture.but(backend=BLIND).diagnosis.rule
    assert rules == (told.seeing, told.blind)


def test_a_healthy_attach_in_every_order(tmp_path: Path) -> None:
    """All messages of one attach, in each of their orders -> one case, which ended."""
    for number, order in enumerate(itertools.permutations(HEALTHY)):
        directory = tmp_path / str(number)
        directory.mkdir()
        (case,) = taken_in(directory, order)
        assert became(case) == "ended", [parse(body) for body in order]
