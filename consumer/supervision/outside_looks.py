"""Looks at Cinder, Nova and each backend: once at the start, and where nobody else asks.

1. At the start each is asked once, so that a wrong password is told before the first stuck volume.
2. After that Cinder and Nova are asked a small question when they have been silent for a minute, or
   have a problem: the attempts and the sweep ask them much more.
3. A backend is asked only for what it exports, where its driver can list that: at the start, and
   then as long as it has a problem and no call of its driver hangs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from consumer.counting import Answered
from consumer.periodic.loop import one_turn
from consumer.supervision.outside import Outside
from drivers.base import StorageDriver
from drivers.control_plane import Cinder, Nova
from drivers.errors import OutsideError

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
LOOK_SECONDS = 10.0
# Nova answers with the services of that host, which are none: the smallest answer that it has.
NO_HOST = "detachd-asks-for-no-host"
# A list that is short as a rule, and that detachd may read anyway.
STATUS = "attaching"


class OutsideLooks:
    """Asks what nobody else has asked, and reports whether there was an answer."""

    def __init__(  # noqa: PLR0917 - what is asked, and who is told
        self,
        cinder: Cinder,
        nova: Nova,
        driver_of: Callable[[str], StorageDriver],
        backends: Sequence[str],
        known: Outside,
        report: Callable[[Answered], None],
        *,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._cinder = cinder
        self._nova = nova
        self._driver_of = driver_of
        self._backends = backends
        self._known = known
        self._report = report
        self._interval_seconds = interval_seconds

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop`` is set. Returns at most one answer later."""
        self.look_first()
        while not stop.wait(self._interval_seconds):
            self.look_again()

    def look_first(self) -> None:
        """Ask each of them once. Blocks for their answers."""
        self._look(self._backends)

    def look_again(self) -> None:
        """Ask those that have been silent or have a problem. Blocks for their answers."""
        self._look([name for name in self._backends if self._known.troubled(f"backend:{name}")])

    def _look(self, backends: Sequence[str]) -> None:
        with one_turn(LOG, "looking at Cinder, Nova and the backends"):
            self._ask("cinder", self._ask_cinder)
            self._ask("nova", self._ask_nova)
            for backend in backends:
                self._ask_backend(backend)

    def _ask(self, component: str, question: Callable[[], object]) -> None:
        if not self._known.silent(component, self._interval_seconds):
            return
        problem: str | None = None
        try:
            question()
        except OutsideError as error:
            problem = str(error)
        self._report(Answered(component, problem))

    def _ask_cinder(self) -> object:
        return self._cinder.volumes_in(STATUS, after=None, limit=1, timeout_seconds=LOOK_SECONDS)

    def _ask_nova(self) -> object:
        return self._nova.compute_up(NO_HOST, timeout_seconds=LOOK_SECONDS)

    def _ask_backend(self, backend: str) -> None:
        """Ask a backend; its driver's calls report by themselves whether it answered."""
        try:
            driver = self._driver_of(backend)
            if driver.capabilities.lists_exports:
                driver.list_exports(timeout_seconds=LOOK_SECONDS)
                if how := driver.how_reached(timeout_seconds=LOOK_SECONDS):
                    self._report(Answered(f"backend:{backend}", None, how))
            else:
                LOG.info(
                    "backend:%s is not looked at: its driver needs a volume to look at", backend
                )
        except OutsideError as error:
            LOG.debug("backend:%s: %s", backend, error)
