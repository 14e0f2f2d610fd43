"""Plays the reported situations on the whole service, and says what came of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from consumer.ledger import CaseRecord, Ledger
from drivers.base import StorageDriver
from drivers.simulator import DEFAULT_BACKEND, Cloud, Hazard
from handlers.case import CaseState
from tests.cases import reports
from tests.cases.expected import Held
from tests.cases.reports import Cast
from tests.situations import theatre

SEEING, HASTY, BLIND, TRUSTED = DEFAULT_BACKEND, "hasty@tgt", "blind@x", "trusted@x"
REMOVED, TRUSTED_REMOVED = "removed@tgt", "trusted-removed@x"
IN_A_HURRY = (HASTY, REMOVED)
CONFIGURATION = f"""
[backend:{HASTY}]
patience_seconds = 4
retry_backoff_max_seconds = 0.5
[backend:{REMOVED}]
patience_seconds = 4
[backend:{TRUSTED}]
trust_blind = true
[backend:{TRUSTED_REMOVED}]
trust_blind = true
patience_seconds = 4
"""
PARKED_AT_LAST = (
    "evacuated_host_removed", "failed_over", "ironic_node_session", "migration_never_completed",
)  # fmt: skip
"""What is for a person when it has been waited for in vain: with little patience, and few tries."""

QUIET_SECONDS = 4.0
"""How long after the last message there may be something to hear of: sweeps and second looks."""
MOST_SECONDS = 30.0
"""How long to wait for the slowest; what is not over then is judged as it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class CaseEnded:
    """What came of one case; ``announced`` are the last words of its event types."""

    verdict: str | None
    rule: str | None
    reason: str
    state: CaseState
    done: tuple[str, ...]
    announced: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """What came of one playing. Hosts have the names that they have in the report's file."""

    cases: tuple[CaseEnded, ...]
    before: Held | None
    after: Held | None
    guests_before: frozenset[str]
    guests_after: frozenset[str]
    hazards: tuple[Hazard, ...]

    @property
    def done(self) -> tuple[str, ...]:
        """Every write, the cases one after the other."""
        return tuple(step for case in self.cases for step in case.done)

    @property
    def announced(self) -> tuple[str, ...]:
        """Everything that was announced, the cases one after the other."""
        return tuple(event for case in self.cases for event in case.announced)

    @property
    def reasons(self) -> str:
        """The reasons of all cases."""
        return "; ".join(case.reason for case in self.cases)

    def in_state(self, *states: CaseState) -> int:
        """Count the cases in these states."""
        return sum(case.state in states for case in self.cases)


class _HalfBlind(Cloud):
    """A cloud of which the service sees some backends and others not."""

    def driver(self, backend: str = DEFAULT_BACKEND) -> StorageDriver:
        """Return the driver that the backend has in this playing."""
        unseen = backend in (BLIND, TRUSTED, TRUSTED_REMOVED)
        return self.blind_driver(backend) if unseen else super().driver(backend)


Played = Mapping[tuple[str, str], Ended]
"""By the report's name, and how it was played: seeing, blind, trusted."""


def play(directory: Path, parts: Iterable[tuple[str, str]], *, sweep: bool) -> Played:
    """Play these reports at once, each on a backend. Blocks for some ten seconds."""
    with _HalfBlind() as cloud:
        acts = {
            (name, how): reports.cast(cloud, name, number=number, backend=_backend(name, how))
            for number, (name, how) in enumerate(parts)
        }
        before = {part: _held(act) for part, act in acts.items()}
        stages = [stage for act in acts.values() for stage in act.stages]
        told = [message for act in acts.values() for message in act.messages]
        more = (theatre.SWEEP if sweep else theatre.NO_SWEEP) + CONFIGURATION
        with theatre.on_stage(cloud, directory, more, stages, told) as ledger:
            _wait(ledger, acts.values())
            return {part: _ended(ledger, act, before[part]) for part, act in acts.items()}


def _backend(name: str, how: str) -> str:
    if name in reports.OF_THE_BACKEND:
        return REMOVED if how == SEEING else TRUSTED_REMOVED
    in_a_hurry = name in PARKED_AT_LAST and how == SEEING
    return HASTY if in_a_hurry else how


def _wait(ledger: Ledger, acts: Iterable[Cast]) -> None:
    quiet_at = time.monotonic() + QUIET_SECONDS

    def over() -> bool:
        return time.monotonic() > quiet_at and all(_at_rest(ledger, act) for act in acts)

    acts = tuple(acts)
    gives_up_at = time.monotonic() + MOST_SECONDS
    while not over() and time.monotonic() < gives_up_at:
        time.sleep(0.05)


def _at_rest(ledger: Ledger, act: Cast) -> bool:
    cases = ledger.cases(volume_id=act.volume_id)
    hurried = any(case.backend in IN_A_HURRY for case in cases)
    open_still = any(case.state not in theatre.AT_REST for case in cases)
    return theatre.at_rest(cases) and not (hurried and open_still)


def _ended(ledger: Ledger, act: Cast, before: Held | None) -> Ended:
    cases = sorted(ledger.cases(volume_id=act.volume_id), key=lambda case: case.opened_at)
    return Ended(
        cases=tuple(_case(ledger.case(case.case_id), act) for case in cases),
        before=before,
        after=_held(act),
        guests_before=act.report.guests,
        guests_after=frozenset(act.cloud.guests_holding(act.volume_id)) if before else frozenset(),
        hazards=tuple(h for h in act.cloud.hazards() if h.volume_id == act.volume_id),
    )


def _case(record: CaseRecord, act: Cast) -> CaseEnded:
    case = record.case
    return CaseEnded(
        verdict=case.verdict,
        rule=case.rule,
        reason=act.plain(case.reason or ""),
        state=case.state,
        done=theatre.done(record),
        announced=theatre.announced(record),
    )


def _held(act: Cast) -> Held | None:
    volume = act.cloud.cinder.volume(act.volume_id, timeout_seconds=1.0)
    if volume is None:
        return None
    rows = tuple(sorted(attachment.status for attachment in volume.attachments))
    hosts = tuple(act.plain(host) for host in act.cloud.exported_to(act.volume_id))
    return volume.status, rows, tuple(sorted(hosts))


def parts_with_sweep(parts: Iterable[tuple[str, str]], *, sweep: bool) -> Iterator[tuple[str, str]]:
    """Yield those that were reported with the sweep on, or those with it off."""
    return (part for part in parts if reports.read(part[0]).sweep is sweep)
