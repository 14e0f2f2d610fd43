"""What evidence can mean."""

from __future__ import annotations

import dataclasses
import enum

from handlers.case import UseCase
from handlers.judgement.situation import Situation


class Verdict(enum.Enum):
    """What the evidence means for the case's attachment."""

    HEALTHY = "healthy"
    """It is attached, and rightly so."""
    CLEAN = "clean"
    """It is not attached and nothing of it is left over."""
    GONE = "gone"
    """The volume does not exist any more."""
    IN_FLIGHT = "in-flight"
    """Somebody else's operation on the volume or the server is under way."""
    UNKNOWN = "unknown"
    """A source that should see could not."""
    RELEASE = "release"
    """The attachment is dead: release the backend, then Cinder."""
    TERMINATE = "terminate"
    """Cinder has let go already; one connection is left on the backend."""
    ROLL_FORWARD = "roll-forward"
    """It is attached in truth; Cinder has to be told."""
    NOVA_DETACH = "nova-detach"
    """The wish to detach is on record; Nova has to carry it out."""
    PARK = "park"
    """For a person."""


ACTING = frozenset({Verdict.RELEASE, Verdict.TERMINATE, Verdict.ROLL_FORWARD, Verdict.NOVA_DETACH})


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """A verdict, the rule that said so, and why in words for a person.

    ``situation`` is None only where Cinder did not show a volume.
    """

    verdict: Verdict
    rule: str
    reason: str
    use_case: UseCase | None
    situation: Situation | None
