"""A running ``asking.py``: a question goes in as a line, what is told of it comes out as lines.

1. What is told counts only if it is of this question, by its number, and nothing else is. Anything
   else is no answer, and a program that has said such a thing is not asked again.
2. A question that is not answered at its deadline is left to the caller, who ends the program. If
   this process dies first, the program ends by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import selectors
import subprocess
from pathlib import Path
from typing import IO, Any, cast

from drivers.child import KILL_SECONDS, Deadline, end

PROGRAM = Path(__file__).with_name("asking.py")
# As bytes: what a program that was killed has said is not always whole JSON.
ACTING = b'"acting": true'
# What a pipe of Linux holds by default.
BLOCK = 65_536
# Ceph may log a lot; the last line tells why it ended.
LAST_WORDS = 2_000

Answer = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What came of a question.

    ``answer``: the one whole answer, if there is one. ``acting``: it may have begun to change
    something. ``code``: the exit code, if it ended. ``errors``: the end of what it wrote to stderr.
    """

    answer: Answer | None
    acting: bool
    hangs: bool
    code: int | None
    errors: str

    @property
    def is_success(self) -> bool:
        """Tell whether the cluster was asked and has answered."""
        return self.answer is not None and not {"failed", "changed"} & self.answer.keys()


class Program:
    """One program, for one question after the other. Not thread-safe."""

    def __init__(self, python: str) -> None:
        """Start it in a process group of its own: our Ctrl-C is not meant for it, our kill is.

        Raises OSError.
        """
        self._numbers = itertools.count(1)
        self._said, self._errors = b"", b""
        self._process = subprocess.Popen(  # noqa: S603 - the operator's own program, no shell
            # -I: neither the environment nor the working directory chooses what is imported.
            [python, "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # We wait on the pipes ourselves, and a buffer of Python's would hide what has come.
            bufsize=0,
            # Little of our environment: it may hold secrets (OS_CINDER__PASSWORD,
            # docs/decisions/0028).
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            process_group=0,
        )
        pipes = self._process.stdin, self._process.stdout, self._process.stderr
        self._asks, self._tells, self._errs = (cast("IO[bytes]", pipe) for pipe in pipes)
        for pipe in (self._asks, self._tells, self._errs):
            # A question may be longer than the pipe, and a program that hangs would block our
            # write.
            os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ask(self, question: Answer, deadline: Deadline, *, last: bool = False) -> Told:
        """Ask it one thing; blocks until it has answered or ended, at most until the deadline.

        ``last``: nothing else is going to be asked, so that it ends then, with all around it.
        """
        number = next(self._numbers)
        # A little later than it is killed, so that its end by itself is for when we are dead.
        seconds = max(deadline.left_seconds, 0.0) + KILL_SECONDS
        limits = {"seconds": seconds, "until": deadline.at_seconds + KILL_SECONDS}
        line = json.dumps({**question, "number": number, **limits}).encode() + b"\n"
        hangs = not self._exchanged(line, deadline, last=last)
        answer, acting = read(self._said, number)
        self._said = b""
        errors = self._errors.decode(errors="replace")
        return Told(answer, acting, hangs, self._process.poll(), errors)

    def end(self) -> None:
        """Kill it, with all that it has started."""
        end(self._process)

    def _exchanged(self, line: bytes, deadline: Deadline, *, last: bool) -> bool:
        """Write the question and read what is told; False where the deadline came first."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._tells, selectors.EVENT_READ)
            # What was said unasked could be taken for the answer.
            if waiting.select(0):  # it has ended, or tells something that nobody has asked
                return True
            waiting.register(self._asks, selectors.EVENT_WRITE)
            waiting.register(self._errs, selectors.EVENT_READ)
            # All three at once: a program that writes much to stderr would stop when that pipe is
            # full.
            while not is_over(self._said):
                if deadline.left_seconds <= 0:
                    return False
                ready = {key.fileobj for key, _ in waiting.select(deadline.left_seconds)}
                if self._asks in ready and not (line := _written(self._asks, line)):
                    waiting.unregister(self._asks)
                    if last:
                        self._asks.close()
                if self._errs in ready and not self._heard():
                    waiting.unregister(self._errs)
                if self._tells in ready and not self._listened():
                    break
        return True

    def _listened(self) -> bool:
        """Take what it tells; False at the end of it, when it has ended or soon will."""
        said = os.read(self._tells.fileno(), BLOCK)
        self._said += said
        if not said:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_SECONDS)
            # Its last words say why it ended.
            while self._heard():
                pass
        return bool(said)

    def _heard(self) -> bool:
        """Keep the end of what it writes to stderr; False where there is no more now."""
        try:
            words = os.read(self._errs.fileno(), BLOCK)
        except BlockingIOError:
            return False
        self._errors = (self._errors + words)[-LAST_WORDS:]
        return bool(words)


def _written(asks: IO[bytes], line: bytes) -> bytes:
    """Write as much as goes in; return what is left. One that has ended needs no more."""
    try:
        return line[os.write(asks.fileno(), line) :]
    except BrokenPipeError:
        return b""


def read(said: bytes, number: int) -> tuple[Answer | None, bool]:
    """Return the answer to this question, if it is whole and alone, and whether ``acting`` came.

    Pure.
    """
    *lines, rest = said.split(b"\n")
    acting = ACTING in said
    try:
        told: list[Any] = [json.loads(line) for line in lines]
    except ValueError:
        return None, acting
    # ``acting`` of this very question is no answer; of another one it makes two lines, hence no
    # answer.
    answers = [line for line in told if line != {"number": number, "acting": True}]
    match answers:
        case [dict(answer)] if answer.get("number") == number and not rest:
            return {name: answer[name] for name in answer if name != "number"}, acting
    return None, acting


def is_over(said: bytes) -> bool:
    """Tell whether there is a whole line that is not ``acting``. Pure."""
    lines = said.split(b"\n")[:-1]
    return any(ACTING not in line for line in lines)
