"""The whole service in this process: kombu's in-memory broker, SQLite, a simulated cloud."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from consumer import service as service_module
from consumer.cloud import ControlPlane
from consumer.errors import ConfigurationError
from consumer.intake.listener import Listener
from consumer.ledger import Ledger, SchemaBehindError
from consumer.ledger.database.tables import cases
from consumer.periodic.loop import Loop
from consumer.publish.publisher import Publisher
from consumer.service import Parts, Service
from consumer.settings.configuration import load
from consumer.work.worker import Worker
from drivers.control_plane import Volume
from drivers.simulator import DEFAULT_BACKEND, Cloud
from drivers.simulator.scenes import uc1
from handlers.case import CaseState
from metrics.exporter import ExporterError
from tests.bus import MEMORY, Peer, brisk_by_default, forget_memory, new_ledger, until
from tests.recorded import FAILED_ATTACH, recording, renewed
from tests.services import ledgers
from tests.unit.consumer.due import only_case, open_case

CONFIGURATION = """
[DEFAULT]
transport_url = {transport_url}
[ledger]
connection = sqlite:///{directory}/ledger.sqlite
error_settle_seconds = 0
[worker]
poll_seconds = 0.05
drain_seconds = {drain_seconds}
[publisher]
poll_seconds = 0.05
[exporter]
port = {port}
status_page = {status_page}
[backend_defaults]
driver = {driver}
mode = {mode}
"""

Build = Callable[..., Service]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Give an empty simulated cloud, and an empty in-memory broker."""
    forget_memory()
    with Cloud() as made:
        yield made
    forget_memory()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no part wait for the bus for long."""
    brisk_by_default(monkeypatch)


@pytest.fixture
def build(tmp_path: Path, cloud: Cloud) -> Iterator[Build]:
    """Build services on one ledger whose tables are made; stop what still runs."""
    built: list[Service] = []

    def build_service(
        *,
        transport_url: str = MEMORY,
        port: int = 0,
        drain_seconds: float = 60.0,
        mode: str = "observe",
        driver: str = "simulator",
        upgrade: bool = True,
        status_page: bool = False,
        section: str = "",
        **parts: Any,
    ) -> Service:
        path = tmp_path / "detachd.conf"
        path.write_text(
            CONFIGURATION.format(
                directory=tmp_path,
                transport_url=transport_url,
                port=port,
                drain_seconds=drain_seconds,
                mode=mode,
                driver=driver,
                status_page=status_page,
            )
            + section
        )
        simulated = Parts(ControlPlane(cloud.cinder, cloud.nova), cloud.driver)
        service = Service(load([path]), dataclasses.replace(simulated, **parts))
        if upgrade and not (tmp_path / "ledger.sqlite").exists():
            ledgers.sqlite_in(tmp_path)
        built.append(service)
        return service

    yield build_service
    for service in built:
        service.ledger.close()


@pytest.fixture
def service(build: Build) -> Iterator[Service]:
    """Give a service that runs."""
    made = build()
    made.start()
    until(lambda: made.caught_up)
    yield made
    made.stop()
    made.wait()


def ask(service: Service, path: str) -> requests.Response:
    """Ask the running service over HTTP."""
    return requests.get(f"http://127.0.0.1:{service.exporter.port}{path}", timeout=60)


# -- one notification through it -------------------------------------------------------------------


def test_recorded_notifications_become_a_case_that_is_looked_at(service: Service) -> None:
    """Real messages on the bus -> stored, worked on the cloud, told in the metrics."""
    with Peer(MEMORY) as peer:
        peer.publish(renewed(recording(FAILED_ATTACH)))
    until(lambda: any(case.verdict for case in service.ledger.cases()))
    (case,) = service.ledger.cases()
    assert case.rule == "X4.unknown-to-cinder"  # the simulated cloud never had that volume
    text = ask(service, "/metrics").text
    assert 'detachd_volumes_sought_total{known="no"}' in text
    assert 'detachd_outside_call_duration_seconds_count{call="volume",system="cinder"}' in text
    assert 'detachd_notifications_stored_total{bus="default"}' in text


# -- health ----------------------------------------------------------------------------------------


def test_whole_service_is_ready_and_says_so(service: Service) -> None:
    """Everything runs -> 200, and every component with its reason."""
    page = ask(service, "/readyz")
    assert page.status_code == 200
    components = page.json()["components"]
    parts = {"service", "broker", "listener", "replay", "publisher", "cinder", "nova", "ledger"}
    assert {name for name in components if not name.startswith("backend:")} == parts
    assert all(component["reason"] for component in components.values())


def test_pause_is_told_and_is_not_unready(service: Service) -> None:
    """Paused -> still 200, with who paused it and why; the metric says 1."""
    service.ledger.pause("alice", "maintenance")
    page = ask(service, "/readyz")
    assert page.status_code == 200
    assert page.json()["components"]["ledger"]["reason"] == (
        "available; detachd is paused by alice: maintenance"
    )
    metrics = ask(service, "/metrics").text
    assert "detachd_paused 1.0" in metrics
    assert "detachd_backend_paused{" not in metrics


def test_pause_of_a_backend_is_told(service: Service) -> None:
    """One backend is paused -> still 200 and not the pause of all; the metric names it."""
    service.ledger.pause("alice", "the array", backend="h@lvm")
    page = ask(service, "/readyz")
    assert page.status_code == 200
    assert page.json()["components"]["ledger"]["reason"] == (
        "available; backend h@lvm is paused by alice: the array"
    )
    metrics = ask(service, "/metrics").text
    assert "detachd_paused 0.0" in metrics
    assert 'detachd_backend_paused{backend="h@lvm"} 1.0' in metrics


def test_acknowledged_case_is_left_out_of_the_gauges(service: Service) -> None:
    """A parked case is acknowledged -> in no gauge that alerts ask, counted apart; logged."""
    volume_id = open_case(service.ledger)
    until(lambda: only_case(service.ledger, volume_id).case.verdict)
    parked(service.ledger, volume_id)
    assert 'detachd_cases{state="parked"} 1.0' in ask(service, "/metrics").text
    case_id = only_case(service.ledger, volume_id).case.case_id
    service.ledger.acknowledge(case_id, 3600.0, "alice", "a ticket is open")
    text = ask(service, "/metrics").text
    assert 'detachd_cases{state="parked"} 0.0' in text
    assert 'detachd_cases_acknowledged{state="parked"} 1.0' in text
    assert 'detachd_case_oldest_age_seconds{state="parked"} 0.0' in text


def parked(ledger: Ledger, volume_id: str) -> None:
    """Let the case be parked, as by a look that took all its attempts."""
    case_id = only_case(ledger, volume_id).case.case_id
    with ledger._database.engine.begin() as connection:
        own = cases.update().where(cases.c.case_id == case_id)
        connection.execute(own.values(state=CaseState.PARKED.value, next_attempt_at=None))


def test_nova_that_is_away_degrades_it(build: Build, cloud: Cloud) -> None:
    """Nova is down at the start -> 200, degraded with the reason, in the metrics too; alive."""
    cloud.set_apis(nova_up=False)
    service = build()
    service.start()
    try:
        until(lambda: service.caught_up)
        until(lambda: ask(service, "/readyz").json()["components"]["nova"].get("degraded"))
        page = ask(service, "/readyz")
        assert page.status_code == 200
        nova = page.json()["components"]["nova"]
        assert nova["ok"]
        assert nova["reason"] not in {"answers", "not asked yet"}
        assert 'detachd_degraded{component="nova"} 1.0' in ask(service, "/metrics").text
        assert 'detachd_ready{component="nova"} 1.0' in ask(service, "/metrics").text
        assert ask(service, "/healthz").json() == {"alive": True}
    finally:
        service.stop()
        assert service.wait()


def test_loop_that_hangs_makes_it_unhealthy(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn of the worker takes longer than its bound -> /healthz says which loop, 503."""
    monkeypatch.setattr(service._input[0], "_bound_seconds", -1.0)
    monkeypatch.setattr(service._input[0]._stop, "still_seconds", lambda: 5.0)
    page = ask(service, "/healthz")
    assert page.status_code == 503
    assert page.json()["stuck"][0].startswith("the worker has not turned for 5 s")


