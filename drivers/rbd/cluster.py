"""Asks a cluster by ``asking.py`` and says what its end means: may the cluster have acted.

1. A look that failed did nothing. A release that says that it failed before the line ``acting``
   did nothing; any other that failed may have acted, and a frozen monitor carries it out when it
   goes on.
2. A program that hangs is killed at the deadline, for a library that blocks for ever.
3. A program that has answered a read is kept, with its connection, for the next look. It is
   believed only where it answers: anything else, a refusal too, may be because it is old, and is
   asked of a new one. It has half of the time for that.
4. What changes something, and what takes long, has a new program. One that has changed something
   is not kept.
5. Nothing is remembered here: each look is a question to the cluster.
"""

from __future__ import annotations

import dataclasses
import errno
import weakref
from collections.abc import Iterable

from drivers.child import Deadline, starting
from drivers.errors import (
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.process_pool import ProcessPool
from drivers.rbd.options import Place, RbdOptions
from drivers.rbd.program import Answer, Program, Told

# The three that a kept program is asked. A list takes as long as there are images, and half of the
# time would not do for an old program that hangs.
QUICK = frozenset({"look", "fences", "about"})
# Asked of a new program, which ends with it: a change is rare, and 60 ms do not matter.
CHANGES = frozenset({"release", "fence", "lift"})
# By rights or by form: asked again, the cluster refuses again. Whether a part was done before is
# for the caller to know (``Release.acted``).
REFUSALS = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL})


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


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True)
class Cluster:
    """One cluster, asked as one user. Each method blocks until the deadline at most.

    The programs that it keeps end with it.

    Raises IndeterminateError where no answer came in time, TransientError where surely nothing was
    done, RefusedError, NoPoolError or NoBindingsError.
    """

    options: RbdOptions
    programs: ProcessPool[Program] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Not shared with another backend of the same cluster: one whose pool hangs would take all
        # programs from it.
        options = self.options
        # ``options`` and not ``self``: a reference back would keep the programs for ever.
        kept = ProcessPool(lambda: started(options), options.programs)
        object.__setattr__(self, "programs", kept)
        weakref.finalize(self, kept.close)

    def look(self, names: tuple[str, ...], deadline: Deadline) -> Answer:
        """Return what the cluster holds of the images of these names, in all pools."""
        return self._ask("look", deadline, names=list(names), places=self._places())

    def list_images(self, deadline: Deadline) -> Answer:
        """Return the same of every image in the pools."""
        return self._ask("list", deadline, places=self._places())

    def everywhere(self, deadline: Deadline) -> Answer:
        """Return the same of every image of the cluster, and where we may not look."""
        return self._ask("everywhere", deadline)

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
        # A cluster object of its own, whose program connects as the other user and is not kept.
        lifting = Cluster(dataclasses.replace(self.options, user=self.options.lifts_as))
        change = {"blocklistop": "rm", "addr": address}
        return lifting._ask("lift", deadline, change=change)

    def _places(self) -> list[list[str]]:
        return [[place.pool, place.namespace] for place in self.options.pools]

    def _ask(self, op: str, deadline: Deadline, **about: object) -> Answer:
        # As arguments, so that a name of the question that is used twice is an error.
        question = dict(op=op, conf=self.options.conf, user=self.options.user, **about)
        told, is_new = self._asked(question, deadline, new=op not in QUICK)
        # An old program's failure may come from its age: it was fenced itself, or its key is
        # another by now.
        if not told.is_success and not is_new:
            told, _ = self._asked(question, deadline, new=True)
        return self._meant(op, told)

    def _asked(self, question: Answer, deadline: Deadline, *, new: bool) -> tuple[Told, bool]:
        """Ask a program; return what it told, and whether it was a new one."""
        changes = question["op"] in CHANGES
        with self.programs.lend(deadline, new=new) as lent:
            # The other half is for a new one, if this one does not answer.
            until = deadline if lent.is_new else Deadline.after(deadline.left_seconds / 2)
            # ``last``: its stdin is closed, so that a program that has changed something ends even
            # if we die.
            told = lent.one.ask(question, until, last=changes)
            lent.is_sound = told.is_success and not changes
            return told, lent.is_new

    def _meant(self, op: str, told: Told) -> Answer:
        """Return the answer of a program, or raise what it means that there is no good one."""
        if told.answer is not None and told.is_success:
            return told.answer
        if told.answer is not None:
            raise self.failure(told.answer, acting=told.acting)
        if told.hangs:
            raise IndeterminateError(f"{self.options.where} gave no answer in time to: {op}.")
        # Whatever has run a change for us may have lost the line that says so.
        kind = IndeterminateError if op in CHANGES else TransientError
        words = f"{told.errors.strip()[-200:] or 'no message'}; exit code {told.code}"
        raise kind(f"Asking {self.options.where} gave no answer ({words}).")

    def failure(self, answer: Answer, *, acting: bool) -> OutsideError:
        """Return what a failure means. Pure."""
        failed, words = answer.get("failed"), answer.get("words", "")
        match failed:
            case "late" | None:
                return TransientError(f"Nothing was asked of {self.options.where}: {answer}.")
            case "bindings":
                return NoBindingsError(
                    f"{self.options.python} has no bindings of Ceph ({words}): install "
                    "python3-rados and python3-rbd, or set the driver's option python."
                )
            case "pool":
                return NoPoolError(f"There is no pool or namespace {words} in the cluster.")
            # The cluster's own time limit: what was sent may be carried out later.
            case errno.ETIMEDOUT:
                return IndeterminateError(f"{self.options.where} did not answer in time: {words}.")
            # Without a number it is one of the bindings' own checks, before anything is sent.
            case number if number in REFUSALS or not isinstance(number, int):
                return RefusedError(
                    f"{self.options.where} refused client.{self.options.user}: {words}."
                )
        kind = IndeterminateError if acting else TransientError
        return kind(f"{self.options.where} failed with {failed}: {words}.")


def started(options: RbdOptions) -> Program:
    """Start a program; PermanentError where there is none, TransientError where it cannot be."""
    with starting(options.python, "set the driver's option python to the Python of the system"):
        return Program(options.python)
