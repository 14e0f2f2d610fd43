"""The real recovery, stopped before each look and before each call, and carried on with an answer.

An attempt of ``handlers/recovery`` is ordinary code that asks and acts. Here its ports are given
the answers that were recorded so far; at the first question without an answer it is thrown away,
and the question is what it waits for. So every state of an attempt is a plain value: the case that
was claimed, and the answers. Nothing of recovery is written again here.

A look is one question: all three sides are read at one moment. (A look that is torn over several
moments is another world; see docs/exhaustive.md.)
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast
from unittest import mock

from drivers.base import (
    Attachment,
    Capabilities,
    ClientInstance,
    Connection,
    Connector,
    Observation,
    StorageDriver,
    VolumeRef,
)
from drivers.cinder_managed import CinderManagedDriver
from drivers.control_plane import (
    BlockDevice,
    Cinder,
    CinderAttachment,
    DeletedServer,
    Nova,
    Swap,
    Volume,
)
from drivers.control_plane import Server as ShownServer
from drivers.errors import ConflictError, IndeterminateError, NotFoundError
from handlers.announcement import Event
from handlers.brakes import Spending
from handlers.case import (
    Announcement,
    Case,
    Intent,
    LateCalls,
    LearnedClient,
    OffWord,
    Outcome,
    StepKind,
    StepResult,
)
from handlers.judgement.evidence import Evidence
from handlers.judgement.plan import Step
from handlers.judgement.policy import BackendPolicy, LateAttach, Mode
from handlers.judgement.rule import Diagnosis
from handlers.recovery import attempt as attempt_module
from handlers.recovery import recovery as recovery_module
from handlers.recovery import steps as steps_module
from handlers.recovery.attempt import Attempt, Plan
from handlers.recovery.looking import Viewer
from handlers.recovery.recovery import Recovery
from handlers.recovery.summary import grounds
from tests.exhaustive.calls import CONFLICT, DONE, NOT_FOUND, TERMINATES, UNANSWERED, Call
from tests.exhaustive.messages import connector
from tests.exhaustive.world import ATTACHED, BACKEND, RESERVED, VOLUME, Row, Server, World

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HORIZON = timedelta(seconds=330)
PATIENCE = 1.5
POLICY = BackendPolicy(
    mode=Mode.AUTO, tries=2, try_backoff_seconds=0.0, try_backoff_max_seconds=0.0, max_failures=3,
    retry_backoff_seconds=1.0, retry_backoff_max_seconds=1.0, nova_detach_wait_seconds=0.0,
    late_horizon_seconds=HORIZON.total_seconds(), trust_blind=True,
    patience_seconds=PATIENCE * HORIZON.total_seconds(),
    parked_look_seconds=HORIZON.total_seconds(),
)  # fmt: skip
DETACHING = dataclasses.replace(POLICY, late_attach=LateAttach.DETACH)


class Seen(NamedTuple):
    """The answer to a look: what Cinder, Nova and the backend show at one moment.

    ``known`` are the hosts whose connector was learned; ``tried`` is how many horizons ago the last
    detach began that has no end, None for none, as the ledger says at the same moment.
    """

    status: str
    rows: tuple[Row, ...]
    servers: tuple[Server, ...]
    access: tuple[str, ...]
    sessions: tuple[str, ...]
    multiattach: bool
    blind: bool
    lacks: str
    known: tuple[str, ...]
    tried: int | None
    down: tuple[str, ...] = ()
    said_off: tuple[str, ...] = ()


def see(world: World, known: tuple[str, ...], tried: int | None) -> Seen:
    """Return what a look shows now: nothing of guests, and of a blind backend nothing at all."""
    sessions = tuple(sorted({server.guest for server in world.using()}))
    return Seen(
        status=world.status,
        rows=world.rows,
        servers=tuple(server._replace(guest="") for server in world.servers),
        access=() if world.blind else world.access,
        sessions=() if world.blind or world.lacks == "sessions" else sessions,
        multiattach=world.multiattach,
        blind=world.blind,
        lacks=world.lacks,
        known=known,
        tried=tried,
        down=world.down,
        said_off=world.said_off,
    )


class LookNext(NamedTuple):
    """The attempt waits for a look."""

    number: int = 0


Question = LookNext | Call
Answer = Seen | str


class _WaitingError(BaseException):
    """The attempt asks something that has no answer yet: nothing catches this."""


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """One write to the ledger: an intent, or the result of the last one.

    ``started``: the start was announced with it.
    """

    intent: Intent | None = None
    target: tuple[tuple[str, Any], ...] = ()
    result: StepResult | None = None
    started: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """Where an attempt stands: what it waits for, or the outcome; and what it has written.

    ``carried`` is all that it takes from round to round; with the answers since, of which there are
    ``since``, it says how the attempt goes on.
    """

    question: Question | None
    outcome: Outcome | None
    writes: tuple[Write, ...]
    carried: tuple[object, ...]
    since: int


class _Tape:
    """The recorded answers; raises where there is no further one."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self.answers = answers
        self.position = 0
        self.question: Question | None = None
        self.writes: list[Write] = []
        self.carried: tuple[object, ...] = ()
        self.since = 0
        self.rounds = 0
        self.attempt: Attempt | None = None

    def ask(self, question: Question) -> Answer:
        if self.question is not None or self.position == len(self.answers):
            self.question = self.question or question
            raise _WaitingError
        self.position += 1
        return self.answers[self.position - 1]

    def write(self, write: Write) -> None:
        if self.question is not None:
            raise _WaitingError
        self.writes.append(write)

    def mark(self, attempt: Attempt, *where: object) -> None:
        """Note all that the attempt takes with it from here: what it was answered is over."""
        self.attempt = attempt
        self.since = self.position
        self.carried = (
            self.rounds, attempt.case, attempt.started, attempt.parked_by,
            tuple(attempt.refused), attempt.setbacks, attempt.trouble is not None, *where,
        )  # fmt: skip

    def mark_call(self) -> None:
        """Note that only the answer to a call is wanted: the look before it has passed."""
        assert self.attempt is not None
        self.mark(self.attempt, *self.carried[7:], "call")