def test_broker_that_is_away_makes_it_unready_not_dead(build: Build) -> None:
    """No broker at start -> the service runs and waits; /readyz says why it is not ready."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    service = build(transport_url=f"rabbit://u:canary@127.0.0.1:{port}/")
    service.start()
    try:
        until(lambda: service.listeners[0].status().problems)
        page = ask(service, "/readyz")
        assert page.status_code == 503
        components = page.json()["components"]
        assert "refused" in components["broker"]["reason"]
        assert not components["listener"]["ok"]
        assert components["ledger"]["ok"]
        assert "canary" not in page.text
        assert ask(service, "/healthz").status_code == 200
        assert not service.over.is_set()
    finally:
        service.stop()
        assert service.wait()


def test_ledger_that_cannot_be_read_makes_it_unready(service: Service, tmp_path: Path) -> None:
    """The ledger's file is gone -> 503 that says so, and ledger_up 0 in the metrics."""
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()
    (tmp_path / "ledger.sqlite").mkdir()
    service.ledger.close()
    page = ask(service, "/readyz")
    assert page.status_code == 503
    assert not page.json()["components"]["ledger"]["ok"]
    assert "detachd_ledger_up 0.0" in ask(service, "/metrics").text


# -- start -----------------------------------------------------------------------------------------


