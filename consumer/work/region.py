"""Says at the start, and after each change of the catalog, if Cinder and Nova seem to be apart.

It is only said: what the catalog does not tell proves nothing. The control of each 404 is elsewhere
(``handlers/judgement/evidence.py``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from drivers.errors import OutsideError
from drivers.openstack.place import Place, described, doubts

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
"""The catalog comes with the token, which is renewed every hour or so; asking costs nothing."""

Places = Callable[[], tuple[Place, Place]]


class RegionCheck:
    """Compares where Cinder and Nova are, and says so whenever that has changed."""

    def __init__(self, places: Places, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._places = places
        self._interval_seconds = interval_seconds
        self._said: tuple[Place, Place] | None = None

    def run(self, stop: threading.Event) -> None:
        """Check until ``stop`` is set. Returns at most one answer of Keystone later."""
        while True:
            self.check()
            if stop.wait(self._interval_seconds):
                return

    def check(self) -> None:
        """Check once. Blocks for Keystone; what it does not answer is checked the next time."""
        try:
            places = self._places()
        except OutsideError as error:
            LOG.debug("the regions of Cinder and Nova are not known yet: %s", error)
            return
        if places == self._said:
            return
        self._said = places
        LOG.info("by the catalog: %s", described(*places))
        for doubt in doubts(*places):
            LOG.warning("%s", doubt)
