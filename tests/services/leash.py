"""What keeps a private service from outliving the tests that started it."""

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

# read returns when the pipe closes, which the kernel does for us however the tests end, kill -9
# included. A clean stop has left no process by then; after a crash a second round catches what was
# forked during the first. $2 is what the service itself wants cleared away after a kill -9.
_SCRIPT = """
read -r _
found=
for _ in 1 2; do
    for process in /proc/[0-9]*; do
        case "$(readlink "$process/cwd")" in
            "$1" | "$1"/*) kill -KILL "${process#/proc/}" && found=yes ;;
        esac
    done
    [ "$found" = yes ] || break
    sleep 0.5
done 2> /dev/null
cd "$1" && eval "$2"
cd / && rm -rf -- "$1"
"""


class Leash:
    """A directory with a guard, a shell that ends what works in the directory and removes it.

    A process belongs to a service by its working directory: daemons that leave the process group
    of their parent, as PostgreSQL's do, still work inside their own directory.
    """

    def __init__(self, name: str, last_words: str) -> None:
        self._last_words = last_words
        self.directory = Path(tempfile.mkdtemp(prefix=f"detachd-{name}-")).resolve()

    def __enter__(self) -> Self:
        """Start the guard."""
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "leash", str(self.directory), self._last_words],
            stdin=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go: blocks until the processes and the directory are gone, at most 30 s."""
        self._guard.communicate(timeout=30)

    def processes(self) -> list[int]:
        """List the pids that work in the directory now; a zombie works nowhere."""
        names = (process.name for process in Path("/proc").iterdir())
        return [int(name) for name in names if name.isdecimal() and self.holds(int(name))]

    def holds(self, pid: int) -> bool:
        """Tell whether the process works in the directory now."""
        try:
            return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.directory)
        except OSError:  # it has ended, or is another user's and so not ours
            return False
