"""The sweep: a periodic read of Cinder's lists for what stays in transition.

Notifications make detachd fast; the sweep makes sure that it misses nothing.

The sweep also finds ghosts: volumes that are available in Cinder but still exported by a backend.
No notification reports them. Causes are an ignored failure of remove_export, a call that took
effect after all its callers had given up (UC5), or a status that was reset by hand. Such a volume
could be attached to another server while the first host still has access.

1. Only what has stayed unchanged for its time is offered to the ledger, and only after its volume
   was read again.
2. What a sweep does not see is forgotten only if its lists are complete: Cinder's count is
   plausible, and every backend has answered.
3. One sweep opens at most ``most_cases``. The others wait for the next ones, and are counted.

The options are in section [sweep].
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Self, TypeVar

from oslo_config import cfg

from consumer.counting import Happened
from consumer.ledger import Ledger
from consumer.ledger.periodic.sweeps import DueSweep
from consumer.periodic.in_use import BUS, InUseRound, Progress, RoundSettings, arrival_of
from consumer.periodic.loop import one_turn
from drivers.base import Export, StorageDriver
from drivers.control_plane import Cinder, ListedAttachment, ListedVolume, Nova
from drivers.errors import OutsideError
from drivers.registry import RegistryError
from handlers.correlation import sweep
from handlers.correlation.sweep import Patience, Sighting, Standing
from handlers.notification import Notification

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Ghosts:
    """The ghosts by backend. ``unseen`` are the backends that did not answer.

    ``occupied`` are volumes that others may get although a row of theirs is attached, whichever
    driver they have, ``shared`` volumes to which several hosts have access.
    """

    found: Mapping[str, tuple[Sighting, ...]]
    unseen: frozenset[str]
    occupied: tuple[Sighting, ...] = ()
    shared: tuple[Sighting, ...] = ()

    def free(self) -> Iterator[Sighting]:
        """Yield those of volumes that others may get; of one that is both, the ghost counts."""
        yield from self.occupied
        yield from itertools.chain.from_iterable(self.found.values())


@dataclasses.dataclass(frozen=True, slots=True)
class _Listing:
    """A backend's exports with connections, by volume, and those whose volume is available."""

    connected: Mapping[str, Export]
    found: list[Sighting] = dataclasses.field(default_factory=list)

    def match(self, volume: ListedVolume) -> None:
        """Note the volume if the backend exports it."""
        export = self.connected.get(volume.name_id or volume.volume_id)
        if export is not None:
            self.found.append(sweep.of_export(volume, export))

    def shared(self, hosts: Mapping[str, str]) -> Iterator[Sighting]:
        """Yield those that several known hosts have access to."""
        for volume_id, export in self.connected.items():
            names = (connection.name for connection in export.connections)
            if len(sweep.hosts_of(names, hosts)) > 1:
                yield sweep.of_shared(volume_id, export)


def find_ghosts(
    available: Iterable[ListedVolume],
    driver_of: Callable[[str], StorageDriver],
    *,
    timeout_seconds: float,
    hosts: Mapping[str, str] = MappingProxyType({}),
) -> Ghosts:
    """Ask each backend of these volumes which of them it exports to a host.

    ``hosts`` are the compute hosts by the names that backends use. What has access by the names of
    two hosts or more is shared, whatever its volume's status.

    Backends whose driver cannot list exports are skipped. Blocks for each of the others in turn; an
    error of one is logged and does not stop the others. The volumes are most of a cloud's, so they
    are not kept in memory.
    """
    listings: dict[str, _Listing | None] = {}
    unseen: set[str] = set()
    occupied: list[Sighting] = []
    for volume in available:
        if volume.attached:
            occupied.append(sweep.of_occupied(volume))
        if (backend := volume.backend) is None:
            continue
        if backend not in listings:
            try:
                listings[backend] = _listed(driver_of(backend), timeout_seconds)
            except (OutsideError, RegistryError) as error:
                LOG.warning("the exports of backend %s cannot be listed: %s", backend, error)
                listings[backend] = None
                unseen.add(backend)
        if (listing := listings[backend]) is not None:
            listing.match(volume)
    found = {b: tuple(listing.found) for b, listing in listings.items() if listing is not None}
    shared = [s for listing in listings.values() if listing for s in listing.shared(hosts)]
    return Ghosts(found, frozenset(unseen), tuple(occupied), tuple(shared))


def _listed(driver: StorageDriver, timeout_seconds: float) -> _Listing | None:
    """Read the list of exports; None if the driver cannot list them."""
    if not driver.capabilities.lists_exports:
        return None
    exports = driver.list_exports(timeout_seconds=timeout_seconds)
    return _Listing({e.volume_id: e for e in exports if e.volume_id is not None and e.connections})


