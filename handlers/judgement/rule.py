"""What a rule of the decision table is, and what it says: verdicts and diagnoses."""

from __future__ import annotations

import dataclasses
import enum

from handlers.case import UseCase
from handlers.judgement.facts import Predicate
from handlers.judgement.situation import Situation


class Verdict(enum.Enum):
    """What the evidence means for the case's attachment."""

    HEALTHY = "healthy"
    """It is attached, as it should be."""
    CLEAN = "clean"
    """It is not attached and nothing of it is left over."""
    GONE = "gone"
    """The volume does not exist any more."""
    IN_FLIGHT = "in-flight"
    """Another operation on the volume or the server is under way."""
    UNKNOWN = "unknown"
    """A source that should see could not."""
    RELEASE = "release"
    """The attachment is dead: release the backend, then Cinder."""
    TERMINATE = "terminate"
    """Cinder has released the volume already; one connection is left on the backend."""
    ROLL_FORWARD = "roll-forward"
    """It is attached in truth; Cinder's record has to follow."""
    NOVA_DETACH = "nova-detach"
    """A detach was requested and is on record; Nova has to carry it out."""
    PARK = "park"
    """A person has to decide."""


RELEASING = frozenset({Verdict.RELEASE, Verdict.TERMINATE})
"""What ends the access of a host."""
ACTING = RELEASING | frozenset({Verdict.ROLL_FORWARD, Verdict.NOVA_DETACH})


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table.

    It holds where all of ``when`` do and none of ``unless``, in which an id stands for the facts of
    that rule. ``reason`` is what a person reads where it decides, ``where_blind`` the reason
    instead where the backend cannot be seen and ``reason`` would claim too much. ``meant``,
    ``done`` and ``source`` are for the page: what the situation is taken for, what follows, and
    where it was seen (*specified* in 2015, *made* on a real cloud, *read* in the code of Cinder or
    Nova). ``seen`` says what the rule rests on where that is no situation.
    """

    rule_id: str
    verdict: Verdict
    reason: str
    when: tuple[Predicate, ...] = ()
    unless: tuple[Predicate | str, ...] = ()
    meant: str = ""
    done: str = ""
    source: str = ""
    where_blind: str = ""
    use_case: UseCase | None = None
    seen: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Rules that stand together, under a title of the page."""

    title: str
    rules: tuple[Rule, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """A verdict, the rule that said so, and why in words for a person.

    ``situation`` is None only where Cinder did not show a volume. ``outage``: an API of OpenStack
    gave no answer to one of the questions.
    """

    verdict: Verdict
    rule: str
    reason: str
    use_case: UseCase | None
    situation: Situation | None
    outage: bool = False
