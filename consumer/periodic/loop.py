"""A loop of the service: its thread, its end, whether it still turns, and what it survives."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from consumer.counting import EventKind, Happened
from consumer.ledger import LedgerUnavailableError
from handlers.counting import uncounted

LOG = logging.getLogger(__name__)

BOUND_SECONDS = 900.0
"""How long one turn of a loop may take.

A turn waits for the ledger, the broker or a service a few times, each at most for a minute or so.
Much longer is a loop that will not turn again.
"""


class Pulse(threading.Event):
    """The stop event of a loop, which shows that the loop turns: each turn asks it or waits on it.

    For one loop alone: who else asks it makes the loop look alive.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._turned_at = clock()
        self._waits = False

    def is_set(self) -> bool:
        """Tell whether the loop shall stop."""
        self._turned_at = self._clock()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the loop shall stop, at most ``timeout`` seconds: a pause is no standstill."""
        # A loop in its pause is alive however long the pause is; its turn ends with it.
        self._waits = True
        try:
            return super().wait(timeout)
        finally:
            self._turned_at, self._waits = self._clock(), False

    def still_seconds(self) -> float:
        """Return for how long the loop has neither asked nor waited."""
        return 0.0 if self._waits else self._clock() - self._turned_at


class Loop:
    """Runs ``run(stop)`` in a thread until it is asked to stop.

    A ``run`` that raises, or returns before that, has failed. Then ``on_death`` is called, so that
    the whole process ends and can be restarted, and no part of it runs without the others.
    ``bound_seconds`` is how long one turn may take at most.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[threading.Event], None],
        on_death: Callable[[], None],
        *,
        bound_seconds: float = BOUND_SECONDS,
    ) -> None:
        self.name = name
        self.failed = False
        self._run = run
        self._on_death = on_death
        self._bound_seconds = bound_seconds
        self._stop = Pulse()
        # A daemon thread: if it hangs, the process can still end.
        self._thread = threading.Thread(target=self._guard, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Ask it to stop; returns at once."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most ``seconds``; return whether it ended without failure."""
        # A thread that was never started cannot be joined: the start may have failed halfway.
        if self._thread.ident is not None:
            self._thread.join(max(seconds, 0.0))
        if self._thread.is_alive():
            LOG.warning("the %s did not stop in time and is abandoned", self.name)
        return not (self.failed or self._thread.is_alive())

    def stuck(self) -> str | None:
        """Return why it does not turn any more, None while it does."""
        still_seconds = self._stop.still_seconds()
        if not self._thread.is_alive() or still_seconds <= self._bound_seconds:
            return None
        return (
            f"the {self.name} has not turned for {still_seconds:.0f} s (at most "
            f"{self._bound_seconds:g} s are usual)"
        )

    def _guard(self) -> None:
        try:
            self._run(self._stop)
        except Exception:  # the top of a thread: the error is logged, and the service stops
            LOG.exception("the %s failed", self.name)
            self.failed = True
        # Also without an error: a loop that returns by itself has a bug, and the service must not
        # go on without it.
        if not self._stop.is_set():
            LOG.critical(
                "the %s ended unexpectedly: the service stops and must be restarted", self.name
            )
            self.failed = True
            self._on_death()


@contextlib.contextmanager
def one_turn(
    log: logging.Logger,
    what: str,
    count: Callable[[Happened], None] = uncounted,
    label: str | None = None,
) -> Iterator[None]:
    """Log what goes wrong in one turn of a loop, so that the next turn follows.

    ``what`` is done in it, for the log. An unexpected error is also counted, under ``label``.
    """
    try:
        yield
    except LedgerUnavailableError as error:
        # The worker asks the ledger every second and logs a warning for it: one line is enough.
        log.debug("%s is postponed: %s", what, error)
    except Exception:  # the top of the loop: a bug must not end it
        log.exception("%s failed unexpectedly; it will be repeated", what)
        count(Happened(EventKind.INTERNAL_ERROR, label))
