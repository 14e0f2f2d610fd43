"""Runs ``tgtadm`` and says what its exit code and its words mean: may tgtd have acted.

``tgtadm`` prints an answer as a whole or not at all, but its exit code does not always show it.
Where tgtd closes the connection, or the answer cannot be read, it ends with 0, no answer and a
message on stderr (usr/tgtadm.c ``ipc_mgmt_rsp``, tgt 1.0.85); without that message this looks like
"no targets". Where tgtd dies in the middle of an answer, ``tgtadm`` runs for ever.

1. An answer counts only with exit code 0 and an empty stderr, in time.
2. A read that failed did nothing. A write that failed may have acted, unless tgtd refused it or the
   request was never sent.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import subprocess

from drivers.child import Deadline, end, starting
from drivers.errors import IndeterminateError, OutsideError, PermanentError, TransientError
from drivers.tgt.options import TgtOptions

EINVAL = 22  # whatever tgtd refuses
ADVICE = "install the package tgt, or set the driver's option tgtadm"
UNSENT = "failed to send request hdr"  # the same where it could not connect, for any reason


class Refusal(enum.Enum):
    """What tgtd means by a refusal, by its words (usr/tgtadm.c ``tgtadm_strerror``)."""

    NO_TARGET = "can't find the target"
    NO_SESSION = "can't find the session"
    NO_CONNECTION = "can't find the connection"
    NO_RULE = "this access control rule does not exist"
    OTHER = ""


# Whatever ends between our look and our request ends by itself: success.
GONE_ALREADY = frozenset(
    {Refusal.NO_TARGET, Refusal.NO_SESSION, Refusal.NO_CONNECTION, Refusal.NO_RULE}
)


class RefusedError(PermanentError):
    """tgtd refused what it was asked."""

    def __init__(self, words: str) -> None:
        super().__init__(f"tgtd refused: {words}")
        # OTHER is the last one, and its empty text is in every text.
        self.refusal = next(r for r in Refusal if r.value in words)


@dataclasses.dataclass(frozen=True, slots=True)
class Tgtadm:
    """One tgtd, asked through its admin command. Each method blocks until the deadline at most.

    Raises, besides the kinds: TransientError where nothing was done, IndeterminateError where a
    write may have been done or may be yet (a frozen tgtd does it when it thaws), RefusedError.
    """

    options: TgtOptions

    def show_targets(self, deadline: Deadline) -> str:
        """Return all targets with their sessions and access lists."""
        return self._run(("target", "show"), deadline, writes=False)

    def show_connections(self, tid: int, deadline: Deadline) -> str:
        """Return every connection of one target's sessions."""
        return self._run(("conn", "show", "--tid", str(tid)), deadline, writes=False)

    def unbind(self, tid: int, initiator: str, deadline: Deadline) -> None:
        """Remove an initiator's name from a target's access list; its sessions go on."""
        words = ("target", "unbind", "--tid", str(tid), "--initiator-name", initiator)
        self._run(words, deadline, writes=True)

    def close(self, tid: int, session: int, connection: int, deadline: Deadline) -> None:
        """End one connection. It may be listed on: until its last I/O has ended."""
        words = ("--tid", str(tid), "--sid", str(session), "--cid", str(connection))
        self._run(("conn", "delete", *words), deadline, writes=True)

    def _run(self, words: tuple[str, ...], deadline: Deadline, *, writes: bool) -> str:
        mode, op, *rest = words
        which = ("-C", str(self.options.control_port), "--lld", "iscsi")
        command = [self.options.tgtadm, *which, "--mode", mode, "--op", op, *rest]
        code, output, errors = self._ended(command, deadline, writes=writes)
        if error := failure(code, errors, self.options.place, writes=writes):
            raise error
        return output

    def _ended(
        self, command: list[str], deadline: Deadline, *, writes: bool
    ) -> tuple[int, str, str]:
        # A command that is killed at once may still have sent its request.
        if deadline.left_seconds <= 0:
            raise TransientError(f"No time was left to ask tgtd at {self.options.place}.")
        with starting(self.options.tgtadm, ADVICE):
            process = self._started(command)
        try:
            output, errors = process.communicate(timeout=max(deadline.left_seconds, 0.0))
        except subprocess.TimeoutExpired as error:
            raise unanswered(self.options.place, writes=writes) from error
        finally:
            # Here, as it is also to be ended where an error of ours comes in between.
            end(process)
        return process.returncode, _text(output), _text(errors).strip()

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own: our Ctrl-C is not meant for it, our kill is."""
        return subprocess.Popen(  # noqa: S603 - the operator's own program, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                # The words of a refusal are recognised, and strerror's are of the locale.
                "LC_ALL": "C",
                "TGT_IPC_SOCKET": self.options.socket,
            },
            process_group=0,
        )


def failure(code: int, errors: str, place: str, *, writes: bool) -> OutsideError | None:
    """Return what an end of ``tgtadm`` means, None where it did as asked. Pure."""
    if code == 0 and not errors:
        return None
    # Its name before each line says nothing to the reader.
    words = errors.replace("tgtadm: ", "").replace("\n", "; ") or "without a message"
    # Before the exit code: that is 22 too where it could not connect.
    if UNSENT in errors:
        return TransientError(
            f"No tgtd takes requests at {place}: it is down, or control_port or socket is wrong, "
            f"or this user may not connect ({words})."
        )
    if code == EINVAL:
        return RefusedError(words)
    kind = IndeterminateError if writes else TransientError
    return kind(f"tgtd at {place} gave no answer (exit code {code}: {words}).")


def unanswered(place: str, *, writes: bool) -> OutsideError:
    """Return what it means that ``tgtadm`` had to be killed. Pure."""
    if writes:
        return IndeterminateError(
            f"tgtd at {place} did not answer in time; a frozen one carries out the request when it "
            "continues."
        )
    return TransientError(f"tgtd at {place} did not answer in time.")


def _text(raw: bytes) -> str:
    """Decode without touching line ends: a carriage return in a name is no new line."""
    return raw.decode(errors="replace")