class _File:
    """The ledger's part in the attempt: ``handlers.case.CaseFile``."""

    def __init__(self, case: Case, tape: _Tape, sides: _Sides) -> None:
        self.case = case
        self.now = NOW
        self._tape = tape
        self._sides = sides

    def locate(self, backend: str) -> None:
        """Every case of this world knows its backend, or learns it at no cost."""

    def spend(self, spending: Spending) -> None:
        """Nothing is held back."""

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
        intent = Intent(
            kind, StepResult.INTENDED, request_id, self.case.attempts, target["attachment_id"],
            NOW, grounds(evidence),
        )  # fmt: skip
        self._tape.write(
            Write(intent, tuple(sorted(target.items())), started=announcement is not None)
        )

    def result(self, request_id: str, result: StepResult, detail: str) -> None:
        """Write down how it ended."""
        self._tape.write(Write(result=result))

    def late(self) -> LateCalls:
        """Return what may still act, as of the last look."""
        return dataclasses.replace(self.case.late, detach_tried_at=ago(self._sides.seen.tried))

    def connector_of(self, host: str) -> Connector | None:
        """Return the connector of a host that was learned."""
        return connector(host) if host in self._sides.seen.known else None

    def off_word(self, host: str) -> OffWord | None:
        """Return a person's word that a host is powered off."""
        said = host in self._sides.seen.said_off
        return OffWord(host, "a person", NOW, NOW + HORIZON, "unplugged") if said else None

    def word_counted(self, host: str) -> None:
        """Nothing counted."""

    def heard_of(self, host: str, why: str, *, seen_anew: bool = False) -> None:
        """Let a word stand that ought to end: what it says is then wrong for longer."""

    def learned_clients(self) -> Mapping[str, ClientInstance]:
        """No client is learned: the drivers of this world know hosts."""
        return {}

    def learn(self, seen: LearnedClient) -> ClientInstance | None:
        """Keep nothing."""


def ago(horizons: int | None) -> datetime | None:
    """Return the time so many late horizons ago."""
    return None if horizons is None else NOW - horizons * HORIZON


