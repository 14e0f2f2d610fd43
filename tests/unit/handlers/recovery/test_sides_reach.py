"""What a person is told of the other volumes that a client would lose."""

from __future__ import annotations

import dataclasses

from drivers.base import Reach
from handlers.judgement.evidence import Fact
from handlers.recovery import sides, summary

LEARNED = {"client": "client.1", "address": "192.0.2.1:0/1", "seen_at": "now", "there": True}


def told(reach: Reach) -> list[tuple[sides.AnswerKind, str]]:
    """Return what the backend's side says of the learned client."""
    look = {"learned": LEARNED, **summary._reach(Fact(reach))}
    *_, backend = sides.of(look)
    return [dataclasses.astuple(answer) for answer in backend.answers]  # type: ignore[misc]


def test_where_the_driver_may_not_look_is_unknown_and_named() -> None:
    """Two pools may not be looked at -> what is there is unknown, beside what was counted."""
    answers = told(Reach(("vms/disk",), 0, unseen=("images", "namespaces of images")))
    assert (sides.AnswerKind.FACT, "it has other volumes open: vms/disk") in answers
    ((_, text),) = [a for a in answers if a[0] is sides.AnswerKind.UNKNOWN]
    assert "may not look at images, namespaces of images" in text


def test_where_all_was_looked_at_nothing_is_unknown() -> None:
    """Every pool was looked at -> it is said that the client has no other volume."""
    answers = told(Reach((), 0))
    assert (sides.AnswerKind.FACT, "it has no other open") in answers
    assert all(kind is not sides.AnswerKind.UNKNOWN for kind, _ in answers)
