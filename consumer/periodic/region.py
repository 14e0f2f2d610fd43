"""Compares the regions of Cinder and Nova, at the start and after each change of the catalog.

Several regions and no ``region_name``: the service does not start. If Keystone did not answer then,
each call is refused (``drivers/openstack/endpoint.py``). That both seem to be apart is only logged:
what the catalog does not tell proves nothing. The control of each 404 is elsewhere
(``handlers/judgement/evidence.py``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from consumer.errors import ConfigurationError
from drivers.errors import OutsideError
from drivers.openstack.place import Place, described, doubts

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
"""The catalog comes with the token, which is renewed every hour or so; asking costs nothing."""

START_SECONDS, CHECK_SECONDS = 10.0, 30.0
"""How long each of the two may take."""

Places = Callable[[float], tuple[Place, Place]]


class RegionCheck:
    """Compares where Cinder and Nova are, and says so whenever that has changed."""

    def __init__(self, places: Places, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._places = places
        self._interval_seconds = interval_seconds
        self._said: tuple[Place, Place] | None = None

    def refuse_ambiguous(self) -> None:
        """Raise ConfigurationError if the catalog has several regions and none is configured.

        Blocks for Keystone, at most ``START_SECONDS`` for each. Without an answer nothing is
        refused here; ``check`` asks again.
        """
        if problems := _ambiguities(self._ask(START_SECONDS) or ()):
            raise ConfigurationError(problems)

    def run(self, stop: threading.Event) -> None:
        """Check until ``stop`` is set. Returns at most one answer of Keystone later."""
        while True:
            self.check()
            if stop.wait(self._interval_seconds):
                return

    def check(self) -> None:
        """Check once. Blocks for Keystone; what it does not answer is checked the next time."""
        places = self._ask(CHECK_SECONDS)
        # Said once for each state: the check itself is made every ten minutes.
        if places is None or places == self._said:
            return
        self._said = places
        LOG.info("by the catalog: %s", described(*places))
        for doubt in doubts(*places):
            LOG.warning("%s", doubt)
        for why in _ambiguities(places):
            LOG.error("%s; until then detachd does not call it", why)

    def _ask(self, seconds: float) -> tuple[Place, Place] | None:
        try:
            return self._places(seconds)
        except OutsideError as error:
            LOG.debug("the regions of Cinder and Nova are not known yet: %s", error)
            return None


def _ambiguities(places: Iterable[Place]) -> list[str]:
    return [why for place in places if (why := place.ambiguity) is not None]