class _Sides:
    """Cinder and Nova as one look sees them, and where calls go: both protocols."""

    def __init__(self, tape: _Tape) -> None:
        self.tape = tape
        self._seen: Seen | None = None

    @property
    def seen(self) -> Seen:
        """The last look."""
        assert self._seen is not None
        return self._seen

    def look(self) -> None:
        """Look at everything at once."""
        answer = self.tape.ask(LookNext())
        assert isinstance(answer, Seen)
        self._seen = answer

    def call(self, name: str, row: str | None = None, server: str | None = None,
             to: Connector | None = None) -> None:  # fmt: skip
        """Make a call, and raise what its answer means."""
        host = (to.host or "") if to else ""
        self.tape.mark_call()
        match self.tape.ask(Call(name, row or "", server or "", host)):
            case str(answer) if answer == UNANSWERED:
                raise IndeterminateError
            case str(answer) if answer == CONFLICT:
                raise ConflictError
            case str(answer) if answer == NOT_FOUND:
                raise NotFoundError
            case answer:
                assert answer == DONE, answer

    # -- Cinder ------------------------------------------------------------------------------------

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Volume:
        seen = self.seen
        ref = VolumeRef(VOLUME, BACKEND, multiattach=seen.multiattach)
        rows = tuple(_shown_row(row) for row in seen.rows)
        return Volume(ref, seen.status, None, rows, service_up=True)

    def reserve(self, volume_id: str, **_: Any) -> None:
        self.call("cinder.reserve")

    def unreserve(self, volume_id: str, **_: Any) -> None:
        self.call("cinder.unreserve")

    def roll_detaching(self, volume_id: str, **_: Any) -> None:
        self.call("cinder.roll_detaching")

    def has_service_token(self) -> bool:
        return True

    def protocol_of(self, volume: Volume, *, timeout_seconds: float) -> str:
        return "iscsi"

    def complete(self, attachment_id: str, **_: Any) -> None:
        self.call("cinder.complete", attachment_id)

    def delete_attachment(self, attachment_id: str, **_: Any) -> None:
        self.call("cinder.delete_attachment", attachment_id)

    def terminate_connection(self, volume_id: str, to: Connector, **_: Any) -> None:
        self.call(TERMINATES, to=to)

    def force_detach(
        self, volume_id: str, attachment_id: str | None, to: Connector, **_: Any
    ) -> None:
        self.call("cinder.force_detach", attachment_id, to=to)

    # -- Nova --------------------------------------------------------------------------------------

    def server(
        self, instance_id: str, volume_id: str, *, timeout_seconds: float
    ) -> ShownServer | None:
        found = next(s for s in self.seen.servers if s.name == instance_id)
        return None if found.gone else _shown_server(found, self.seen.down)

    def deleted_server(self, instance_id: str, *, timeout_seconds: float) -> DeletedServer:
        found = next(s for s in self.seen.servers if s.name == instance_id)
        return DeletedServer(instance_id, found.ended_on or None)

    def compute_up(self, host: str, *, timeout_seconds: float) -> bool:
        return host not in self.seen.down

    def holders(self, volume_id: str, host: str, *, timeout_seconds: float) -> tuple[str, ...]:
        return tuple(
            server.name
            for server in self.seen.servers
            if server.device and not server.gone
            if server.host == host or server.task == "migrating"
        )

    def swapping(self, instance_id: str, *, timeout_seconds: float) -> Swap:
        return Swap.NONE  # nobody swaps a volume in this world

    def detach(self, instance_id: str, volume_id: str, **_: Any) -> None:
        self.call("nova.detach", self._device_of(instance_id), instance_id)

    def _device_of(self, instance_id: str) -> str:
        return next(s.device for s in self.seen.servers if s.name == instance_id)


def _shown_row(row: Row) -> CinderAttachment:
    host = row.host if row.status == ATTACHED else None
    return CinderAttachment(row.name, row.status, row.server, row.status != RESERVED, host)


def _shown_server(server: Server, down: tuple[str, ...]) -> ShownServer:
    devices = (BlockDevice(server.device),) if server.device else ()
    return ShownServer(
        instance_id=server.name, vm_state="active", task_state=server.task or None,
        host=server.host, compute_up=server.host not in down, launched=True, block_devices=devices,
    )  # fmt: skip


