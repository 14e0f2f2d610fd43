"""Looks at attached volumes now and then, so that the clients of healthy attachments are learned.

A driver that ends single clients (``Capabilities.by_learned_client``) needs to know which client an
attachment had while all was well. Each look of a case learns it too; these looks are for the many
attachments that have no case. The rounds over the attached volumes list them.

1. It comes after everything else: no look while all threads of the worker are at work, so many
   looks a minute, one at a time, and none of a backend that has just given no answer.
2. A look changes nothing outside. What it may write is which client an attachment has.
3. Whoever was never looked at comes first, then whoever was looked at longest ago.

The options are in section [learning].
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from oslo_config import cfg

from consumer.counting import Happened
from consumer.ledger import Ledger
from consumer.ledger.periodic.learned import ToLookAt
from consumer.periodic.loop import one_turn
from drivers.base import ClientInstance, StorageDriver
from drivers.control_plane import Cinder, Nova
from drivers.errors import OutsideError, PermanentError
from handlers.case import Case, CaseState, LearnedClient, Trigger
from handlers.counting import uncounted
from handlers.judgement.evidence import Evidence, Fact, Outage, Unknown
from handlers.judgement.policy import BackendPolicy
from handlers.notification import Operation
from handlers.recovery.attempt import Attempt
from handlers.recovery.live import ReadOnlyFile
from handlers.recovery.looking import Viewer

LOG = logging.getLogger(__name__)

MINUTE_SECONDS = 60.0
REST_SECONDS = 600.0
"""How long a backend that gave no answer is left alone; Cinder too."""
SILENCES = 2
"""After how many looks in a row without an answer. One may be the volume's own: it has no image."""