TIMED_OUT_CALLS = 10
"""Nova tries an attach five times, then its clean-up five times, each until Cinder's RPC timeout
(Nova, nova/volume/cinder.py)."""

GROUP = cfg.OptGroup(
    "sweep",
    title="The periodic read of Cinder's and the backends' lists",
    help=(
        "The sweep finds stuck volumes for which no notification arrived. It opens a case for each "
        "volume or attachment that stays in transition. Such a case is diagnosed like any other. "
        "If several replicas run, only one of them sweeps at a time."
    ),
)


def _patience(name: str, default: float, what: str) -> cfg.FloatOpt:
    help_text = f"How long {what} may stay unchanged, in seconds, before the sweep opens a case."
    return cfg.FloatOpt(f"{name}_seconds", default=default, min=1.0, help=help_text)


OPTS = [
    cfg.BoolOpt("enabled", default=True, help="Run the sweep in this service."),
    cfg.FloatOpt(
        "interval_seconds",
        default=300.0,
        min=1.0,
        help="The pause between two sweeps, in seconds. A random part of up to a quarter is added.",
    ),
    _patience("attaching", 900.0, "a volume or attachment that is attaching"),
    _patience("detaching", 900.0, "a volume or attachment that is detaching"),
    _patience("reserved", 3600.0, "a reserved volume or attachment (long_rpc_timeout is 1800)"),
    _patience("error", 900.0, "an attachment that is error_attaching or error_detaching"),
    cfg.FloatOpt(
        "again_seconds",
        default=86_400.0,
        min=60.0,
        help=(
            "How long after a diagnosis the sweep opens a case again for the same volume or "
            "attachment, in seconds, if it has not changed since. A reservation of a shelved "
            "server may stay for months and needs no action."
        ),
    ),
    cfg.IntOpt(
        "most_cases",
        default=50,
        min=1,
        help="How many cases one sweep opens at most. The others are counted "
        "(detachd_sweep_findings_left), logged and listed (`detachd sweep list`), and follow in "
        "the next sweeps. The first sweep of an old cloud may find thousands.",
    ),
    cfg.FloatOpt(
        "in_use_interval_seconds",
        default=21_600.0,
        min=1.0,
        help="How long after the beginning of one round over all attached volumes the next one "
        "begins, in seconds. A round compares Nova's servers and Cinder's attachments, over "
        "several sweeps.",
    ),
    cfg.IntOpt(
        "in_use_pages",
        default=20,
        min=0,
        help="How many pages of such a round one sweep reads. 0: no rounds, so a volume whose "
        "server is gone is found only by notifications.",
    ),
    cfg.IntOpt(
        "page_size",
        default=500,
        min=1,
        max=1000,
        help="The number of entries in one page of Cinder's lists. Must not be larger than "
        "osapi_max_limit in cinder.conf, whose default is 1000.",
    ),
    cfg.FloatOpt(
        "timeout_seconds",
        default=30.0,
        min=0.1,
        help="The time limit for one page of Cinder's lists, or one list of a backend, in seconds.",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class SweepSettings:
    """The settings of the section."""

    enabled: bool
    interval_seconds: float
    patience: Patience
    page_size: int
    timeout_seconds: float
    most_cases: int
    in_use_interval_seconds: float
    in_use_pages: int

    def round(self, *, free: bool, learns: bool) -> RoundSettings:
        """Return the settings of the round over all attached volumes."""
        return RoundSettings(
            interval_seconds=self.in_use_interval_seconds,
            pages=self.in_use_pages,
            page_size=self.page_size,
            timeout_seconds=self.timeout_seconds,
            again_seconds=self.patience.again_seconds,
            free=free,
            learns=learns,
        )

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Read the section."""
        section = dict(conf.sweep)
        patience = {one.name: section.pop(one.name) for one in dataclasses.fields(Patience)}
        return cls(patience=Patience(**patience), **section)

    def problems(self, rpc_response_timeout_seconds: float) -> Iterator[str]:
        """Yield a sentence for each option that does not go with Cinder's RPC timeout."""
        least = TIMED_OUT_CALLS * rpc_response_timeout_seconds
        for name in ("attaching", "detaching", "reserved"):
            patience = self.patience.of(name)
            if self.enabled and patience < least:
                yield (
                    f"[sweep] {name}_seconds = {patience:g} is shorter than the {least:g} seconds "
                    f"that Nova's own tries may take ({TIMED_OUT_CALLS} x "
                    "rpc_response_timeout_seconds in [cloud]): operations in progress would be "
                    "taken for stuck; raise it"
                )


MOST_VOLUMES = 1000
"""How many suspected volumes one sweep reads, those in transition longest first."""

DOUBT_SECONDS = 86_400.0
"""How long a lower count must last before it is accepted."""

Entry = TypeVar("Entry")


@dataclasses.dataclass(frozen=True, slots=True)
class Pages:
    """How a list of Cinder's is read: how many entries at once, and how long each page may take."""

    size: int
    timeout_seconds: float

    def read(
        self, list_page: Callable[..., Sequence[Entry]], status: str, key: Callable[[Entry], str]
    ) -> Iterator[Entry]:
        """Yield all entries of a status. Blocks for each page; raises OutsideError."""
        after = None
        while True:
            page = list_page(
                status, after=after, limit=self.size, timeout_seconds=self.timeout_seconds
            )
            yield from page
            if len(page) < self.size:
                return
            after = key(page[-1])


def volumes_in_transition(cinder: Cinder, pages: Pages) -> Iterator[ListedVolume]:
    """Yield the volumes whose status is one of transition. Raises OutsideError."""
    for status in sweep.VOLUME_STATUSES:
        yield from pages.read(cinder.volumes_in, status, lambda volume: volume.volume_id)


def attachments_in_transition(cinder: Cinder, pages: Pages) -> Iterator[ListedAttachment]:
    """Yield the attachments whose status is one of transition or error. Raises OutsideError."""
    for status in sweep.ROW_STATUSES:
        yield from pages.read(cinder.attachments_in, status, lambda row: row.attachment_id)


class SweepResult(enum.Enum):
    """How a sweep ended."""

    WHOLE = "whole"
    DOUBTED = "doubted"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class SweepReport:
    """The result of one sweep. ``seen``: the number in transition, by status.

    ``suspects``: how many notifications the sweep made for the ledger. ``opened``: how many cases
    they opened; no other notification had reported these. ``ghosts``: the number of ghosts of each
    backend whose driver can list exports. ``left``: how many suspected volumes wait for the next
    sweep. ``strangers``: how many attachments name a server that Nova was never known to have.
    """

    result: SweepResult
    seconds: float
    seen: Mapping[str, int] = dataclasses.field(default_factory=dict)
    suspects: int = 0
    opened: int = 0
    ghosts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    left: int = 0
    pages: int = 0
    strangers: int = 0


class Sweeper:
    """Sweeps if no other replica has swept within the interval.

    ``ghosts``: whether any driver can list exports. If none can, the available volumes are not
    read; they are most of a cloud's. ``learns``: whether a driver needs to know the clients of
    attachments. ``nova``: None for no rounds over the attached volumes.
    """

    def __init__(
        self,
        cinder: Cinder,
        driver_of: Callable[[str], StorageDriver],
        ledger: Ledger,
        *,
        owner: str,
        settings: SweepSettings,
        count: Callable[[SweepReport | Happened], None],
        ghosts: bool = True,
        learns: bool = False,
        nova: Nova | None = None,
    ) -> None:
        self._cinder = cinder
        self._driver_of = driver_of
        self._ledger = ledger
        self._owner = owner
        self._settings = settings
        self._count = count
        self._seeks_ghosts = ghosts
        of_round = settings.round(free=not ghosts, learns=learns)
        self._round = InUseRound(cinder, nova, ledger, of_round) if nova else None

    def run(self, stop: threading.Event) -> None:
        """Sweep at intervals until ``stop`` is set. Returns at most one call to Cinder later."""
        quarter = self._settings.interval_seconds / 4
        while not stop.wait(random.uniform(0, quarter)):  # noqa: S311 - jitter is no secret
            with one_turn(LOG, "the sweep", self._count, "sweeper"):
                self.sweep_once(stop)

    def sweep_once(self, stop: threading.Event) -> SweepReport | None:
        """Make one sweep; None if another replica has swept, or if ``stop`` was set meanwhile.

        Blocks for Cinder's answers, page by page, and for the ledger. Raises
        LedgerUnavailableError. If Cinder does not answer, the result of the sweep is FAILED.
        """
        due = self._ledger.sweeps.begin(self._owner, self._settings.interval_seconds)
        if due is None:
            return None
        began = time.monotonic()
        try:
            report = self._sweep(due, stop)
        except OutsideError as error:
            LOG.warning("the sweep failed; its result is not used: %s", error)
            report = SweepReport(SweepResult.FAILED, 0.0)
        if report is None:
            return None
        report = dataclasses.replace(report, seconds=time.monotonic() - began)
        self._count(report)
        return report

    def _sweep(self, due: DueSweep, stop: threading.Event) -> SweepReport | None:
        # First, so that a Cinder without an answer costs one request.
        counted = self._cinder.count_volumes(timeout_seconds=self._settings.timeout_seconds)
        listed = list(itertools.takewhile(lambda _: not stop.is_set(), self._list()))
        ghosts = self._ghosts()
        if stop.is_set():
            return None
        # What was in transition when its list was read may be free by now, and the other way round:
        # the last word counts.
        seen = sweep.latest([*ghosts.shared, *listed, *ghosts.free()])
        # Before the sightings are stored: what a doubted list does not show is not deleted.
        whole = self._believe(due, counted)
        standings = self._ledger.sweeps.note(seen, whole=whole and not ghosts.unseen)
        offered, left = self._offer(standings, stop)
        if whole:
            self._ledger.sweeps.believed(counted)
        else:
            self._ledger.sweeps.doubted()
        progress = offered + self._go_on_with_round(offered.opened, stop)
        return SweepReport(
            SweepResult.WHOLE if whole else SweepResult.DOUBTED,
            0.0,
            Counter(s.status for s in seen),
            progress.suspects,
            progress.opened,
            {backend: len(found) for backend, found in ghosts.found.items()},
            left=left,
            pages=progress.pages,
            strangers=progress.strangers,
        )

    def _go_on_with_round(self, opened: int, stop: threading.Event) -> Progress:
        """Read the next pages of the round. An outage ends it for now, and not the sweep."""
        if self._round is None:
            return Progress()
        try:
            return self._round.advance(stop, lambda: self._settings.most_cases - opened)
        except OutsideError as error:
            LOG.warning("the round over the attached volumes goes on later: %s", error)
            return Progress()

    def _ghosts(self) -> Ghosts:
        if not self._seeks_ghosts:
            return Ghosts({}, frozenset())
        free = itertools.chain.from_iterable(
            self._pages.read(self._cinder.volumes_in, status, lambda v: v.volume_id)
            for status in sweep.FREE
        )
        limit, hosts = self._settings.timeout_seconds, self._ledger.sweeps.hosts()
        return find_ghosts(free, self._driver_of, timeout_seconds=limit, hosts=hosts)

    def _believe(self, due: DueSweep, counted: int) -> bool:
        doubt = sweep.implausible(counted, due.counted)
        if doubt is None:
            return True
        if (due.doubted_seconds or 0.0) >= DOUBT_SECONDS:
            LOG.warning("%s. This has lasted for a day: detachd accepts it now", doubt)
            return True
        LOG.warning(
            "%s. The state of unlisted volumes is unknown; this sweep removes nothing", doubt
        )
        return False

    # --- Cinder's lists -------------------------------------------------------------------------

    def _list(self) -> Iterator[Sighting]:
        """Yield everything in transition. Raises OutsideError if a list cannot be read."""
        pages = self._pages
        yield from map(sweep.of_volume, volumes_in_transition(self._cinder, pages))
        yield from map(sweep.of_attachment, attachments_in_transition(self._cinder, pages))

    @property
    def _pages(self) -> Pages:
        return Pages(self._settings.page_size, self._settings.timeout_seconds)

    # --- what becomes a case --------------------------------------------------------------------

    def _offer(self, standings: Sequence[Standing], stop: threading.Event) -> tuple[Progress, int]:
        """Give the ripe ones to the ledger, until as many cases are opened as may be.

        Returns also how many volumes are left for the next sweep.
        """
        ripe = [s for s in standings if sweep.ripe(s, self._settings.patience)]
        by_volume: dict[str, list[Standing]] = {}
        for standing in sorted(ripe, key=lambda s: -s.age_seconds):
            by_volume.setdefault(standing.sighting.volume_id, []).append(standing)
        hosts = self._ledger.sweeps.hosts() if ripe else {}
        suspects = opened = read = 0
        # A volume at a time, so that the limit of cases is kept to the case.
        for of_volume in itertools.islice(by_volume.values(), MOST_VOLUMES):
            if stop.is_set() or opened >= self._settings.most_cases:
                break
            found = self._suspects(of_volume, hosts)
            opened += self._ledger.accept([arrival_of(n, BUS) for n in found]).opened
            # After the accept: a process that dies in between offers them again, and the ledger
            # knows them.
            self._ledger.sweeps.offered([s.sighting.key for s in of_volume])
            suspects, read = suspects + len(found), read + 1
        if left := len(by_volume) - read:
            LOG.warning(
                "the sweep opened %d cases; %d more suspected volumes wait for the next one "
                "(`detachd sweep list`)", opened, left,
            )  # fmt: skip
        return Progress(suspects=suspects, opened=opened), left

    def _suspects(
        self, standings: Sequence[Standing], hosts: Mapping[str, str]
    ) -> Sequence[Notification]:
        """Read the volume again, and return what is still suspect. Raises OutsideError."""
        volume = self._cinder.volume(
            standings[0].sighting.volume_id, timeout_seconds=self._settings.timeout_seconds
        )
        return () if volume is None else tuple(sweep.suspects(volume, standings, hosts))
