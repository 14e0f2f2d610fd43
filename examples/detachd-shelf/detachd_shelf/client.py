"""One question to the daemon, and what each way of failing means: the part to get right first."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from drivers.errors import (
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)


class Deadline:
    """The time that is left of a call's limit, over all its requests."""

    def __init__(self, timeout_seconds: float) -> None:
        self._end = time.monotonic() + timeout_seconds

    def left(self) -> float:
        """Return the seconds that are left; never 0, which a socket would take for "never"."""
        return max(self._end - time.monotonic(), 0.001)

    def over(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() >= self._end


def ask(path: str, request: dict[str, Any], deadline: Deadline, *, acts: bool) -> dict[str, Any]:
    """Ask the daemon one thing; ``acts`` says that the request changes something.

    Before the request is sent, a failure has surely done nothing: TransientError. Once it is on its
    way the daemon may carry it out at any time, so for one that acts no answer is
    IndeterminateError. What the daemon refuses it will refuse again: PermanentError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(deadline.left())
        try:
            control.connect(path)
        except OSError as error:
            raise TransientError(f"shelf daemon at {path}: {error.strerror or error}") from None
        try:
            control.sendall(json.dumps(request).encode() + b"\n")
            line = _line(control, deadline)
        except OSError:
            raise _unanswered(path, request, acts=acts) from None
    if not line:
        raise _unanswered(path, request, acts=acts)
    return _checked(json.loads(line), path)


def _line(control: socket.socket, deadline: Deadline) -> bytes:
    """Read up to the end of the line; b"" where the daemon hung up before."""
    text = b""
    while not text.endswith(b"\n"):
        control.settimeout(deadline.left())
        if not (part := control.recv(65536)):
            return b""
        text += part
    return text


def _unanswered(path: str, request: dict[str, Any], *, acts: bool) -> OutsideError:
    # Never the request itself: it holds the password.
    words = f"shelf daemon at {path} gave no answer to {request['op']}"
    return IndeterminateError(words) if acts else TransientError(words)


def _checked(answer: dict[str, Any], path: str) -> dict[str, Any]:
    match answer.get("error"):
        case None:
            return answer
        case "no such volume":
            raise NotFoundError(f"shelf daemon at {path} has no such volume")
        case refusal:
            raise PermanentError(f"shelf daemon at {path}: {refusal}")
