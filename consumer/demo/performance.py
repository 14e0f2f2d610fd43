"""Plays the scenes on the whole service with embedded parts, and compares the results.

The broker is kombu's in-memory one, the ledger is a temporary SQLite file, and the cloud is
simulated. The service is the one that ``detachd serve`` runs, in mode auto, with short times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from consumer.bus.in_memory import InMemoryBus
from consumer.cloud import ControlPlane
from consumer.demo.scenes import SCENES, Scene, Stage, last_attach, new_stage
from consumer.demo.wire import Message
from consumer.ledger import CaseRecord, Ledger
from consumer.service import Parts, Service
from consumer.settings import configuration
from drivers.simulator import Cloud
from handlers.case import Case, CaseState, StepResult

# The scenes take about six.
PATIENCE_SECONDS = 15.0
POLL_SECONDS = 0.1
ENDED = (CaseState.CLOSED, CaseState.PARKED)

CONFIGURATION = """
[DEFAULT]
transport_url = kombu+memory:////
[cloud]
rpc_response_timeout_seconds = 0.2
[ledger]
connection = sqlite:///{directory}/ledger.sqlite
attach_deadline_seconds = 1.5
detach_deadline_seconds = 1.5
error_settle_seconds = 0.3
second_look_seconds = 1.1
second_looks_per_minute = 1000
[listener]
bindings = nova:notifications, nova:versioned_notifications, cinder:notifications
[publisher]
poll_seconds = 0.1
[worker]
threads = 8
lease_seconds = 300
poll_seconds = 0.05
drain_seconds = 5
[exporter]
port = 0
[backend_defaults]
driver = simulator
mode = auto
concurrency = 6
look_timeout_seconds = 5
call_timeout_seconds = 5
retry_backoff_seconds = 0.5
late_horizon_seconds = 1
nova_detach_wait_seconds = 2
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """The real state of a volume in the simulated cloud."""

    status: str
    rows: tuple[str, ...]
    backend: tuple[str, ...]

    def cinder(self) -> str:
        """Return the status of the volume and of its attachments, for display."""
        return f"{self.status} [{', '.join(self.rows)}]" if self.rows else self.status

    def hosts(self) -> str:
        """Return the hosts that have access on the backend, for display."""
        return ", ".join(self.backend) or "-"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """The result of one scene. The fields are the columns of the table and the keys in JSON."""

    scenario: str
    verdict: str | None
    rule: str | None
    steps: tuple[str, ...]
    cinder_before: str
    cinder_after: str
    backend_before: str
    backend_after: str
    verified_by: str | None
    announced: tuple[str, ...]
    ok: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """A scene on its stage, the state before, and the messages to publish."""

    scene: Scene
    stage: Stage
    before: Observed
    messages: tuple[Message, ...]


def perform(progress: Callable[[Mapping[str, str]], None]) -> list[Row]:
    """Play all scenes at once; ``progress`` is called with the states, many times a second.

    Blocks for about six seconds, at most ``PATIENCE_SECONDS`` and the stop of the service.
    """
    with Cloud() as cloud, tempfile.TemporaryDirectory(prefix="detachd-demo-") as directory:
        acts = [_arrange(cloud, scene, number) for number, scene in enumerate(SCENES, start=1)]
        with (
            serving(cloud, Path(directory)) as service,
            InMemoryBus() as bus,
        ):
            # First: a host whose connector nobody has heard of cannot be released.
            bus.publish([last_attach(act.stage) for act in acts])
            bus.publish([message for act in acts for message in act.messages])
            _watch(service.ledger, acts, bus, progress)
            return [_row(act, _case_of(service.ledger, act), bus) for act in acts]


def _arrange(cloud: Cloud, scene: Scene, number: int) -> Act:
    stage = new_stage(cloud, number)
    messages = tuple(scene.arrange(stage))
    return Act(scene, stage, _observe(stage), messages)


