"""A ledger's part in one case, in memory: what recovery writes, and what becomes of the case.

It follows ``consumer/ledger`` (claims.py, casefile.py, finish.py) as far as one case sees of it, on
a clock that the test moves. ``crash_at`` ends the process at one of the places where a crash makes
a difference: before and after each write, and before the finish.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from drivers.base import ClientInstance, Connector
from drivers.simulator import DEFAULT_BACKEND, Cloud
from drivers.simulator.estate import made_up_connector
from drivers.simulator.scenes import Scene
from handlers.announcement import Event
from handlers.brakes import BrakedError, Held, Spending
from handlers.case import (
    Announcement,
    Case,
    CaseState,
    Intent,
    LateCalls,
    LearnedClient,
    OffWord,
    Outcome,
    PausedError,
    StepKind,
    StepResult,
    Trigger,
)
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.notification import Operation
from handlers.recovery.recovery import Recovery
from handlers.recovery.summary import grounds
from tests.unit.handlers.judgement.pictures import OPENED_AT

LEASE_SECONDS = 720.0
QUICK = BackendPolicy(
    mode=Mode.AUTO, look_timeout_seconds=1.0, call_timeout_seconds=1.0, try_backoff_seconds=0.0005,
    try_backoff_max_seconds=0.0005, nova_detach_wait_seconds=0.02, tries=2,
)  # fmt: skip
AT_REST = (CaseState.CLOSED, CaseState.PARKED, CaseState.AWAITING_APPROVAL)


class CrashError(BaseException):
    """The process ends here, as kill -9 ends it: nothing catches this."""


class Trial:
    """One case on its way; meets ``CaseFile`` while an attempt is made."""

    def __init__(self, scene: Scene, operation: Operation, **facts: Any) -> None:
        known: dict[str, Any] = {
            "case_id": "case-1", "cloud": "test", "volume_id": scene.volume_id,
            "operation": operation, "attachment_id": scene.attachment_id,
            "instance_id": scene.instance_id, "host": scene.host, "backend": DEFAULT_BACKEND,
            "trigger": Trigger.DEADLINE, "state": CaseState.DUE, "opened_at": OPENED_AT,
            "attempts": 0, "failures": 0, "signal_seq": 1, "starts": 1, "end_seen": False,
            "released_unasked": False, "mended_at": None, "first_clean_at": None,
            "connector": None, "request_ids": (), "intents": (), "updated_at": OPENED_AT,
        }  # fmt: skip
        self.scene = scene
        self.kept = Case(**(known | facts))
        self.case = self.kept
        self.now = OPENED_AT + timedelta(minutes=15)
        self.known = {f"compute-{n}" for n in range(1, 5)}
        self.announced: list[Announcement] = []
        self.outcomes: list[Outcome] = []
        self.leases: list[float] = []
        self.crash_at: int | None = None
        self.paused = False
        self.spent: list[Spending] = []
        self.held: Held | None = None
        self.off: dict[str, OffWord] = {}
        self.counted: set[str] = set()
        self.heard: list[tuple[str, str]] = []
        self.learned: dict[str, LearnedClient] = {}
        self.places = 0
        self.between: Callable[[float], None] = lambda _: None
        self.written: Callable[[StepKind], None] = lambda _: None

    # -- what recovery sees ------------------------------------------------------------------------

    def locate(self, backend: str) -> None:
        """Write down where the volume is."""
        self._place()
        self._keep(backend=backend)
        self._place()

    def spend(self, spending: Spending) -> None:
        """Keep what was asked for; hold it back where the test says so."""
        self.spent.append(spending)
        if self.held is not None and not spending.begun:
            raise BrakedError(self.held)

    def intend(
        self,
        kind: StepKind,
        *,
        request_id: str,
        target: Mapping[str, Any],
        evidence: Mapping[str, Any],
        lease_seconds: float,
        announcement: Announcement | None,
    ) -> None:
        """Write an intent down."""
        self._place()
        if self.paused:
            raise PausedError
        assert request_id not in {i.request_id for i in self.kept.intents}
        assert evidence
        intent = Intent(
            kind, StepResult.INTENDED, request_id, self.case.attempts, target["attachment_id"],
            self.now, grounds(evidence),
        )  # fmt: skip
        about = self.kept.about(target)
        self.kept = dataclasses.replace(about, intents=(*about.intents, intent))
        self.leases.append(lease_seconds)
        self.announced += [announcement] if announcement else []
        self._place()
        self.written(kind)

    def result(self, request_id: str, result: StepResult, detail: str) -> None:
        """Write down how it ended."""
        self._place()
        ended = tuple(
            dataclasses.replace(i, result=result) if i.request_id == request_id else i
            for i in self.kept.intents
        )
        self._keep(intents=ended)
        self._place()

    def late(self) -> LateCalls:
        """Return what may still act on the volume."""
        return self.kept.late

    def connector_of(self, host: str) -> Connector | None:
        """Return the connector of a host that was learned."""
        return made_up_connector(host) if host in self.known else None

    def off_word(self, host: str) -> OffWord | None:
        """Return a person's word for a host, while it stands."""
        word = self.off.get(host)
        return word if word is not None and word.until > self.now else None

    def word_counted(self, host: str) -> None:
        """Write down that it counted."""
        self.counted.add(host)

    def heard_of(self, host: str, why: str, *, seen_anew: bool = False) -> None:
        """End the word."""
        if not seen_anew or host in self.counted:
            self.off.pop(host, None)
            self.heard.append((host, why))

    def learned_clients(self) -> Mapping[str, ClientInstance]:
        """Return the clients that were learned."""
        return {attachment_id: seen.client for attachment_id, seen in self.learned.items()}

    def learn(self, seen: LearnedClient) -> ClientInstance | None:
        """Keep it."""
        before = self.learned.get(seen.attachment_id)
        self.learned[seen.attachment_id] = seen
        same = before is None or before.client.address == seen.client.address
        return None if same or before is None else before.client

    # -- what a worker does ------------------------------------------------------------------------

    def attempt(self, recovery: Recovery) -> Outcome | None:
        """Claim, attempt and finish; None after a crash."""
        self._keep(attempts=self.kept.attempts + 1)
        self.case = self.kept
        try:
            outcome = recovery.attempt(self)
            self._place()
        except CrashError:
            self.crash_at = None
            self._keep(crashes=self.kept.crashes + 1)
            self.advance(LEASE_SECONDS)
            return None
        except PausedError:
            self._keep(attempts=self.kept.attempts - 1)
            return None
        self._finish(outcome)
        return outcome

    def run(self, recovery: Recovery, *, most: int = 60) -> Outcome:
        """Make attempts until the case is at rest; fails where it does not come to rest."""
        for _ in range(most):
            outcome = self.attempt(recovery)
            if outcome is not None and outcome.state in AT_REST:
                return outcome
            self.advance(outcome.delay_seconds or 0.0 if outcome else 0.0)
        raise AssertionError(f"no rest after {most} attempts: {self.outcomes[-1].reason}")

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.now += timedelta(seconds=seconds)
        self.between(seconds)

    def events(self) -> list[str]:
        """Return the last words of what was announced, in order."""
        return [a.event_type.rpartition(".")[2] for a in self.announced]

    def steps(self) -> list[str]:
        """Return every write that was meant, with its result."""
        return [f"{i.kind.value}:{i.result.value}" for i in self.kept.intents]

    def made(self) -> list[str]:
        """Return the writes that were carried out."""
        return [i.kind.value for i in self.kept.intents if i.result is StepResult.DONE]

    # -- inside ------------------------------------------------------------------------------------

    def _place(self) -> None:
        self.places += 1
        if self.crash_at == self.places:
            raise CrashError

    def _keep(self, **changes: Any) -> None:
        self.kept = dataclasses.replace(self.kept, **changes)

    def _finish(self, outcome: Outcome) -> None:
        now: datetime = self.now
        self.outcomes.append(outcome)
        self.announced += outcome.announcements
        kept = self.kept
        self._keep(
            state=outcome.state,
            failures=kept.failures + outcome.failed,
            crashes=0,
            mended_at=now if outcome.mended else kept.mended_at,
            mended_attempt=self.case.attempts if outcome.mended else kept.mended_attempt,
            first_clean_at=(kept.first_clean_at or now) if outcome.clean else None,
            attachment_id=kept.attachment_id or outcome.attachment_id,
            instance_id=kept.instance_id or outcome.instance_id,
            volume_seen=kept.volume_seen or outcome.volume_seen,
        )
        kinds = () if outcome.reason_kind is None else (outcome.reason_kind,)
        news = tuple(kind for kind in kinds if kind not in kept.told)
        if not outcome.held:
            self._keep(rule=outcome.rule, reason=outcome.reason, fingerprint=outcome.fingerprint)
            self._keep(told=kinds)
        elif news:
            self._keep(reason=outcome.reason, told=(*kept.told, *news))


def recovery_on(cloud: Cloud, policy: BackendPolicy = QUICK, *, blind: bool = False) -> Recovery:
    """Return a recovery that works on the cloud."""
    driver_of = cloud.blind_driver if blind else cloud.driver
    return Recovery(cloud.cinder, cloud.nova, driver_of, lambda _: policy)


def assert_announced_in_pairs(trial: Trial) -> None:
    """Fail where the last start of the case is left without an end, an error or a person."""
    events = trial.events()
    starts = [n for n, event in enumerate(events) if event == Event.START.name.lower()]
    assert not starts or {"end", "error", "parked"} & set(events[starts[-1] :]), events


def assert_unharmed(cloud: Cloud, trial: Trial) -> None:
    """Fail where the backend still lets somebody in though Cinder says available, or worse."""
    assert cloud.hazards() == ()
    volume = cloud.cinder.volume(trial.kept.volume_id, timeout_seconds=1)
    closed = trial.kept.state is CaseState.CLOSED
    if volume is not None and volume.status == "available" and closed:
        assert cloud.exported_to(trial.kept.volume_id) == ()
    assert_announced_in_pairs(trial)