def test_schema_that_is_behind_is_refused_before_anything_runs(build: Build) -> None:
    """No `ledger upgrade` yet -> the error says what to run, and no thread was started."""
    service = build(upgrade=False)
    before = set(threading.enumerate())
    with pytest.raises(SchemaBehindError, match="detachd ledger upgrade"):
        service.start()
    until(lambda: set(threading.enumerate()) <= before)  # their last lines may still run


def test_port_that_is_taken_is_refused_before_anything_runs(build: Build, service: Service) -> None:
    """The exporter cannot listen -> an error, and no second listener on the queue."""
    second = build(port=service.exporter.port)
    before = set(threading.enumerate())
    with pytest.raises(ExporterError):
        second.start()
    until(lambda: set(threading.enumerate()) <= before)  # their last lines may still run


@pytest.mark.parametrize(
    "url", ["canary", "rabbit://u:can/ary@h", "rabbit://u:canary@h:port/", "kafka://u:canary@h"]
)
def test_bad_transport_url_is_refused_without_showing_it(build: Build, url: str) -> None:
    """A URL that is none, or of another broker -> what to write instead, no password."""
    with pytest.raises(ConfigurationError, match="transport_url") as error:
        build(transport_url=url)
    assert "rabbit://" in str(error.value)
    assert "ary" not in str(error.value)


