"""Plays situations on the whole service: in-memory broker, SQLite, the simulated cloud.

All situations of one play are on the stage at once, each with a volume, servers and hosts of its
own, and go the way of every notification. A play is *told*, by the bus, or *silent*: then only the
sweep can find what is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from consumer.bus.in_memory import InMemoryBus, Published
from consumer.demo.performance import last_attach, serving
from consumer.demo.scenes import Stage
from consumer.demo.wire import Message
from consumer.ledger import CaseRecord, Ledger
from drivers.simulator import DEFAULT_BACKEND, Cloud
from handlers.case import Case, CaseState, StepResult
from tests.bus import forget_memory, until
from tests.situations.arrangements import BACKENDS

AT_REST = (CaseState.CLOSED, CaseState.PARKED)
LOOKS = 2
"""After how many looks with the same answer a case that goes on waiting has been seen."""

SWEEP = """
[sweep]
interval_seconds = 1
attaching_seconds = 2
detaching_seconds = 2
reserved_seconds = 2
error_seconds = 2
"""
NO_SWEEP = """
[sweep]
enabled = false
"""

NO_BRAKES = """
[brakes]
backend_burst = 0
host_burst = 0
project_burst = 0
per_day = 0
breaker_failures = 0
"""
"""All situations are stuck at once, mostly on one backend."""

Situation = Callable[[Stage], Sequence[Message]]


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """What came of a situation: what was decided and done, and what each side holds in the end.

    ``attachments`` are the statuses of Cinder's rows, ``backend`` the hosts that have access, and
    ``nova`` what the block devices name: a row's status, "gone" where Cinder has no such row, or
    "none" for none.
    """

    verdict: str | None
    rule: str | None
    reason: str | None
    state: CaseState
    done: tuple[str, ...]
    announced: tuple[str, ...]
    status: str
    attachments: tuple[str, ...]
    backend: tuple[str, ...]
    nova: tuple[str, ...]

    @property
    def decided(self) -> tuple[str | None, str | None, str]:
        """The verdict, the rule and what became of the case."""
        return self.verdict, self.rule, self.state.value

    @property
    def holds(self) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """What all three sides hold: Cinder's status and rows, the backend, Nova."""
        return self.status, self.attachments, self.backend, self.nova


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """A situation on its stage, and what the bus is going to tell of it."""

    situation: Situation
    stage: Stage
    messages: tuple[Message, ...]


def play(
    directory: Path, situations: Iterable[Situation], *, told: bool
) -> Mapping[Situation, Ended]:
    """Play them all at once and say how each ended. Blocks for some ten seconds."""
    with Cloud() as cloud:
        acts = [_arrange(cloud, one, number) for number, one in enumerate(situations, start=1)]
        hosts = [on for act in acts for on in _hosts(act.stage)]
        messages = [message for act in acts for message in act.messages] if told else []
        with on_stage(cloud, directory, NO_SWEEP if told else SWEEP, hosts, messages) as ledger:
            until(lambda: all(_over(ledger, act) for act in acts), 60.0)
            ended = {act.situation: _ended(ledger, act) for act in acts}
        assert cloud.hazards() == ()
    return ended


@contextlib.contextmanager
def on_stage(
    cloud: Cloud,
    directory: Path,
    configuration: str,
    hosts: Iterable[Stage],
    messages: Iterable[Published],
) -> Iterator[Ledger]:
    """Run the service on this cloud, and have the bus tell it these messages; yield its ledger.

    Before that the bus tells of an earlier attach on each of the hosts, so that their connectors
    are known. ``configuration`` is added to the demo's.
    """
    forget_memory()
    with serving(cloud, directory, configuration + NO_BRAKES) as service, InMemoryBus() as bus:
        bus.publish([last_attach(on) for on in hosts])
        bus.publish(messages)
        yield service.ledger
    forget_memory()


def _arrange(cloud: Cloud, situation: Situation, number: int) -> Act:
    host = f"compute-{number}"
    volume = cloud.create_volume(backend=BACKENDS.get(situation, DEFAULT_BACKEND))
    stage = Stage(cloud, volume, cloud.boot_server(host=host), host)
    return Act(situation, stage, tuple(situation(stage)))


def _hosts(stage: Stage) -> Iterator[Stage]:
    """Yield the stage on each of its hosts: its own, and those that situations call by its name."""
    for host in (stage.host, f"{stage.host}-destination", f"{stage.host}-other"):
        yield dataclasses.replace(stage, host=host)


def _over(ledger: Ledger, act: Act) -> bool:
    cases = ledger.cases(volume_id=act.stage.volume_id)
    return bool(cases) and at_rest(cases)


def at_rest(cases: Iterable[Case]) -> bool:
    """Tell whether each case is at rest, or goes on waiting after looks with the same answer."""
    return not any(
        case.state is CaseState.SETTLING
        or (case.state not in AT_REST and (case.attempts < LOOKS or case.verdict is None))
        for case in cases
    )


def _ended(ledger: Ledger, act: Act) -> Ended:
    stage = act.stage
    cases = [ledger.case(c.case_id) for c in ledger.cases(volume_id=stage.volume_id)]
    acted = max(cases, key=lambda c: (len(c.intents), c.case.attempts))
    volume = stage.cloud.cinder.volume(stage.volume_id, timeout_seconds=1.0)
    attachments = (
        {attachment.attachment_id: attachment.status for attachment in volume.attachments}
        if volume
        else {}
    )
    return Ended(
        *_decided(acted),
        state=acted.case.state,
        done=done(acted),
        announced=announced(acted),
        status=volume.status if volume else "gone",
        attachments=tuple(sorted(attachments.values())),
        backend=_let_in(stage) if volume else (),
        nova=tuple(sorted(_named(stage, attachments))),
    )


def done(record: CaseRecord) -> tuple[str, ...]:
    """Return the writes that were made for a case, in order."""
    return tuple(i.kind.value for i in record.intents if i.result is StepResult.DONE)


def announced(record: CaseRecord) -> tuple[str, ...]:
    """Return what was announced of a case: start, end, error, parked, in order."""
    return tuple(sent.event_type.rpartition(".")[2] for sent in record.outbox)


def _let_in(stage: Stage) -> tuple[str, ...]:
    hosts = stage.cloud.exported_to(stage.volume_id)
    return tuple(host.replace(stage.host, "HOST") for host in hosts)


def _decided(record: CaseRecord) -> tuple[str | None, str | None, str | None]:
    """Return verdict, rule and reason of the first look that acted; where none did, of the last."""
    for sent in record.outbox:
        return sent.payload["verdict"], sent.payload["rule"], record.case.reason
    return record.case.verdict, record.case.rule, record.case.reason


def _named(stage: Stage, attachments: Mapping[str, str]) -> Iterator[str]:
    server = stage.cloud.nova.server(stage.instance_id, stage.volume_id, timeout_seconds=1.0)
    for device in server.block_devices if server else ():
        yield (
            "none"
            if device.attachment_id is None
            else attachments.get(device.attachment_id, "gone")
        )
