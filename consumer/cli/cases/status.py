"""``detachd status``: one screen of what is stuck, since when, and whether detachd is at work."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from consumer.cli.app import version
from consumer.cli.configured import ConfiguredCommand, add_format, backends_configured, ledger_of
from consumer.cli.text import aligned, width, wrapped
from consumer.status.standing import Standing, by_name, read, row, sentences
from handlers.case import CaseState

if TYPE_CHECKING:
    from consumer.ledger import Pause

LABEL = 15


class Status(ConfiguredCommand):
    """Show what is stuck by backend, since when, and what stands still: one screen.

    It reads the ledger alone. Whether the buses, Cinder and Nova answer is what /readyz of each
    service says.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_format(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Read and print it."""
        with ledger_of(parsed_args) as ledger:
            standing = read(ledger, backends_configured(parsed_args.config_file))
        now = datetime.now(UTC)
        if parsed_args.format == "json":
            self.app.stdout.write(json.dumps(as_json(standing), indent=2) + "\n")
        else:
            self.app.stdout.writelines(line + "\n" for line in text(standing, now, width()))


def _paused(pause: Pause) -> dict[str, str]:
    return {"at": pause.paused_at.isoformat(), "actor": pause.actor, "reason": pause.reason}


def as_json(standing: Standing) -> dict[str, Any]:
    """Return it as plain JSON values."""
    waiting, oldest = standing.announcements
    return {
        "ledger": standing.ledger,
        "paused": next((_paused(p) for p in standing.pauses if p.backend is None), None),
        "paused_backends": {p.backend: _paused(p) for p in standing.pauses if p.backend},
        "brakes": [
            {"scope": b.scope.value, "name": b.name, "held_at": b.held_at.isoformat()}
            for b in standing.brakes
        ],
        "open_breakers": {
            backend: {"failures": b.failures, "opened_at": b.opened_at and b.opened_at.isoformat()}
            for backend, b in standing.breakers.items()
        },
        "fences": {
            backend: {"standing": number, "oldest_age_seconds": oldest}
            for backend, (number, oldest) in standing.fences.items()
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
            for backend, counts in by_name(standing)
        ],
    }


def text(standing: Standing, now: datetime, columns: int) -> Iterator[str]:
    """Yield the lines of the screen."""
    for label, words in sentences(standing, version(), now):
        yield from wrapped(label, words, columns, LABEL)
    yield ""
    rows = [row(backend, counts) for backend, counts in by_name(standing)]
    yield from aligned(rows) if rows else ["No case is open."]
    if any(counts.get(CaseState.PARKED) for counts in standing.backends.values()):
        yield ""
        yield "`detachd case list --group` shows them by cause."
