"""`detachd` as an operator has it: a configuration file, the commands, the service as a process."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from consumer.ledger import Ledger
from consumer.settings.ledger import ledger_alone
from handlers.judgement.policy import BackendPolicy, Mode
from tests.services.ports import free_port

ROOT = Path(__file__).parents[2]
DETACHD = (sys.executable, "-m", "consumer")
START_SECONDS = 90.0

# Times as short as the checks across options allow. A case whose worker was killed is taken up
# again when its lease has run out, and the lease must outlast the longest step: about 3 s here.
BRISK = BackendPolicy(
    mode=Mode.AUTO,
    look_timeout_seconds=0.1,
    call_timeout_seconds=0.2,
    lease_margin_seconds=0.1,
    tries=2,
    try_backoff_seconds=0.02,
    try_backoff_max_seconds=0.05,
    max_failures=100,
    retry_backoff_seconds=0.3,
    retry_backoff_max_seconds=1.0,
    late_horizon_seconds=0.5,
    nova_detach_wait_seconds=0.3,
)

# For tests that expect one course, step by step. On a busy machine a tenth of a second is short for
# a look: it gave no answer then, which is rightly told as an error and tried again.
UNHURRIED = dataclasses.replace(BRISK, look_timeout_seconds=10.0, call_timeout_seconds=10.0)

Options = Mapping[str, Mapping[str, object]]


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where the parts are that the service is configured for; all of it holds secrets.

    ``cloud`` are the sections by which Cinder and Nova are found.
    """

    transport_url: str
    ledger_url: str
    cloud: Options


def simulated(address: str, authkey: str) -> Options:
    """Return the section by which a simulated cloud is found."""
    return {"simulator": {"address": address, "authkey": authkey}}


class Installation:
    """One configuration file, and the commands that are given with it."""

    def __init__(self, directory: Path, places: Places) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.file = directory / "detachd.conf"
        self.places = places
        self.port = free_port()
        self._started = 0
        self.configure()

    def configure(self, policy: BackendPolicy = BRISK, **sections: Mapping[str, object]) -> None:
        """Write the file anew: the tests' defaults, this policy, and what ``sections`` say."""
        options = {**_defaults(self.places, self.port, policy)}
        for name, changes in sections.items():
            options[name] = {**options.get(name, {}), **changes}
        self.file.write_text(_ini(options))

    def run(
        self, *words: str, fails: bool = False, command: Sequence[str] = DETACHD
    ) -> subprocess.CompletedProcess[str]:
        """Give one command and return how it ended; blocks for a second or two."""
        line = [*command, *words, "--config-file", str(self.file)]
        done = subprocess.run(
            line, check=False, capture_output=True, text=True, cwd=ROOT, timeout=60
        )
        assert bool(done.returncode) is fails, (words, done.stdout, done.stderr)
        return done

    def serve(self, command: Sequence[str] = DETACHD) -> ServiceProcess:
        """Start the service; ``command`` stands in for ``python -m consumer``."""
        self._started += 1
        log = self.directory / f"service-{self._started}.log"
        words = [*command, "serve", "--config-file", str(self.file)]
        return ServiceProcess(words, log, self.port)

    def logs(self) -> str:
        """Return all that the services which were started here have logged."""
        return "\n".join(log.read_text() for log in sorted(self.directory.glob("service-*.log")))

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open the ledger from the test's own process."""
        with contextlib.closing(ledger_alone([self.file])) as ledger:
            yield ledger


class ServiceProcess:
    """`detachd serve` in a process of its own; as a context manager it never outlives the test."""

    def __init__(self, command: Sequence[str], log: Path, port: int) -> None:
        self.log = log
        self._port = port
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"{self.log.name}:\n{self.log.read_text()[-6000:]}")

    def ready(self) -> Self:
        """Wait until /readyz says that it takes, works and announces."""
        ends_at = time.monotonic() + START_SECONDS
        while (answer := self.readiness())[0] != 200:
            assert self._process.poll() is None, f"it ended: {self.log.read_text()[-6000:]}"
            assert time.monotonic() < ends_at, f"it is not ready: {answer[1]}"
            time.sleep(0.05)
        return self

    def readiness(self) -> tuple[int, str]:
        """Ask /readyz; (0, why) where nobody answers."""
        return fetch(self._port, "/readyz")

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether the process lives."""
        return self._process.poll() is None

    def terminate(self, seconds: float = 90.0) -> int:
        """Send SIGTERM and return the exit code; fail when it takes longer than ``seconds``."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it at once, as a power cut would (kill -9); blocks until it is gone."""
        self._process.kill()
        self._process.wait(60)

    def ended(self, seconds: float = 120.0) -> int:
        """Wait until it has ended by itself and return the exit code, -9 for kill -9."""
        return self._process.wait(seconds)


def fetch(port: int, path: str) -> tuple[int, str]:
    """Get a page of the exporter: status and body, (0, why) where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def _defaults(places: Places, port: int, policy: BackendPolicy) -> dict[str, dict[str, object]]:
    backend = {f.name: _written(getattr(policy, f.name)) for f in dataclasses.fields(BackendPolicy)}
    return {
        "DEFAULT": {"transport_url": places.transport_url},
        "cloud": {"rpc_response_timeout_seconds": 0.1},
        "ledger": {
            "connection": places.ledger_url,
            "attach_deadline_seconds": 1.0,
            "detach_deadline_seconds": 1.0,
            "error_settle_seconds": 0.3,
            "second_looks_per_minute": 0,
        },
        "listener": {
            "bindings": "nova:notifications, nova:versioned_notifications, cinder:notifications"
        },
        "publisher": {"poll_seconds": 0.1},
        # The first sweep would find what is arranged before the bus has told of it.
        "sweep": {"enabled": False},
        "worker": {
            "threads": 6,
            "lease_seconds": policy.longest_step_seconds,
            "poll_seconds": 0.05,
            # As shipped. Short, it would be the exit code 1 of a machine that stands still.
            "drain_seconds": 60.0,
        },
        # Tests that stop many volumes at once are about something else.
        "brakes": {
            "backend_burst": 0,
            "host_burst": 0,
            "project_burst": 0,
            "per_day": 0,
            "breaker_failures": 0,
        },
        "exporter": {"port": port},
        **{name: dict(options) for name, options in places.cloud.items()},
        "backend_defaults": {"driver": "simulator", "concurrency": 5, **backend},
    }


def _written(value: Any) -> object:
    if isinstance(value, tuple):
        return ",".join(value)
    return value.value if isinstance(value, enum.Enum) else value


def _ini(options: Options) -> str:
    # oslo.config substitutes $name in values; a password may hold a dollar sign.
    lines = []
    for section, values in options.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {str(value).replace('$', '$$')}" for name, value in values.items()]
    return "\n".join([*lines, ""])
