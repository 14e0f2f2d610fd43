"""How long a call may still act whose caller has given up: seconds that are left of the horizon.

Whoever is given the volume before that is cut off by it, or shares the disk with it: Cinder's
terminate_connection takes the access of a host by its name, whoever uses it by then. To see the
backend does not help, as the call acts after the look. Pure.
"""

from __future__ import annotations

from datetime import datetime

from handlers import intents
from handlers.case import Case


def own_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long a call of ours that gave no answer may still act; 0 for not at all."""
    return _left(intents.last_unanswered_at(case), horizon_seconds, now)


def detach_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long a try to detach the volume may still act that Cinder has not ended."""
    return _left(case.late.detach_tried_at, horizon_seconds, now)


def attach_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long a try of the attach may still act: the last one heard, or that of opening."""
    tried_at = case.late.attach_tried_at or case.round_began_at
    return _left(max(tried_at, case.round_began_at), horizon_seconds, now)


def terminating_seconds(case: Case, horizon_seconds: float, now: datetime) -> float:
    """Return how long anybody's call may still act that takes the volume from a host."""
    return max(own_seconds(case, horizon_seconds, now), detach_seconds(case, horizon_seconds, now))


def _left(since: datetime | None, horizon_seconds: float, now: datetime) -> float:
    if since is None:
        return 0.0
    return max(horizon_seconds - (now - since).total_seconds(), 0.0)