GROUP = cfg.OptGroup(
    "learning",
    title="Which client has which volume, learned while all is well",
    help=(
        "Only for storage drivers that can end one client of a host and no other, such as rbd. "
        "detachd looks at attached volumes now and then, and keeps which client has each. The "
        "rounds of [sweep] say which volumes are attached (in_use_pages)."
    ),
)
OPTS = [
    cfg.IntOpt(
        "looks_per_minute",
        default=30,
        min=0,
        max=600,
        help=(
            "How many attached volumes to look at in a minute, one at a time. A look is seven "
            "requests to Cinder and Nova, and one to the backend. 0: no such looks; then clients "
            "are learned only where a case finds its attachment healthy."
        ),
    ),
    cfg.FloatOpt(
        "again_seconds",
        default=21_600.0,
        min=1.0,
        help=(
            "How long after a look the same volume gets the next one, in seconds. The client of a "
            "guest that was started anew since is not known, and its volume is left to a person."
        ),
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class LearningSettings:
    """The settings of the section."""

    looks_per_minute: int
    again_seconds: float

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Read the section."""
        return cls(**conf.learning)


@dataclasses.dataclass(frozen=True, slots=True)
class LearningFile(ReadOnlyFile):
    """A case file to which nothing can be written but which client an attachment has."""

    keep: Callable[[LearnedClient], ClientInstance | None] = lambda _: None

    def learn(self, seen: LearnedClient) -> ClientInstance | None:
        """Keep it."""
        return self.keep(seen)


class Learner:
    """Looks at one attachment after the other. ``has_room``: the worker has a thread to spare."""

    def __init__(
        self,
        clouds: tuple[Cinder, Nova],
        driver_of: Callable[[str], StorageDriver],
        policy_of: Callable[[str], BackendPolicy],
        ledger: Ledger,
        *,
        cloud: str,
        settings: LearningSettings,
        has_room: Callable[[], bool],
        count: Callable[[Happened], None],
    ) -> None:
        self._cinder, nova = clouds
        self._driver_of = driver_of
        self._ledger = ledger
        self._cloud = cloud
        self._settings = settings
        self._has_room = has_room
        self._count = count
        self._others: set[str] = set()
        self._resting: dict[str, float] = {}
        self._silences: Counter[str] = Counter()

        def once(backend: str) -> BackendPolicy:
            # A look that fails is made up for by the next one: repeating it would only load a cloud
            # in trouble.
            return dataclasses.replace(policy_of(backend), tries=1)

        self._policy_of = once
        self._viewer = Viewer(self._cinder, nova, driver_of, once, threading.Event(), uncounted)

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop`` is set. Returns at most one look later."""
        pause_seconds = MINUTE_SECONDS / self._settings.looks_per_minute
        while not stop.wait(pause_seconds):
            with one_turn(LOG, "looking at an attached volume", self._count, "learning"):
                self.look_once()

    def look_once(self) -> ToLookAt | None:
        """Look at the one that is due first; return it, None where none is, or none may be.

        Blocks for Cinder, Nova, the backend and the ledger. Raises LedgerUnavailableError.
        """
        if not self._has_room() or self._rests(""):
            return None
        silent = [backend for backend in self._resting if self._rests(backend)]
        taken = self._ledger.learned.take(
            1, self._settings.again_seconds, besides={*self._others, *silent}
        )
        for one in taken:
            if self._is_ours(one):
                self._look(one)
        return taken[0] if taken else None

    def _is_ours(self, one: ToLookAt) -> bool:
        """Tell whether it gets a look: the driver of its backend needs learned clients."""
        backend = one.backend or self._backend_of(one)
        if backend is None:
            return False
        # So that it is passed over without a request to Cinder the next time.
        if one.backend is None:
            self._ledger.learned.note_backend(one.volume_id, one.attachment_id, backend)
        try:
            needed = self._driver_of(backend).capabilities.by_learned_client
        except OutsideError as error:
            LOG.debug("the driver of backend %s cannot be had: %s", backend, error)
            self._rest(backend)
            return False
        if not needed:
            self._others.add(backend)
        return needed and not self._rests(backend)

    def _backend_of(self, one: ToLookAt) -> str | None:
        limit = self._policy_of("").look_timeout_seconds
        try:
            volume = self._cinder.volume(one.volume_id, timeout_seconds=limit)
        except OutsideError as error:
            LOG.debug("Cinder does not say where volume %s is: %s", one.volume_id, error)
            if not isinstance(error, PermanentError):
                self._rest("")
            return None
        return volume.ref.backend if volume is not None else None

    def _look(self, one: ToLookAt) -> None:
        case = self._made_up(one)
        file = LearningFile(
            case,
            case.updated_at,
            self._ledger.connector_of,
            clients=self._ledger.learned.of_volume,
            keep=lambda seen: self._ledger.learned.learn(one.volume_id, seen),
        )
        attempt = Attempt(file, case, self._policy_of(one.backend or ""), time.monotonic())
        evidence, _ = self._viewer.look(attempt)
        self._rest_where_silent(evidence)

    def _made_up(self, one: ToLookAt) -> Case:
        """Return the case that a sweep would open, for a look; it is stored nowhere."""
        now = self._ledger.now()
        return Case(
            case_id="",
            cloud=self._cloud,
            volume_id=one.volume_id,
            operation=Operation.ATTACH,
            attachment_id=one.attachment_id,
            backend=one.backend,
            trigger=Trigger.SWEEP,
            signal_seq=0,
            state=CaseState.DUE,
            opened_at=now,
            updated_at=now,
        )

    def _rest_where_silent(self, evidence: Evidence) -> None:
        match evidence.volume:
            case Outage():
                self._rest("")
            case Fact(volume):
                self._hear(volume.ref.backend, silent=isinstance(evidence.backend, Unknown))

    def _hear(self, backend: str, *, silent: bool) -> None:
        self._silences[backend] = self._silences[backend] + 1 if silent else 0
        if self._silences[backend] >= SILENCES:
            self._rest(backend)

    def _rest(self, backend: str) -> None:
        """Leave a backend alone for a while; the empty name is Cinder's."""
        self._resting[backend] = time.monotonic() + REST_SECONDS

    def _rests(self, backend: str) -> bool:
        return self._resting.get(backend, 0.0) > time.monotonic()
