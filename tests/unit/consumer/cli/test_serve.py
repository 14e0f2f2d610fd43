"""``detachd serve`` as a process of its own: configuration in, signals, exit codes, log lines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer import service
from consumer.cli import serve
from consumer.cli.app import main
from consumer.ledger import Ledger
from drivers.simulator import DEFAULT_BACKEND, Cloud
from drivers.simulator.faults import Fault
from drivers.simulator.remote import CloudServer, serve_cloud
from drivers.simulator.scenes import uc1
from tests.bus import new_ledger, until
from tests.openstack_api import OpenStackApi
from tests.unit.consumer.due import only_case, open_case

pytestmark = pytest.mark.slow

CONFIGURATION = """
[DEFAULT]
transport_url = kombu+memory://user:canary-1@localhost//
{default}
[ledger]
connection = sqlite:///{directory}/ledger.sqlite
[worker]
poll_seconds = 0.05
drain_seconds = 60
[exporter]
port = 0
[backend_defaults]
driver = simulator
[driver:simulator:spare@tgt]
authkey = canary-2
[simulator]
address = {address}
authkey = canary-3
"""

Written = Callable[..., Path]


@pytest.fixture
def served() -> Iterator[CloudServer]:
    """Serve a simulated cloud."""
    with Cloud() as cloud, serve_cloud(cloud, authkey=b"canary-3") as server:
        yield server
        cloud.close()  # first, so that nobody sleeps on


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger whose errors settle at once."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def written(tmp_path: Path, served: CloudServer) -> Written:
    """Write a configuration of that cloud and that ledger."""

    def write(default: str = "") -> Path:
        path = tmp_path / "detachd.conf"
        path.write_text(
            CONFIGURATION.format(directory=tmp_path, address=served.address, default=default)
        )
        return path

    return write


class Process:
    """A running ``detachd serve`` and what it has written so far."""

    def __init__(self, path: Path, output: Path) -> None:
        self._output = output
        with output.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "consumer", "serve", "--config-file", str(path)],
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """Return what it has written."""
        return self._output.read_text()

    def runs(self) -> None:
        """Wait until it listens to the bus; fail where it ends instead."""
        until(lambda: "listening on queue" in self.text or self.popen.poll() is not None)
        assert self.popen.poll() is None, self.text

    def ends(self, number: signal.Signals, seconds: float = 60.0) -> int:
        """Send a signal and return the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(seconds)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[[Path], Process]]:
    """Start processes; kill at the end what still runs."""
    started: list[Process] = []

    def start(path: Path) -> Process:
        started.append(Process(path, tmp_path / f"output-{len(started)}"))
        return started[-1]

    yield start
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            each.popen.kill()
        each.popen.wait()


Start = Callable[[Path], Process]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_signal_stops_it_in_good_order(
    process: Start, written: Written, ledger: Ledger, number: signal.Signals
) -> None:
    """SIGTERM or Ctrl-C -> it says that it stops, lets go, and exits 0 at once."""
    running = process(written())
    running.runs()
    assert running.ends(number, 45.0) == 0, "less than drain_seconds"
    assert "stopping: no new messages and cases are accepted" in running.text
    assert running.text.rstrip().endswith("stopped")
    assert "Traceback" not in running.text
    assert "eventlet" not in running.text.lower()


def test_no_secret_is_written_even_while_debugging(
    process: Start, written: Written, ledger: Ledger
) -> None:
    """Debug = true, which logs every option -> no password, no key."""
    running = process(written("debug = true"))
    running.runs()
    assert running.ends(signal.SIGTERM) == 0
    assert "ledger.connection" in running.text
    assert "canary" not in running.text


def test_json_lines_are_one_option_away(
    process: Start, written: Written, ledger: Ledger, served: CloudServer
) -> None:
    """use_json = true -> each line is an object; those of an attempt carry the case's ids."""
    volume_id = _stuck(served.cloud, ledger)
    running = process(written("use_json = true"))
    until(lambda: only_case(ledger, volume_id).case.attempts == 1)
    until(lambda: not only_case(ledger, volume_id).claimed_by)
    assert running.ends(signal.SIGTERM) == 0
    lines = [json.loads(line) for line in running.text.splitlines()]
    (about,) = {
        (line["context"]["case_id"], line["context"]["volume_id"])
        for line in lines
        if line["context"]
    }
    assert about == (only_case(ledger, volume_id).case.case_id, volume_id)


