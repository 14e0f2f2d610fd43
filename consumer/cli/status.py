"""``detachd status``: one screen of what is stuck, since when, and whether detachd is at work."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cliff.command import Command

from consumer.cli.app import version
from consumer.cli.case_list import aligned
from consumer.cli.configured import add_config_file, ledger_of
from consumer.cli.text import age, ago, printable, width, wrapped
from handlers.case import OPEN_STATES, CaseState

if TYPE_CHECKING:
    from consumer.ledger import Brake, Ledger, ReplicaSeen, StateCount
    from handlers.brakes import Breaker

LABEL = 15
MOST_HELD = 1000
BRAKES_SECONDS = 3600.0
UNKNOWN_BACKEND = "not known yet"


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says of detachd and its cases at one moment; times of the database."""

    ledger: str
    paused: tuple[datetime, str, str] | None
    replicas: tuple[ReplicaSeen, ...]
    swept_at: datetime | None
    sweep_acknowledged: bool
    announcements: tuple[int, float]
    held: int
    backends: Mapping[str | None, Mapping[CaseState, StateCount]]
    brakes: tuple[Brake, ...] = ()
    breakers: Mapping[str, Breaker] = dataclasses.field(default_factory=dict)


class Status(Command):
    """Show what is stuck by backend, since when, and what stands still: one screen.

    It reads the ledger alone. Whether the buses, Cinder and Nova answer is what /readyz of each
    service says.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-f", "--format", choices=["text", "json"], default="text", help="(default: text)"
        )
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Read and print it."""
        with ledger_of(parsed_args) as ledger:
            standing = read(ledger)
        now = datetime.now(UTC)
        if parsed_args.format == "json":
            self.app.stdout.write(json.dumps(as_json(standing), indent=2) + "\n")
        else:
            self.app.stdout.writelines(line + "\n" for line in text(standing, now, width()))


def read(ledger: Ledger) -> Standing:
    """Read it from the ledger. Raises LedgerUnavailableError."""
    from consumer.ledger import BodyState

    pause = ledger.paused()
    return Standing(
        ledger=ledger.name,
        paused=(pause.paused_at, pause.actor, pause.reason) if pause else None,
        replicas=ledger.replicas(),
        swept_at=ledger.sweeps.last_whole(),
        sweep_acknowledged=ledger.sweeps.acknowledged() is not None,
        announcements=ledger.outbox_pending(),
        held=len(ledger.quarantined(state=BodyState.HELD, limit=MOST_HELD)),
        backends=ledger.counts_by_backend(),
        brakes=ledger.brakes(BRAKES_SECONDS),
        breakers=ledger.open_breakers(),
    )


def as_json(standing: Standing) -> dict[str, Any]:
    """Return it as plain JSON values."""
    pause, (waiting, oldest) = standing.paused, standing.announcements
    return {
        "ledger": standing.ledger,
        "paused": pause and {"at": pause[0].isoformat(), "actor": pause[1], "reason": pause[2]},
        "brakes": [
            {"scope": b.scope.value, "name": b.name, "held_at": b.held_at.isoformat()}
            for b in standing.brakes
        ],
        "open_breakers": {
            backend: {"failures": b.failures, "opened_at": b.opened_at and b.opened_at.isoformat()}
            for backend, b in standing.breakers.items()
        },
        "replicas": [
            {"owner": r.replica.owner, "version": r.replica.version, "alive": r.alive}
            for r in standing.replicas
        ],
        "last_whole_sweep": standing.swept_at and standing.swept_at.isoformat(),
        "sweep_acknowledged": standing.sweep_acknowledged,
        "announcements": {"pending": waiting, "oldest_age_seconds": oldest},
        "quarantined": standing.held,
        "backends": [
            {"backend": backend} | {s.value: dataclasses.asdict(n) for s, n in counts.items()}
            for backend, counts in _by_name(standing)
        ],
    }


def text(standing: Standing, now: datetime, columns: int) -> Iterator[str]:
    """Yield the lines of the screen."""
    for label, words in _lines(standing, now):
        yield from wrapped(label, words, columns, LABEL)
    yield ""
    rows = [_row(backend, counts) for backend, counts in _by_name(standing)]
    yield from aligned(rows) if rows else ["No case is open."]
    if any(counts.get(CaseState.PARKED) for counts in standing.backends.values()):
        yield ""
        yield "`detachd case list --group` shows them by cause."


def _by_name(
    standing: Standing,
) -> Sequence[tuple[str | None, Mapping[CaseState, StateCount]]]:
    return sorted(standing.backends.items(), key=lambda item: item[0] or "")


def _lines(standing: Standing, now: datetime) -> Iterator[tuple[str, str]]:
    yield "detachd", f"{version()}, ledger {standing.ledger}"
    yield "writes", _pause(standing, now)
    yield "brakes", _brakes(standing, now)
    yield "services", _replicas(standing.replicas, now)
    swept = ago(standing.swept_at, now) or "never: none has ended with complete lists"
    unseen = "" if standing.sweep_acknowledged else "; nobody has acknowledged its list yet"
    yield "last sweep", swept + unseen
    waiting, oldest = standing.announcements
    yield "announcements", f"{waiting} wait, the oldest {age(oldest)}" if waiting else "all sent"
    most = "at least " if standing.held == MOST_HELD else ""
    yield "quarantine", f"{most}{standing.held} messages held" if standing.held else "empty"


def _pause(standing: Standing, now: datetime) -> str:
    if standing.paused is None:
        return "not paused"
    at, actor, reason = standing.paused
    return f"PAUSED by {actor}, {ago(at, now)}: {reason}"


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


def _replicas(seen: Sequence[ReplicaSeen], now: datetime) -> str:
    alive = [one for one in seen if one.alive]
    silent = [one for one in seen if not one.alive]
    words = ", ".join(f"{one.replica.host} ({one.replica.version})" for one in alive)
    parts = [f"{len(alive)} alive: {words}" if alive else "NONE ALIVE"]
    parts += [f"{one.replica.host} not heard of for {_since(one, now)}" for one in silent]
    return "; ".join(parts)


def _since(one: ReplicaSeen, now: datetime) -> str:
    return age((now - one.heartbeat_at).total_seconds())


def _row(backend: str | None, counts: Mapping[CaseState, StateCount]) -> Mapping[str, str]:
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