class SeeingDriver(StorageDriver):
    """A driver that sees accesses and sessions, as ``drivers/tgt`` does."""

    capabilities = Capabilities(
        sees_connections=True, sees_hosts=True, sees_sessions=True, lists_exports=True,
        revokes_access=True, ends_sessions=True,
    )  # fmt: skip

    def __init__(self, sides: _Sides) -> None:
        super().__init__(BACKEND, {})
        self._sides = sides

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Return who is let in or in session."""
        seen = self._sides.seen
        hosts = sorted({*seen.access, *seen.sessions})
        return Observation(tuple(_connection(host, seen) for host in hosts), "it answered")

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Revoke the access of the host, and end its sessions."""
        name = StepKind.BACKEND_FORCE_DETACH.value
        self._sides.call(name, attachment.attachment_id, to=attachment.connector)

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Do nothing more."""


def _connection(host: str, seen: Seen) -> Connection:
    name = "somebody" if seen.lacks == "names" else connector(host).initiator
    return Connection(name or "", access=host in seen.access, sessions=int(host in seen.sessions))


class NamelessDriver(SeeingDriver):
    """One that sees that somebody is connected, and not who."""

    capabilities = dataclasses.replace(SeeingDriver.capabilities, sees_hosts=False)


class AccessSeeingDriver(SeeingDriver):
    """One that sees who is let in, and not who is in session."""

    capabilities = dataclasses.replace(SeeingDriver.capabilities, sees_sessions=False)


class OnlySeeingDriver(SeeingDriver):
    """One that cannot keep a host out."""

    capabilities = dataclasses.replace(
        SeeingDriver.capabilities, revokes_access=False, ends_sessions=False
    )


DRIVERS = {
    "": SeeingDriver, "sessions": AccessSeeingDriver, "names": NamelessDriver,
    "revoking": OnlySeeingDriver,
}  # fmt: skip


class _Recovery(Recovery):
    """The real one; it only tells when a round begins."""

    def __init__(self, tape: _Tape, sides: _Sides, policy: BackendPolicy) -> None:
        self._tape = tape
        self._sides = sides
        super().__init__(
            cast("Cinder", sides), cast("Nova", sides), self._driver_of, lambda _: policy
        )
        self._viewer = _Viewer(self._viewer, sides)
        self._stepper = _Stepper(self._viewer, self._stepper.calls, self._stepper.paused)
        object.__setattr__(self._stepper, "tape", tape)

    def _driver_of(self, backend: str) -> StorageDriver:
        if self._sides.seen.blind:
            return CinderManagedDriver(backend, {}, cinder=cast("Cinder", self._sides))
        return DRIVERS[self._sides.seen.lacks](self._sides)

    def _round(self, attempt: Attempt) -> Outcome | None:
        self._tape.rounds += 1
        self._tape.mark(attempt)
        return super()._round(attempt)


class _Viewer(Viewer):
    """The real one; a look is one question, not one for each side."""

    sides: _Sides

    def __init__(self, viewer: Viewer, sides: _Sides) -> None:
        fields = {f.name: getattr(viewer, f.name) for f in dataclasses.fields(viewer)}
        super().__init__(**fields)
        object.__setattr__(self, "sides", sides)

    def look(self, attempt: Attempt) -> tuple[Evidence, Diagnosis]:
        """Look at all three sides at one moment."""
        self.sides.look()
        return super().look(attempt)


class _Stepper(steps_module.Stepper):
    """The real one; it only tells when a step begins, and what it rests on."""

    tape: _Tape

    def make(self, attempt: Attempt, plan: Plan, step: Step) -> None:
        """Make it."""
        s, made = plan.situation, plan.steps.index(step)
        rests_on = (plan.diagnosis.rule, plan.steps, made, s.volume.attachments, s.volume.ref)
        self.tape.mark(attempt, *rests_on)
        super().make(attempt, plan, step)


def go_on(case: Case, answers: tuple[Answer, ...], policy: BackendPolicy) -> Stopped:
    """Run the attempt at the case with these answers, as far as they go."""
    tape = _Tape(answers)
    sides = _Sides(tape)
    recovery = _Recovery(tape, sides, policy)
    outcome = None
    with suppress(_WaitingError):
        outcome = recovery.attempt(_File(case, tape, sides))
    return Stopped(tape.question, outcome, tuple(tape.writes), tape.carried, tape.since)


@contextmanager
def still_clock() -> Iterator[None]:
    """Let no time go by inside an attempt, and give every call the same request id."""
    still = types.SimpleNamespace(monotonic=lambda: 0.0)
    one_id = types.SimpleNamespace(uuid4=lambda: "ours")
    with ExitStack() as stack:
        for module in (attempt_module, recovery_module, steps_module):
            stack.enter_context(mock.patch.object(module, "time", still))
        stack.enter_context(mock.patch.object(steps_module, "uuid", one_id))
        yield


def announced(outcome: Outcome) -> tuple[Event, ...]:
    """Return which events an outcome announces."""
    return tuple(Event(told.event_type) for told in outcome.announcements)