def test_running_attempt_is_ended_before_it_exits(
    process: Start, written: Written, ledger: Ledger, served: CloudServer
) -> None:
    """SIGTERM while Cinder takes its time -> the attempt ends, its claim is free, exit 0."""
    volume_id = _stuck(served.cloud, ledger)
    served.cloud.script(Fault.slow("cinder.volume", 2.0, volume_id=volume_id))
    running = process(written())
    until(lambda: only_case(ledger, volume_id).claimed_by)
    assert running.ends(signal.SIGTERM) == 0
    record = only_case(ledger, volume_id)
    assert record.claimed_by is None
    assert record.case.rule is not None


def test_second_signal_ends_it_at_once_and_loses_nothing(
    process: Start, written: Written, ledger: Ledger, served: CloudServer
) -> None:
    """A second SIGTERM while an attempt hangs -> it is gone; the claim's lease keeps the case."""
    volume_id = _stuck(served.cloud, ledger)
    served.cloud.script(Fault.slow("cinder.volume", 9.0, volume_id=volume_id))
    running = process(written())
    until(lambda: only_case(ledger, volume_id).claimed_by)
    running.popen.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in running.text)
    assert running.ends(signal.SIGTERM) == -signal.SIGTERM
    assert only_case(ledger, volume_id).claimed_by


def _stuck(cloud: Cloud, ledger: Ledger) -> str:
    scene = uc1(cloud)
    return open_case(
        ledger,
        backend=DEFAULT_BACKEND,
        volume_id=scene.volume_id,
        instance_id=scene.instance_id,
        attachment_id=scene.attachment_id,
    )


# -- what keeps it from starting -------------------------------------------------------------------


def test_schema_that_is_behind_is_told_with_the_command(process: Start, written: Written) -> None:
    """No tables yet -> exit 1, one line that says what to run."""
    refused = process(written())
    assert refused.popen.wait(60) == 1
    (line,) = [line for line in refused.text.splitlines() if line.startswith("detachd: ")]
    assert line.endswith("run `detachd ledger upgrade`")
    assert "Traceback" not in refused.text


