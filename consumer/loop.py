"""A loop of the service in a thread of its own, whose death does not go unnoticed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class Loop:
    """Runs ``run(stop)`` in a thread until it is told to stop.

    A ``run`` that raises, or returns unasked, has failed: ``on_death`` is called, so that the whole
    process ends and is started again, rather than half a service lives on.
    """

    def __init__(
        self, name: str, run: Callable[[threading.Event], None], on_death: Callable[[], None]
    ) -> None:
        self.name = name
        self.failed = False
        self._run = run
        self._on_death = on_death
        self._stop = threading.Event()
        # A daemon: one that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._guard, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Tell it to stop; returns at once."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most ``seconds``; tell whether it has, and well."""
        if self._thread.ident is not None:
            self._thread.join(max(seconds, 0.0))
        if self._thread.is_alive():
            LOG.warning("the %s did not end in time; it is left behind", self.name)
        return not (self.failed or self._thread.is_alive())

    def _guard(self) -> None:
        try:
            self._run(self._stop)
        except Exception:  # the top of a thread: it dies, and says so
            LOG.exception("the %s died", self.name)
            self.failed = True
        if not self._stop.is_set():
            LOG.critical(
                "the %s ended unasked: the whole service stops, to be restarted", self.name
            )
            self.failed = True
            self._on_death()
