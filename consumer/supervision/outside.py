"""Whether Cinder, Nova and each backend answer, by what each said last, whoever had asked."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence

from consumer.counting import Answered
from metrics.exporter import Check

LOG = logging.getLogger(__name__)

CONTROL_PLANE = ("cinder", "nova")


@dataclasses.dataclass(frozen=True, slots=True)
class _Heard:
    at: float
    problem: str | None
    how: str | None = None


class Outside:
    """What each component outside last said. Thread-safe; blocks on nothing.

    A change is logged, and so is the first word of each.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._heard: dict[str, _Heard] = {}
        self._hanging: dict[str, str] = {}

    def note(self, answered: Answered) -> None:
        """Take in what a component answered."""
        with self._lock:
            before = self._heard.get(answered.component)
            # Only the look at the start knows it; the answers in between must not wipe it out.
            how = answered.how or (before.how if before is not None else None)
            self._heard[answered.component] = _Heard(self._clock(), answered.problem, how)
        # Each answer of a cloud would be a line. A change from one problem to another one is none.
        if before is None or (before.problem is None) is not (answered.problem is None):
            _log(answered, first=before is None)

    def note_hanging(self, backend: str, number: int, *, stopped: bool) -> None:
        """Take in how many calls of a backend's driver hang; ``stopped``: none is made any more."""
        words = f"{number} calls of its storage driver hang" + (
            ", so it is not called any more" if stopped else ""
        )
        with self._lock:
            if number:
                self._hanging[_of_backend(backend)] = words
            else:
                self._hanging.pop(_of_backend(backend), None)

    def silent(self, component: str, seconds: float) -> bool:
        """Tell whether the component has said nothing for so long, or had a problem."""
        with self._lock:
            heard = self._heard.get(component)
        if heard is None or heard.problem is not None:
            return True
        return self._clock() - heard.at >= seconds

    def troubled(self, component: str) -> bool:
        """Tell whether the component had a problem, and no call of its driver hangs.

        One that hangs shows by itself when it is over; each further call could hang too.
        """
        with self._lock:
            heard, hangs = self._heard.get(component), component in self._hanging
        return heard is not None and heard.problem is not None and not hangs

    def checks(self) -> Sequence[Check]:
        """Return a check of Cinder, of Nova, and of each backend that was ever asked."""
        with self._lock:
            heard, hanging = dict(self._heard), dict(self._hanging)
        backends = sorted((heard.keys() | hanging.keys()) - set(CONTROL_PLANE))
        return tuple(
            _check(component, heard.get(component), hanging.get(component))
            for component in (*CONTROL_PLANE, *backends)
        )


def _check(component: str, heard: _Heard | None, hanging: str | None) -> Check:
    problem = heard.problem if heard is not None else None
    if hanging or problem:
        reason = "; ".join(words for words in (hanging, problem) if words)
        return Check(component, ok=True, reason=reason, degraded=True)
    if heard is None:
        return Check(component, ok=True, reason="not asked yet")
    how = f": {heard.how}" if heard.how else ""
    return Check(component, ok=True, reason=f"answers{how}")


def _of_backend(backend: str) -> str:
    return f"backend:{backend}"


def _log(answered: Answered, *, first: bool) -> None:
    if answered.problem is not None:
        LOG.warning("%s: %s", answered.component, answered.problem)
    else:
        LOG.info("%s %s", answered.component, "answers" if first else "answers again")