@contextlib.contextmanager
def serving(cloud: Cloud, directory: Path, more: str = "") -> Iterator[Service]:
    """Run the service on this cloud within the block; ``more``: further configuration."""
    file = directory / "detachd.conf"
    file.write_text(CONFIGURATION.format(directory=directory) + more)
    parts = Parts(ControlPlane(cloud.cinder, cloud.nova), cloud.driver)
    service = Service(configuration.load([file]), parts)
    service.ledger.upgrade()
    # Otherwise nothing that a first sweep finds would be acted on.
    service.ledger.sweeps.acknowledge("the demo", "the cloud is as new as the ledger")
    service.start()
    try:
        # What is published before a queue is bound is lost.
        _until(lambda: all(one.status().connected for one in service.listeners))
        yield service
    finally:
        service.stop()
        service.wait()


def _watch(
    ledger: Ledger,
    acts: Sequence[Act],
    bus: InMemoryBus,
    progress: Callable[[Mapping[str, str]], None],
) -> None:
    def all_over() -> bool:
        progress({act.scene.name: _state_of(ledger, act) for act in acts})
        return all(_finished(ledger, act, bus) for act in acts)

    _until(all_over)


def _until(done: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not done() and time.monotonic() < ends_at:
        time.sleep(POLL_SECONDS)


def _finished(ledger: Ledger, act: Act, bus: InMemoryBus) -> bool:
    case = _case_of_scene(ledger, act)
    if case is None or case.attempts == 0:
        return False
    expected = act.scene.expected
    rests = case.state in ENDED or case.state.value == expected.state
    announced = len(bus.announced(act.stage.volume_id)) >= len(expected.announced)
    return rests and announced


def _case_of_scene(ledger: Ledger, act: Act) -> Case | None:
    """Return the case of the scene; if Nova's clean-up opened another, the one that acted."""
    cases = ledger.cases(volume_id=act.stage.volume_id)
    return max(cases, key=lambda case: (case.attempts, case.opened_at), default=None)


def _state_of(ledger: Ledger, act: Act) -> str:
    case = _case_of_scene(ledger, act)
    return case.state.value if case else "unseen"


def _case_of(ledger: Ledger, act: Act) -> CaseRecord | None:
    case = _case_of_scene(ledger, act)
    return ledger.case(case.case_id) if case else None


def _row(act: Act, record: CaseRecord | None, bus: InMemoryBus) -> Row:
    after = _observe(act.stage)
    verdict, rule = _decided(record)
    row = Row(
        scenario=act.scene.name,
        verdict=verdict,
        rule=rule,
        steps=_steps(record),
        cinder_before=act.before.cinder(),
        cinder_after=after.cinder(),
        backend_before=act.before.hosts(),
        backend_after=after.hosts(),
        verified_by=_verified_by(record),
        announced=bus.announced(act.stage.volume_id),
        ok=False,
    )
    return dataclasses.replace(row, ok=_as_expected(act, row, record, after))


def _decided(record: CaseRecord | None) -> tuple[str | None, str | None]:
    """Return verdict and rule of the first look that acted; if none did, of the last."""
    if record is None:
        return None, None
    for sent in record.outbox:
        payload: Mapping[str, Any] = sent.payload
        return payload["verdict"], payload["rule"]
    return record.case.verdict, record.case.rule


def _steps(record: CaseRecord | None) -> tuple[str, ...]:
    intents = record.intents if record else ()
    return tuple(i.kind.value for i in intents if i.result is StepResult.DONE)


def _verified_by(record: CaseRecord | None) -> str | None:
    values = [sent.payload["verified_by"] for sent in record.outbox] if record else []
    return next((by for by in values if by), None)


def _as_expected(act: Act, row: Row, record: CaseRecord | None, after: Observed) -> bool:
    expected, host = act.scene.expected, act.stage.host
    hosts = tuple(name.replace("HOST", host) for name in expected.backend)
    return (
        record is not None
        and (row.verdict, row.rule) == (expected.verdict, expected.rule)
        and (row.steps, row.announced) == (expected.steps, expected.announced)
        and record.case.state.value == expected.state
        and after.status == expected.cinder
        and after.backend == tuple(sorted(hosts))
        # The simulation saw everything: a right result by a dangerous way is no success.
        and not act.stage.cloud.hazards()
    )


def _observe(stage: Stage) -> Observed:
    volume = stage.cloud.cinder.volume(stage.volume_id, timeout_seconds=1.0)
    hosts = stage.cloud.exported_to(stage.volume_id)
    if volume is None:
        return Observed("gone", (), hosts)
    return Observed(volume.status, tuple(row.status for row in volume.attachments), hosts)
