"""Runs ``asking.py`` for one request and says what its end means: may the cluster have acted.

1. An answer counts only if the program has ended well, in time, with one object to read.
2. A look that failed did nothing. A release that says that it failed before the line ``acting``
   did nothing; any other that failed may have acted, and a frozen monitor carries it out when it
   goes on.
3. A program that hangs is killed at the deadline, for a library that blocks for ever. If this
   process dies first, it ends by itself a moment later.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drivers.child import KILL_SECONDS, Deadline, end
from drivers.errors import (
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.rbd.options import Place, RbdOptions

PROGRAM = Path(__file__).with_name("asking.py")
ACTING = {"acting": True}
CHANGES = frozenset({"release", "fence", "lift"})
REFUSALS = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL})

Answer = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class OwnedLock:
    """A lock, and the image that it is on."""

    place: Place
    image_id: str
    client: str
    cookie: str


class RefusedError(PermanentError):
    """The cluster refused what it was asked."""


class NoBindingsError(PermanentError):
    """The Python of the option ``python`` cannot import Ceph's bindings."""


class NoPoolError(NotFoundError):
    """A pool of the option ``pools``, or a namespace in it, does not exist in this cluster."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, asked as one user. Each method blocks until the deadline at most.

    Raises IndeterminateError where no answer came in time, TransientError where surely nothing was
    done, RefusedError, NoPoolError or NoBindingsError.
    """

    options: RbdOptions

    def look(self, names: tuple[str, ...], deadline: Deadline) -> Answer:
        """Return what the cluster holds of the images of these names, in all pools."""
        return self._ask("look", deadline, names=list(names), places=self._places())

    def list_images(self, deadline: Deadline) -> Answer:
        """Return the same of every image in the pools."""
        return self._ask("list", deadline, places=self._places())

    def release(
        self,
        names: tuple[str, ...],
        address: str | None,
        seconds: float,
        locks: Iterable[OwnedLock],
        deadline: Deadline,
    ) -> Answer:
        """Have every OSD refuse one client for so many seconds, then remove locks, then look.

        A lock that is gone already is success. Without an address nobody is fenced.
        """
        held = [
            {
                "place": [lock.place.pool, lock.place.namespace],
                "id": lock.image_id,
                "locker": lock.client,
                "cookie": lock.cookie,
            }
            for lock in locks
        ]
        about = {"names": list(names), "places": self._places(), "locks": held}
        return self._ask("release", deadline, **about, address=address, expire=seconds)

    def about(self, deadline: Deadline) -> Answer:
        """Return the cluster's fsid, and the versions of Python and of Ceph's libraries."""
        return self._ask("about", deadline)

    def fences(self, deadline: Deadline) -> Answer:
        """Return which addresses the cluster refuses, and until when."""
        return self._ask("fences", deadline)

    def fence(self, address: str, seconds: float, deadline: Deadline) -> Answer:
        """Refuse one client for so many seconds from now; return the same as ``fences``."""
        change = {"blocklistop": "add", "addr": address, "expire": seconds}
        return self._ask("fence", deadline, change=change)

    def lift(self, address: str, deadline: Deadline) -> Answer:
        """Let one client in again, asked as ``lift_user``; return the same as ``fences``."""
        lifting = Cluster(dataclasses.replace(self.options, user=self.options.lifts_as))
        change = {"blocklistop": "rm", "addr": address}
        return lifting._ask("lift", deadline, change=change)

    def _places(self) -> list[list[str]]:
        return [[place.pool, place.namespace] for place in self.options.pools]

    def _ask(self, op: str, deadline: Deadline, **about: Any) -> Answer:
        # A little later than we kill it, so that its end by itself is for when we are dead.
        seconds = max(deadline.left_seconds, 0.0) + KILL_SECONDS
        # As arguments, so that a name of the question that is used twice is an error.
        asked = dict(
            op=op, conf=self.options.conf, user=self.options.user, seconds=seconds, **about
        )
        code, output, errors = self._ended(json.dumps(asked).encode(), deadline)
        answer, acting = read(output)
        if code is None:
            raise IndeterminateError(f"{self.options.where} gave no answer in time to: {op}.")
        if code or answer is None:
            # Whatever has run a change for us may have lost the line that says so.
            words = f"{errors.strip()[-200:] or 'no message'}; exit code {code}"
            kind = IndeterminateError if op in CHANGES else TransientError
            raise kind(f"Asking {self.options.where} gave no answer ({words}).")
        if "failed" in answer:
            raise self.failure(answer, acting=acting)
        return answer

    def failure(self, answer: Answer, *, acting: bool) -> OutsideError:
        """Return what a failure means. Pure."""
        failed, words = answer["failed"], answer.get("words", "")
        match failed:
            case "bindings":
                return NoBindingsError(
                    f"{self.options.python} has no bindings of Ceph ({words}): install "
                    "python3-rados and python3-rbd, or set the driver's option python."
                )
            case "pool":
                return NoPoolError(f"There is no pool or namespace {words} in the cluster.")
            case errno.ETIMEDOUT:
                return IndeterminateError(f"{self.options.where} did not answer in time: {words}.")
            case number if number in REFUSALS or not isinstance(number, int):
                return RefusedError(
                    f"{self.options.where} refused client.{self.options.user}: {words}."
                )
        kind = IndeterminateError if acting else TransientError
        return kind(f"{self.options.where} failed with {failed}: {words}.")

    def _ended(self, question: bytes, deadline: Deadline) -> tuple[int | None, bytes, str]:
        """Run the program; the exit code is None where it had to be killed."""
        if deadline.left_seconds <= 0:
            raise TransientError(f"No time was left to ask {self.options.where}.")
        try:
            process = self._started()
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise PermanentError(
                f"{self.options.python} cannot be run ({error.strerror}): set the driver's option "
                "python to the Python of the system."
            ) from error
        except OSError as error:
            raise TransientError(f"{self.options.python} was not started: {error}.") from error
        try:
            left = max(deadline.left_seconds, 0.0)
            output, errors = process.communicate(question, timeout=left)
        except subprocess.TimeoutExpired as late:
            return None, late.output or b"", ""
        finally:
            end(process)
        return process.returncode, output, errors.decode(errors="replace")

    def _started(self) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own: our Ctrl-C is not meant for it, our kill is."""
        return subprocess.Popen(  # noqa: S603 - the operator's own program, no shell
            [self.options.python, "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            process_group=0,
        )


def read(output: bytes) -> tuple[Answer | None, bool]:
    """Return the last whole line as an answer, if it is one, and whether ``acting`` came. Pure."""
    lines = output.split(b"\n")[:-1]
    try:
        told = [json.loads(line) for line in lines]
    except ValueError:
        return None, b'"acting"' in output
    answers = [line for line in told if isinstance(line, dict) and line != ACTING]
    return (answers[0] if len(answers) == 1 else None), ACTING in told