def test_a_pause_of_a_backend_without_a_section_is_a_warning_at_start(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """Paused under a name that no section has -> said; the pause of one that has one is not."""
    service = build(section="[backend:new@lvm]\n")
    for name in ("old@lvm", "new@lvm"):
        service.ledger.pause("alice", "the array is down", backend=name)
    service.start()
    service.stop()
    service.wait()
    warned = [r.getMessage() for r in caplog.records if "there is no section" in r.getMessage()]
    assert [text.partition(";")[0] for text in warned] == [
        "backend old@lvm is paused by alice: the array is down"
    ]


def test_mode_and_version_are_told_at_start(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    """A new installation -> the log says that it only observes, and until when."""
    caplog.set_level("INFO")
    service = build()
    service.start()
    service.stop()
    service.wait()
    assert (
        "mode observe: detachd changes nothing until you set another mode for a backend"
        in caplog.text
    )
    assert "backend backend_defaults: mode observe, driver simulator" in caplog.text


@pytest.mark.parametrize(
    ("mode", "driver", "warned"),
    [
        ("auto", "cinder_managed", True),
        ("approve", "cinder_managed", True),
        ("observe", "cinder_managed", False),
        ("auto", "simulator", False),
        ("auto", "cinder_managed\ntrust_blind = true", False),
    ],
)
def test_mode_that_parks_everything_is_told_at_start(
    build: Build, caplog: pytest.LogCaptureFixture, mode: str, driver: str, *, warned: bool
) -> None:
    """It may act, its driver is blind and not trusted -> a warning that everything is parked."""
    service = build(mode=mode, driver=driver)
    service.start()
    service.stop()
    service.wait()
    assert ("cannot see the backend and trust_blind is not set" in caplog.text) is warned


# -- the end ---------------------------------------------------------------------------------------


def test_nothing_is_taken_once_stop_has_returned(service: Service) -> None:
    """A message and a due case after stop() -> neither is touched."""
    service.stop()
    open_case(service.ledger)
    with Peer(MEMORY) as peer:
        peer.publish(renewed(recording(FAILED_ATTACH)))
    time.sleep(0.5)
    (case,) = service.ledger.cases()
    assert case.attempts == 0
    assert service.wait()


class SlowCinder:
    """A simulated Cinder that lets nobody read a volume before the test says so."""

    def __init__(self, cloud: Cloud) -> None:
        self._cinder = cloud.cinder
        self.asked, self.answers = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cinder, name)

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Volume | None:
        """Wait for the test, then read."""
        self.asked.set()
        assert self.answers.wait(240)
        return self._cinder.volume(volume_id, timeout_seconds=timeout_seconds)


def stuck(service: Service, cloud: Cloud) -> str:
    """Let an attachment be stuck in the cloud, and its case be due; return the volume's id."""
    scene = uc1(cloud)
    return open_case(
        service.ledger,
        backend=DEFAULT_BACKEND,
        volume_id=scene.volume_id,
        instance_id=scene.instance_id,
        attachment_id=scene.attachment_id,
    )


class PausingCinder(SlowCinder):
    """A simulated Cinder that is read while a person pauses detachd, from the second look on."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.looks = 0

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Volume | None:
        """Read; the second time, once the test has paused."""
        self.looks += 1
        if self.looks == 1:
            return self._cinder.volume(volume_id, timeout_seconds=timeout_seconds)
        return super().volume(volume_id, timeout_seconds=timeout_seconds)


def test_pause_while_a_call_is_looked_into_keeps_it_from_being_made(
    build: Build, cloud: Cloud
) -> None:
    """Paused between an intent and its call -> the call is withheld and the case handed back."""
    cinder = PausingCinder(cloud)
    service = build(control_plane=ControlPlane(cinder, cloud.nova), mode="auto")
    service.start()
    volume_id = stuck(service, cloud)
    assert cinder.asked.wait(60)
    before = cloud.calls(writes=True)
    service.ledger.pause("alice", "an incident")
    cinder.answers.set()
    until(lambda: only_case(service.ledger, volume_id).claimed_by is None)
    assert cloud.calls(writes=True) == before
    assert [i.result.value for i in only_case(service.ledger, volume_id).intents] == ["withheld"]
    service.stop()
    assert service.wait()


def test_running_attempt_ends_and_is_told_before_the_publisher_stops(
    build: Build, cloud: Cloud
) -> None:
    """Stop in the middle of an attempt -> it ends, and what it announces still goes out."""
    cinder = SlowCinder(cloud)
    service = build(control_plane=ControlPlane(cinder, cloud.nova))
    with Peer(MEMORY) as peer:
        peer.declare("detachd")
        peer.bind("audit", "detachd", "detachd_notifications.error")
        service.start()
        volume_id = stuck(service, cloud)
        assert cinder.asked.wait(60)
        service.stop()
        cinder.answers.set()
        assert service.wait()
        (announcement,) = peer.take_all("audit")
    assert b"volume.force_detach.parked" in announcement
    assert volume_id.encode() in announcement


def test_attempt_that_hangs_does_not_keep_the_service_from_ending(
    build: Build, cloud: Cloud, tmp_path: Path
) -> None:
    """A call that does not come back -> wait() ends within drain_seconds and says "not well"."""
    cinder = SlowCinder(cloud)
    service = build(drain_seconds=1.0, control_plane=ControlPlane(cinder, cloud.nova))
    service.start()
    volume_id = stuck(service, cloud)
    assert cinder.asked.wait(60)
    began = time.monotonic()
    service.stop()
    assert not service.wait()
    assert time.monotonic() - began < 60.0
    with contextlib.closing(Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")) as ledger:
        assert only_case(ledger, volume_id).claimed_by == service.owner
    cinder.answers.set()
    assert service.worker.drain(60.0)


def test_parts_that_all_hang_are_waited_for_together(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loop ends, as where the ledger's host is gone -> drain_seconds in all, not for each."""
    now = 100.0

    def hangs(self: Loop, seconds: float) -> bool:
        nonlocal now
        wait(self, 60.0)  # in truth it ends
        now += max(seconds, 0.0)
        return False

    wait = Loop.wait
    service = build(drain_seconds=20.0)
    service.start()
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "wait", hangs)
        patched.setattr(service_module, "time", SimpleNamespace(monotonic=lambda: now))
        service.stop()
        assert not service.wait()
    assert now - 100.0 == pytest.approx(20.0)