def test_several_regions_and_none_configured(tmp_path: Path, process: Start) -> None:
    """The catalog has two regions, no region_name -> exit 2, the regions named, nothing started."""
    with OpenStackApi() as api, new_ledger(tmp_path) as ledger:
        api.regions = {"volumev3": ("north", "south"), "compute": ("north", "south")}
        path = tmp_path / "detachd.conf"
        path.write_text(
            f"[DEFAULT]\ntransport_url = kombu+memory://localhost//\n[exporter]\nport = 0\n"
            f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n{api.sections()}"
        )
        refused = process(path)
        assert refused.popen.wait(60) == 2
        assert api.requests == []
        assert ledger.replicas() == ()
    problems = [line for line in refused.text.splitlines() if "has no region_name" in line]
    assert len(problems) == 2
    assert all("north, south" in problem for problem in problems)
    assert "Traceback" not in refused.text
    assert "listening" not in refused.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[backend_defaults]\ndriver = simulator\nmode = yes\n", "[backend_defaults] mode: "),
        ("[worker]\nlease_seconds = 5\n[backend_defaults]\ndriver = simulator\n", "lease_seconds"),
        ("[backend_defaults]\ndriver = simulator\n", "[simulator]"),
        ("[backend_defaults]\ndriver = nosuch\n", "simulator"),
        ("nonsense\n", "line 1"),
    ],
    ids=["bad value", "short lease", "no cloud", "unknown driver", "does not parse"],
)
def test_bad_configuration_is_one_message_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    """A configuration that cannot be -> exit 2, the problem in words, no traceback, no thread."""
    path = tmp_path / "bad.conf"
    path.write_text(text)
    before = set(threading.enumerate())
    assert main(["serve", "--config-file", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("detachd: ")
    assert words in err
    assert "Traceback" not in err
    until(lambda: set(threading.enumerate()) <= before)  # their last lines may still run


# -- signals and the death of a part, in this process ----------------------------------------------


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of this process back afterwards."""
    before = {number: signal.getsignal(number) for number in serve.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_first_signal_is_heard_and_the_second_does_its_default() -> None:
    """SIGTERM -> the wait is over, and the default handling is back for the next one."""
    wait = serve.waiting_for_signals(threading.Event())
    os.kill(os.getpid(), signal.SIGTERM)
    wait()
    assert {signal.getsignal(number) for number in serve.SIGNALS} == {signal.SIG_DFL}


@pytest.mark.usefixtures("handlers")
def test_ends_of_our_programs_are_ours_to_collect() -> None:
    """Whoever started us ignores SIGCHLD -> its default is back, and programs keep their exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    serve.waiting_for_signals(threading.Event())
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL


@pytest.mark.usefixtures("handlers")
@pytest.mark.timeout(60)
def test_signal_while_the_lock_of_the_event_is_held_is_heard() -> None:
    """SIGTERM between two instructions of a wait for the event -> no deadlock with itself."""
    over = threading.Event()
    wait = serve.waiting_for_signals(over)
    with over._cond:  # type: ignore[attr-defined]  # as the main thread has it within a wait
        os.kill(os.getpid(), signal.SIGTERM)
    wait()


@pytest.mark.usefixtures("handlers")
@pytest.mark.timeout(60)
def test_signal_that_another_thread_gets_is_heard() -> None:
    """The system gives SIGTERM to another thread while the main one waits -> heard all the same."""
    wait = serve.waiting_for_signals(threading.Event())
    asked = threading.Event()

    def get_it() -> None:
        asked.wait(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        asked.wait(60)

    threading.Thread(target=get_it, daemon=True).start()
    wait()
    asked.set()


@pytest.mark.usefixtures("handlers")
def test_part_that_died_ends_the_wait() -> None:
    """No signal, and a part of the service fails -> the wait is over."""
    over = threading.Event()
    wait = serve.waiting_for_signals(over)
    threading.Timer(0.1, over.set).start()
    wait()


@pytest.mark.parametrize(("well", "code"), [(True, 0), (False, 1)])
def test_exit_code_says_whether_all_ended_well(
    written: Written,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    well: bool,
    code: int,
) -> None:
    """A part died or was left behind -> exit 1, so that a supervisor starts it again."""

    class Ended(service.Service):
        """A service that is over as soon as it runs."""

        def start(self) -> None:
            """Start nothing."""
            self.over.set()

        def stop(self) -> None:
            """Stop nothing."""

        def wait(self) -> bool:
            """Say how it ended."""
            self.ledger.close()
            return well

    before = {number: signal.getsignal(number) for number in serve.SIGNALS}
    monkeypatch.setattr(service, "Service", Ended)
    try:
        assert main(["serve", "--config-file", str(written())]) == code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_systemd_is_told_when_it_runs_while_it_turns_and_when_it_stops(
    process: Start,
    written: Written,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Type=notify with WatchdogSec -> READY after the start, WATCHDOG again and again, STOPPING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{tmp_path}/notify")
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
        monkeypatch.setenv("WATCHDOG_USEC", "1500000")
        running = process(written())
        assert [systemd.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        assert "detachd" in running.text
        assert running.ends(signal.SIGTERM) == 0
        last = b""
        while last != b"STOPPING=1":
            last = systemd.recv(99)


def test_a_signal_changes_the_mode_of_a_running_service(
    process: Start, written: Written, ledger: Ledger, served: CloudServer
) -> None:
    """SIGHUP from observe to auto, then a file that is wrong -> it acts, and goes on acting."""
    path = written()
    volume_id = _stuck(served.cloud, ledger)
    running = process(path)
    until(lambda: only_case(ledger, volume_id).case.attempts == 1)
    assert served.cloud.calls(writes=True) == ()
    text = path.read_text()
    path.write_text(text.replace("driver = simulator", "driver = simulator\nmode = auto", 1))
    running.popen.send_signal(signal.SIGHUP)
    until(lambda: "mode observe -> auto" in running.text)
    path.write_text(text + "nonsense\n")
    running.popen.send_signal(signal.SIGHUP)
    until(lambda: "nothing changes" in running.text)
    another = _stuck(served.cloud, ledger)
    until(lambda: served.cloud.calls(volume_id=another, writes=True))
    assert running.ends(signal.SIGTERM) == 0


def test_a_report_on_demand_shows_cases_and_no_secret(
    process: Start, written: Written, ledger: Ledger, served: CloudServer
) -> None:
    """SIGUSR2 -> threads by name, the open case, the configuration; no password, and it goes on."""
    volume_id = _stuck(served.cloud, ledger)
    running = process(written())
    until(lambda: only_case(ledger, volume_id).case.attempts == 1)
    running.popen.send_signal(signal.SIGUSR2)
    until(lambda: "=== Configuration ===" in running.text)
    until(lambda: "worker.threads" in running.text.partition("=== Configuration ===")[2])
    for said in ("=== Threads ===", "MainThread", "publisher (", f"volume={volume_id}", "****"):
        assert said in running.text
    assert "canary" not in running.text
    assert running.ends(signal.SIGTERM) == 0
