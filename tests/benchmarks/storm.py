"""How fast a storm of stuck volumes is worked off, beside what the cloud's own slowness allows.

    python -m tests.benchmarks.storm [--volumes 10000] [--profile FILE]

A simulated cloud in a process of its own answers each call after 50 ms; `detachd serve` runs in
another, with 64 workers, a private RabbitMQ and a ledger on SQLite that holds the storm already.
The look after settling is put off, so the storm is over when every case has been mended.

The ideal is the calls that the plans need, each of 50 ms, spread evenly over 64 workers that are
never without one. A look is three of them, one at Cinder, one at Nova, one at the backend; a case
takes a look at first, one right before each step of its plan, and one at what came of it all. Until
the access of its host is ended each look asks Nova too whether that host is up, and who may be
using the volume there; and before a release from a server that exists, whether that one swaps a
volume. Each step takes the calls that it makes. A call that is made
twice is in the time, but not in the ideal. The time is that from the beginning of the first call to
the end of the last, as the cloud saw them: what the service does to start, and to send the last
announcements, is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from consumer.demo.wire import API_PUBLISHER, Message, SentAttachment, Story
from consumer.ledger import Arrival, Ledger
from drivers.base import Connector
from drivers.simulator import Cloud, scenes
from drivers.simulator.hazards import Call
from drivers.simulator.remote import serve_cloud
from drivers.simulator.scenes import Scene
from handlers.case import CaseState
from handlers.notification import Notification, parse
from tests.bus import Peer
from tests.integration.service_process import BRISK, DETACHD, Installation, Places, simulated
from tests.services.rabbitmq import RabbitMQ

WORKERS = 64
BACKENDS = tuple(f"storage-{number}@tgt" for number in range(1, 9))
HOSTS = tuple(f"compute-{number}" for number in range(1, 65))
LATENCY_SECONDS = 0.05
AUTHKEY = "storm"
PATIENT = dataclasses.replace(
    BRISK, look_timeout_seconds=10.0, call_timeout_seconds=10.0, late_horizon_seconds=100_000.0,
)  # fmt: skip
MOST_SECONDS = 900.0
LOOK_CALLS = 3
NOVA_TRIES = 5
FORCE_DETACH_CALLS = 2
"""The driver's terminate_connection and its detach."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plot:
    """How volumes get stuck, and what mending one takes.

    ``function`` is the one of Nova's by which the bus tells of it; ``steps`` are the plan's, each
    by the number of calls that it makes. ``asked`` are the questions of hosts and of swaps.
    """

    arrange: Callable[..., Scene]
    function: str
    steps: tuple[int, ...]
    asked: int

    @property
    def calls(self) -> int:
        """The calls that mending one such volume needs."""
        looks = 1 + len(self.steps) + 1
        return LOOK_CALLS * looks + self.asked + sum(self.steps)