@pytest.mark.parametrize("part", ["listener", "worker", "publisher"])
def test_death_of_a_part_takes_the_service_down(
    build: Build, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One thread dies -> over is set, the log says which, and wait() says "not well"."""

    def broken(*args: object, **kwargs: object) -> None:
        raise MemoryError("a bug")

    monkeypatch.setattr(
        {"listener": Listener, "worker": Worker, "publisher": Publisher}[part], "run", broken
    )
    service = build()
    service.start()
    assert service.over.wait(60)
    service.stop()
    assert not service.wait()
    assert re.search(rf"the {part}( of bus default)? failed", caplog.text)


def test_readiness_is_taken_back_before_the_parts_stop(service: Service) -> None:
    """Stopping -> /readyz answers 503 to the end, while /metrics can still be read."""
    service.stop()
    page = ask(service, "/readyz")
    assert page.status_code == 503
    assert page.json()["components"]["service"] == {"ok": False, "reason": "stopping"}
    assert ask(service, "/metrics").status_code == 200


def test_no_status_page_unless_it_is_asked_for(service: Service) -> None:
    """The default -> there is no such page, and none is named."""
    page = ask(service, "/status")
    assert page.status_code == 404
    assert page.json()["pages"] == ["/metrics", "/healthz", "/readyz"]


def test_status_page_of_a_service_that_runs(build: Build) -> None:
    """status_page = true -> the page of its ledger: the service is alive, and the case is there."""
    service = build(status_page=True)
    open_case(service.ledger)
    service.start()
    until(lambda: "1 alive" in ask(service, "/status").text)
    page = ask(service, "/status").text
    assert "labhost@lab" in page
    (case,) = service.ledger.cases()
    assert case.volume_id in ask(service, f"/status/case/{case.case_id}").text
    service.stop()
    service.wait()


def test_stopped_service_leaves_no_thread_and_no_port(build: Build) -> None:
    """Started and stopped -> every thread of it has ended and its port is free."""
    before = set(threading.enumerate())
    service = build()
    service.start()
    port = service.exporter.port
    service.stop()
    assert service.wait()
    until(lambda: set(threading.enumerate()) <= before)  # their last lines may still run
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(("driver", "lists"), [("simulator", 5), ("cinder_managed", 3)])
def test_available_volumes_are_swept_where_a_driver_lists(
    build: Build, cloud: Cloud, driver: str, lists: int
) -> None:
    """A driver that lists its exports -> each sweep lists the free volumes; else once a round."""
    sweeper = build(driver=driver).sweeper
    sweeper._round = None
    assert sweeper.sweep_once(threading.Event()) is not None
    assert len(cloud.calls("cinder.volumes_in")) == lists


def test_ledger_that_was_brought_is_left_open(tmp_path: Path, build: Build, cloud: Cloud) -> None:
    """Parts.ledger -> the service works on it, and its owner closes it."""
    with new_ledger(tmp_path) as ledger:
        service = build(ledger=ledger, upgrade=False)
        assert service.ledger is ledger
        service.start()
        service.stop()
        assert service.wait()
        ledgers.ask(ledger)
