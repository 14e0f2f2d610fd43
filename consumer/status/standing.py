"""What the ledger says of detachd and its cases at one moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from consumer.body_state import BodyState
from consumer.status.words import age, ago, printable
from handlers.case import OPEN_STATES, CaseState

if TYPE_CHECKING:
    from consumer.ledger import Brake, Ledger, Pause, ReplicaSeen, StateCount
    from handlers.brakes import Breaker

# Enough to say "many"; they are counted by reading them.
MOST_HELD = 1000
BRAKES_SECONDS = 3600.0
UNKNOWN_BACKEND = "not known yet"


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says of detachd and its cases at one moment; times of the database.

    ``sections`` are the backends that have a section of their own in the configuration.
    """

    ledger: str
    pauses: tuple[Pause, ...]
    replicas: tuple[ReplicaSeen, ...]
    swept_at: datetime | None
    sweep_acknowledged: bool
    announcements: tuple[int, float]
    held: int
    backends: Mapping[str | None, Mapping[CaseState, StateCount]]
    brakes: tuple[Brake, ...] = ()
    breakers: Mapping[str, Breaker] = dataclasses.field(default_factory=dict)
    fences: Mapping[str, tuple[int, float]] = dataclasses.field(default_factory=dict)
    sections: Collection[str] = ()


def read(ledger: Ledger, sections: Collection[str] = ()) -> Standing:
    """Read it from the ledger. Raises LedgerUnavailableError."""
    return Standing(
        ledger=ledger.name,
        pauses=ledger.pauses(),
        replicas=ledger.replicas(),
        swept_at=ledger.sweeps.last_whole(),
        sweep_acknowledged=ledger.sweeps.acknowledged() is not None,
        announcements=ledger.outbox_pending(),
        held=len(ledger.quarantined(state=BodyState.HELD, limit=MOST_HELD)),
        backends=ledger.counts_by_backend(),
        brakes=ledger.brakes(BRAKES_SECONDS),
        breakers=ledger.open_breakers(),
        fences=ledger.fences.ages(),
        sections=sections,
    )


def by_name(
    standing: Standing,
) -> Sequence[tuple[str | None, Mapping[CaseState, StateCount]]]:
    """Return the backends that have open cases, in order; first those of which none is known."""
    # None before all names: those whose backend no look has told yet.
    return sorted(standing.backends.items(), key=lambda item: item[0] or "")


def sentences(standing: Standing, version: str, now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what is said of detachd itself, each with its label."""
    yield "detachd", f"{version}, ledger {standing.ledger}"
    yield "writes", _pause(standing, now)
    yield "brakes", _brakes(standing, now)
    if standing.fences:
        yield "fences", _fences(standing.fences)
    yield "services", _replicas(standing.replicas, now)
    swept = ago(standing.swept_at, now) or "never: none has ended with complete lists"
    unseen = (
        ""
        if standing.sweep_acknowledged
        else "; nobody has acknowledged its list yet (`detachd sweep list`)"
    )
    yield "last sweep", swept + unseen
    waiting, oldest = standing.announcements
    yield "announcements", f"{waiting} wait, the oldest {age(oldest)}" if waiting else "all sent"
    most = "at least " if standing.held == MOST_HELD else ""
    yield "quarantine", f"{most}{standing.held} messages held" if standing.held else "empty"


def _pause(standing: Standing, now: datetime) -> str:
    told = (_paused(pause, standing.sections, now) for pause in standing.pauses)
    return "; ".join(told) or "not paused"


def _paused(pause: Pause, sections: Collection[str], now: datetime) -> str:
    what = f"backend {printable(pause.backend)} is " if pause.backend else ""
    said = f"{what}PAUSED by {pause.actor}, {ago(pause.paused_at, now)}: {pause.reason}"
    return f"{said} ({doubt})" if (doubt := doubt_of(pause, sections)) else said


def doubt_of(pause: Pause, sections: Collection[str]) -> str:
    """Return what to check about a pause whose backend has no section, where others have; or "".

    A backend may have the defaults, and no section. But one that was renamed has lost its pause.
    """
    # Where no backend has a section, all have the defaults, and a name cannot be checked.
    if not pause.backend or not sections or pause.backend in sections:
        return ""
    return (
        f"there is no section [backend:{printable(pause.backend)}]; if the backend has another "
        "name now, it is not paused under that"
    )


def _brakes(standing: Standing, now: datetime) -> str:
    parts = [
        f"the BREAKER of {printable(backend)} is open, since {ago(one.opened_at, now)}: "
        f"{one.failures} releases failed"
        for backend, one in standing.breakers.items()
    ]
    parts += [
        f"{one.scope.value} {printable(one.name)} held back a recovery {ago(one.held_at, now)}"
        for one in standing.brakes
    ]
    return "; ".join(parts) or "none has held back a recovery within the hour"


def _fences(by_backend: Mapping[str, tuple[int, float]]) -> str:
    parts = [
        f"{number} client{'s' if number != 1 else ''} of {printable(backend)} fenced, the oldest "
        f"for {age(oldest)}"
        for backend, (number, oldest) in by_backend.items()
    ]
    return "; ".join(parts) + " (`detachd fence list`)"


def _replicas(seen: Sequence[ReplicaSeen], now: datetime) -> str:
    alive = [one for one in seen if one.alive]
    silent = [one for one in seen if not one.alive]
    words = ", ".join(f"{one.replica.host} ({one.replica.version})" for one in alive)
    parts = [f"{len(alive)} alive: {words}" if alive else "NONE ALIVE"]
    parts += [f"{one.replica.host} not heard of for {_since(one, now)}" for one in silent]
    return "; ".join(parts)


def _since(one: ReplicaSeen, now: datetime) -> str:
    return age((now - one.heartbeat_at).total_seconds())


def row(backend: str | None, counts: Mapping[CaseState, StateCount]) -> Mapping[str, str]:
    """Return the line of one backend: how many cases are in each open state, and since when."""
    oldest = max(number.oldest_age_seconds for number in counts.values())
    acknowledged = sum(number.acknowledged for number in counts.values())
    numbers = {state: counts[state].count if state in counts else 0 for state in OPEN_STATES}
    return {
        "BACKEND": printable(backend or UNKNOWN_BACKEND),
        "PARKED": str(numbers[CaseState.PARKED]),
        "APPROVE?": str(numbers[CaseState.AWAITING_APPROVAL]),
        "DUE": str(numbers[CaseState.DUE]),
        "WAITING": str(numbers[CaseState.WAITING]),
        "SETTLING": str(numbers[CaseState.SETTLING]),
        "KNOWN": str(acknowledged),
        "OLDEST": age(oldest) if sum(numbers.values()) else "-",
    }