PLOTS = (
    # terminate and remove the export, then delete the row or give the volume free
    Plot(scenes.uc1, "attach_volume", steps=(FORCE_DETACH_CALLS, 1), asked=2 * 2 + 3),
    Plot(scenes.uc3, "detach_volume", steps=(FORCE_DETACH_CALLS, 1), asked=0),
    # keep others out meanwhile
    Plot(scenes.uc5, "attach_volume", steps=(1, FORCE_DETACH_CALLS, 1), asked=3 * 2),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Stuck:
    """One stuck volume, by which of Nova's functions the bus tells of it, and what it takes."""

    scene: Scene
    backend: str
    function: str
    calls: int


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What the cloud saw of the storm: the ``calls`` made, beside those that were ``needed``.

    ``overlaps``: writes on a volume that met another's.
    """

    needed: int
    calls: int
    seconds: float
    statuses: Counter[str]
    hazards: int
    overlaps: int
    cpu_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Storm:
    """How a storm went. ``resident_bytes`` is the most that the service's process ever had."""

    seen: Seen
    cases: Counter[str]
    resident_bytes: int
    cpu_seconds: float

    @property
    def ideal_seconds(self) -> float:
        """The time that the needed calls take where all workers are in one all the time."""
        return self.seen.needed * LATENCY_SECONDS / WORKERS

    @property
    def ratio(self) -> float:
        """The part of the ideal that was reached."""
        return self.ideal_seconds / self.seen.seconds


# --- the cloud's process ----------------------------------------------------------------------


def be_the_cloud(line: Connection[Any, Any], volumes: int) -> None:
    """Arrange the storm, serve it, and say what was seen when asked."""
    with Cloud() as cloud:
        stuck = list(_arranged(cloud, volumes))
        cloud.set_latency(LATENCY_SECONDS)
        with serve_cloud(cloud, authkey=AUTHKEY.encode()) as server:
            line.send((server.address, stuck, {h: cloud.connector(h) for h in HOSTS}))
            began_cpu_seconds = time.process_time()
            line.recv()
            line.send(_seen(cloud, stuck, began_cpu_seconds))
            cloud.close()


def _arranged(cloud: Cloud, volumes: int) -> Iterator[Stuck]:
    places = zip(itertools.cycle(PLOTS), itertools.cycle(BACKENDS), itertools.cycle(HOSTS))
    for plot, backend, host in itertools.islice(places, volumes):
        scene = plot.arrange(cloud, host=host, backend=backend)
        yield Stuck(scene, backend, plot.function, plot.calls)
        cloud.clear_faults()


def _seen(cloud: Cloud, stuck: Sequence[Stuck], began_cpu_seconds: float) -> Seen:
    calls = cloud.journal
    return Seen(
        needed=sum(s.calls for s in stuck),
        calls=len(calls),
        seconds=max(c.ended_seconds or 0.0 for c in calls) - min(c.began_seconds for c in calls),
        statuses=Counter(cloud.statuses(s.scene.volume_id)[0] for s in stuck),
        hazards=len(cloud.hazards()),
        overlaps=overlaps(calls),
        cpu_seconds=time.process_time() - began_cpu_seconds,
    )


def overlaps(calls: Iterable[Call]) -> int:
    """Count the writes that began on a volume before an earlier write on it had ended."""
    free_at: dict[str | None, float] = {}
    met = 0
    for call in calls:
        if call.asked.writes:
            met += call.began_seconds < free_at.get(call.volume_id, 0.0)
            free_at[call.volume_id] = call.ended_seconds or float("inf")
    return met


@contextlib.contextmanager
def cloud_process(volumes: int) -> Iterator[tuple[Connection[Any, Any], tuple[Any, ...]]]:
    """Run the cloud in a process of its own; give the line to it and what it arranged."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=be_the_cloud, args=(there, volumes), daemon=True)
    process.start()
    there.close()
    try:
        yield here, here.recv()
    finally:
        process.kill()
        process.join()


# --- the bus's news, straight into the ledger -------------------------------------------------


def tell(ledger: Ledger, stuck: Sequence[Stuck], connectors: dict[str, Connector]) -> None:
    """Open a case for each stuck volume, and let the connector of each host be known."""
    news = itertools.chain.from_iterable(map(_news, stuck))
    messages = itertools.chain(_earlier(connectors), news)
    for batch in iter(lambda: tuple(itertools.islice(messages, 500)), ()):
        accepted = ledger.accept([_arrival(message) for message in batch])
        assert accepted.stored == len(batch), accepted


def _earlier(connectors: dict[str, Connector]) -> Iterator[Message]:
    for host, connector in connectors.items():
        story = Story(f"earlier-{host}", f"guest-{host}", host, BACKENDS[0])
        row = SentAttachment(f"row-{host}", "attached", connector)
        yield story.cinder("attach.end", "in-use", row, publisher=API_PUBLISHER)


def _news(stuck: Stuck) -> Iterator[Message]:
    """Yield Cinder's starts, which name the backend, and Nova's error.

    Of a detach also Nova's own start, and a start of Cinder's for each of Nova's five tries: that
    they were all answered at once is why no case has to wait for a call that may act late.
    """
    scene, operation = stuck.scene, stuck.function.removesuffix("_volume")
    story = Story(scene.volume_id, scene.instance_id, scene.host, stuck.backend)
    if operation == "attach":
        yield story.cinder(
            "attach.start", "reserved", SentAttachment(scene.attachment_id, "reserved")
        )
    else:
        yield story.nova("detach.start")
        row = SentAttachment(scene.attachment_id, "detaching")
        yield from (story.cinder("detach.start", "detaching", row) for _ in range(NOVA_TRIES))
    yield story.nova_legacy_error(stuck.function, "MessagingTimeout", scene.attachment_id)


def _arrival(message: Message) -> Arrival:
    notification = parse(message.body)
    assert isinstance(notification, Notification), notification
    return Arrival(notification, hashlib.sha256(message.body).hexdigest(), "bus")


# --- the storm --------------------------------------------------------------------------------


def storm(volumes: int, profile: Path | None = None) -> Storm:
    """Work off a storm of so many stuck volumes. Blocks for that: two minutes for 10,000."""
    with (
        tempfile.TemporaryDirectory() as directory,
        RabbitMQ() as broker,
        cloud_process(volumes) as (line, (address, stuck, connectors)),
        Peer(broker.url) as peer,
    ):
        peer.declare("nova", "cinder", "detachd")
        for priority in ("info", "error"):
            peer.bind("audit", "detachd", f"detachd_notifications.{priority}")
        url = broker.url.replace("amqp://", "rabbit://")
        sqlite = f"sqlite:///{directory}/ledger.sqlite"
        detachd = Installation(Path(directory), Places(url, sqlite, simulated(address, AUTHKEY)))
        detachd.configure(
            PATIENT,
            worker={"threads": WORKERS, "lease_seconds": 300.0},
            backend_defaults={"concurrency": 2 * WORKERS // len(BACKENDS)},
        )
        with detachd.ledger() as ledger:
            ledger.upgrade()
            tell(ledger, stuck, connectors)
            return _worked_off(detachd, ledger, line, profile)


def _worked_off(
    detachd: Installation, ledger: Ledger, line: Connection[Any, Any], profile: Path | None
) -> Storm:
    profiled = (sys.executable, "-m", "cProfile", "-o", str(profile), "-m", "consumer")
    with detachd.serve(profiled if profile else DETACHD) as service:
        ends_at = time.monotonic() + MOST_SECONDS
        while left := ledger.counts()[CaseState.DUE].count:
            assert service.running, detachd.logs()[-3000:]
            # A call that gave no answer in time puts its case off for as long as it may act.
            assert time.monotonic() < ends_at, f"{left} cases are not worked off, see their reasons"
            time.sleep(0.5)
        line.send("what did you see?")
        seen: Seen = line.recv()
        resident_bytes, cpu_seconds = used(service.pid)
        service.terminate()
    cases = Counter({s.value: n.count for s, n in ledger.counts().items() if n.count})
    return Storm(seen, cases, resident_bytes, cpu_seconds)


def used(pid: int) -> tuple[int, float]:
    """Return the most memory in bytes that a process ever had resident, and its CPU seconds."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(peak.split()[1]) * 1024, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def report(result: Storm) -> str:
    """Say it in words."""
    seen = result.seen
    return (
        f"{seen.needed:,} calls needed, {seen.calls:,} made; {seen.seconds:.1f} s, "
        f"ideal {result.ideal_seconds:.1f} s: ratio {result.ratio:.2f}; "
        f"{result.resident_bytes / 1e6:.0f} MB, "
        f"{result.cpu_seconds:.1f} s of CPU beside the cloud's {seen.cpu_seconds:.1f}; "
        f"cases {dict(result.cases)}, "
        f"volumes {dict(seen.statuses)}, {seen.hazards} hazards, {seen.overlaps} overlaps"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure how fast a storm is worked off.")
    parser.add_argument("--volumes", type=int, default=1_500)
    parser.add_argument("--profile", type=Path, help="profile the service's main thread")
    given = parser.parse_args()
    sys.stdout.write(f"{report(storm(given.volumes, given.profile))}\n")


if __name__ == "__main__":
    main()
