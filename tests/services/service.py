"""What every private service can do: start, be killed, be paused, start again, stop."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.services.leash import Leash
from tests.services.processes import Watched

START_SECONDS = 180.0  # when whatever else the machine does leaves little of it
STOP_SECONDS = 15.0


class ServiceMissingError(Exception):
    """The service is not installed on this machine."""

    def __init__(self, service: str, package: str) -> None:
        super().__init__(
            f"{service} is not installed; `make services` installs it (Debian: {package})"
        )


class ServiceFailedError(Exception):
    """A private service did not do as it was told; the last lines of its log follow."""

    def __init__(self, what: str, log: Path) -> None:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        super().__init__("\n".join([what, *lines[-30:]]))


class PrivateService(ABC):
    """One instance for the tests alone, as a context manager; its data live from enter to exit.

    Raises ServiceMissingError when made on a machine that lacks it, ServiceFailedError when it does
    not start.
    """

    name: ClassVar[str]
    accounts: ClassVar[Sequence[str]] = ()  # whom to run as, first found, when root is refused
    last_words: ClassVar[str] = ":"  # shell, run in the directory when no process is left
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    watchers: ClassVar[list[Callable[["PrivateService"], None]]] = []  # told of each that started
    port: int

    @property
    @abstractmethod
    def url(self) -> str:
        """Where a client finds it, password included; the same for its whole life."""

    def __enter__(self) -> Self:
        """Make the data and start; blocks until it answers, at most START_SECONDS."""
        with ExitStack() as undo:
            self._leash = undo.enter_context(Leash(self.name, self.last_words))
            self.directory = self._leash.directory
            self._log = self.directory / "log"
            self._children: list[subprocess.Popen[bytes]] = []
            self._owner = _first_account(self.accounts) if os.geteuid() == 0 else None
            self._give(self.directory)
            undo.callback(self._stop)
            self._prepare()
            self.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop and remove the data; blocks until no process is left."""
        self._undo.close()

    def start(self) -> None:
        """Start on the same data and ports; blocks until it answers, at most START_SECONDS."""
        if running := self.processes():
            raise ServiceFailedError(f"{self.name} runs already: {running}", self._log)
        self._launch()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._children[-1].poll() is not None:
                raise ServiceFailedError(f"{self.name} ended while it started", self._log)
            if time.monotonic() > deadline:
                raise ServiceFailedError(f"{self.name} does not answer", self._log)
            time.sleep(0.05)
        for tell in self.watchers:
            tell(self)

    def kill(self) -> None:
        """End every process at once (kill -9), as a power cut would; blocks until they are gone."""
        deadline = time.monotonic() + STOP_SECONDS
        while pids := self.processes():
            with Watched(pids, self._leash.holds) as ours:
                ours.kill()
                if not ours.end(deadline - time.monotonic()):
                    raise ServiceFailedError(f"{self.name} survives kill -9: {pids}", self._log)
        for child in self._children:
            child.wait()
        self._children.clear()

    def restart(self) -> None:
        """Kill it and start it again; blocks until it answers."""
        self.kill()
        self.start()

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Have it killed within, and started again afterwards, whatever comes of what is within."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def pause(self) -> None:
        """Freeze every process (SIGSTOP): connections stay open and nobody answers."""
        frozen: set[int] = set()
        while fresh := set(self.processes()) - frozen:
            _send(signal.SIGSTOP, fresh)
            frozen |= fresh

    def resume(self) -> None:
        """Let frozen processes go on (SIGCONT)."""
        _send(signal.SIGCONT, self.processes())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have it frozen within, and going on afterwards."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def processes(self) -> list[int]:
        """List the pids of this instance that run now."""
        return self._leash.processes()

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the first start needs, in the directory."""

    @abstractmethod
    def _launch(self) -> None:
        """Spawn the processes, the one that matters last."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether it serves a client now; bounded in time."""

    def _stop(self) -> None:
        """Ask first, which lets it free what the kernel keeps (shared memory), then insist."""
        self.resume()
        if self._children and self._children[-1].poll() is None:
            self._children[-1].send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._children[-1].wait(STOP_SECONDS)
        self.kill()

    def _spawn(self, *command: str | Path) -> None:
        # A session of its own: a terminal's Ctrl-C is meant for the tests, which then stop us.
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self._environment(),
                start_new_session=True,
                user=self._owner and self._owner.pw_uid,
                group=self._owner and self._owner.pw_gid,
                extra_groups=self._owner and [],
            )
        self._children.append(child)

    def _write(self, name: str, text: str) -> Path:
        """Make a file that the service, and but for root nobody else, may read."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        self._give(path)
        return path

    def _give(self, path: Path) -> None:
        if self._owner:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _run(self, *command: str | Path) -> str:
        """Return what a command of the service prints; blocks at most START_SECONDS."""
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self._environment(),
            timeout=START_SECONDS,
            user=self._owner and self._owner.pw_uid,
            group=self._owner and self._owner.pw_gid,
            extra_groups=self._owner and [],
        )
        if done.returncode:
            said = f"{command} failed with {done.returncode}: {done.stdout}{done.stderr}"
            raise ServiceFailedError(said, self._log)
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        """Nothing of ours, so that no setting of this machine's user reaches the service."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.directory),
        }


def executable(service: str, package: str, *places: str | Path) -> Path:
    """Find the first of the places, or commands on the PATH, that can be run."""
    for place in places:
        if found := shutil.which(place):
            return Path(found)
    raise ServiceMissingError(service, package)


def _first_account(names: Iterable[str]) -> pwd.struct_passwd | None:
    for name in names:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _send(what: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)
