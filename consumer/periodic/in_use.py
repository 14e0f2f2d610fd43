"""The slow round of the sweep: what Cinder and Nova do not agree on, over all attached volumes.

The commonest complaint is a volume that stays in-use because its server was deleted while Cinder
was down. No list in transition shows it. A round reads all of Nova's servers with their volumes and
all of Cinder's rows, a few pages in each sweep, and compares.

1. What only one of them has is read again, by itself, from both; only what is still apart then is
   made a case.
2. A row whose server this Nova was never known to have is no suspect: bare metal, another region, a
   client of Cinder's own. It is counted.
3. Where Nova lists far less than in the round before, nothing is compared.
4. Where no driver can list exports, a round also reads the volumes that others may get (available,
   or up for transfer), for those that have an attached row; else the sweep itself reads them each
   time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
from collections.abc import Callable, Sequence

from consumer.ledger import Arrival, Ledger
from consumer.ledger.periodic.rounds import Apart, Round
from drivers.control_plane import Cinder, CinderAttachment, Nova, Volume
from drivers.errors import PermanentError
from handlers.correlation import sweep
from handlers.notification import Notification

LOG = logging.getLogger(__name__)

BUS = "sweep"
SERVERS, COMPARE = "servers", "compare"
ATTACHED = "attached"
ROW_STATUSES = (ATTACHED, *sweep.ROW_STATUSES)
ROWS, FREE = "rows ", "free "
STAGES = (
    SERVERS,
    *(f"{ROWS}{status}" for status in ROW_STATUSES),
    *(f"{FREE}{status}" for status in sweep.FREE),
    COMPARE,
)
GONE, NO_DEVICE, NO_ROW = "server-gone", "no-device", "no-row"


@dataclasses.dataclass(frozen=True, slots=True)
class RoundSettings:
    """``pages``: how many pages one sweep reads; 0: there are no rounds.

    ``free``: whether to read the volumes that others may get too. ``learns``: whether a driver
    needs to know the clients of attachments, which are looked at one by one then.
    """

    interval_seconds: float
    pages: int
    page_size: int
    timeout_seconds: float
    again_seconds: float
    free: bool = False
    learns: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """What one sweep did for the round. ``strangers``: rows of servers that Nova never had."""

    pages: int = 0
    suspects: int = 0
    opened: int = 0
    strangers: int = 0

    def __add__(self, other: Progress) -> Progress:
        return Progress(
            self.pages + other.pages,
            self.suspects + other.suspects,
            self.opened + other.opened,
            self.strangers + other.strangers,
        )


class InUseRound:
    """Goes on with the round, a few pages at a time. One replica at a time calls it."""

    def __init__(self, cinder: Cinder, nova: Nova, ledger: Ledger, settings: RoundSettings) -> None:
        self._cinder = cinder
        self._nova = nova
        self._ledger = ledger
        self._settings = settings

    def advance(self, stop: threading.Event, room: Callable[[], int]) -> Progress:
        """Read the next pages, or look into what is apart; ``room``: how many cases may be opened.

        Blocks for Cinder, Nova and the ledger. Raises OutsideError and LedgerUnavailableError; the
        next call goes on where this one stopped.
        """
        settings, progress, now = self._settings, Progress(), None
        if settings.pages:
            now = self._ledger.rounds.current(SERVERS, settings.interval_seconds)
        while now is not None and now.stage != COMPARE and progress.pages < settings.pages:
            if stop.is_set() or room() <= progress.opened:
                return progress
            now, found = self._read_page(now)
            opened = self._ledger.accept(found).opened if found else 0
            progress += Progress(1, len(found), opened)
        if now is None or now.stage != COMPARE:
            return progress
        return progress + self._compare(now, stop, lambda: room() - progress.opened)

    # --- the lists ------------------------------------------------------------------------------

    def _read_page(self, now: Round) -> tuple[Round, Sequence[Arrival]]:
        try:
            if now.stage == SERVERS:
                return self._servers(now), ()
            return self._rows(now) if now.stage.startswith(ROWS) else self._free(now)
        except PermanentError as error:
            # Without a marker it is the request itself that is refused.
            if now.marker is None:
                raise
            LOG.warning("a list is read from its beginning, as its marker is gone: %s", error)
            again = self._ledger.rounds.note(now, (), stage=now.stage, marker=None, device=False)
            return again, ()

    def _servers(self, now: Round) -> Round:
        page = self._nova.servers(
            after=now.marker,
            limit=self._settings.page_size,
            timeout_seconds=self._settings.timeout_seconds,
        )
        pairs = [(v, server.instance_id) for server in page.servers for v in server.volumes]
        stage = SERVERS if page.after is not None else self._following(SERVERS)
        return self._ledger.rounds.note(now, pairs, stage=stage, marker=page.after, device=True)

    def _rows(self, now: Round) -> tuple[Round, Sequence[Arrival]]:
        page = self._cinder.attachments_in(
            now.stage.removeprefix(ROWS),
            after=now.marker,
            limit=self._settings.page_size,
            timeout_seconds=self._settings.timeout_seconds,
        )
        pairs = [(row.volume_id, row.instance_id) for row in page if row.instance_id is not None]
        if self._settings.learns and now.stage == f"{ROWS}{ATTACHED}":
            self._ledger.learned.note_attached([(r.volume_id, r.attachment_id) for r in page])
        return self._went_on(now, [row.attachment_id for row in page], pairs), ()

    def _free(self, now: Round) -> tuple[Round, Sequence[Arrival]]:
        page = self._cinder.volumes_in(
            now.stage.removeprefix(FREE),
            after=now.marker,
            limit=self._settings.page_size,
            timeout_seconds=self._settings.timeout_seconds,
        )
        found = [
            arrival
            for listed in page
            if listed.attached
            for arrival in self._occupied(listed.volume_id, now.number)
        ]
        return self._went_on(now, [volume.volume_id for volume in page], ()), found

    def _went_on(self, now: Round, keys: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Round:
        # A full page may be the last one; then the next page is empty, which is no harm.
        more = len(keys) == self._settings.page_size
        stage, marker = (now.stage, keys[-1]) if more else (self._following(now.stage), None)
        return self._ledger.rounds.note(now, pairs, stage=stage, marker=marker, device=False)

    def _following(self, stage: str) -> str:
        later = STAGES[STAGES.index(stage) + 1 :]
        return next(s for s in later if self._settings.free or not s.startswith(FREE))

    def _occupied(self, volume_id: str, number: int) -> Sequence[Arrival]:
        """Read a volume that others may get, and return what is attached to it all the same."""
        limit = self._settings.timeout_seconds
        volume = self._cinder.volume(volume_id, timeout_seconds=limit)
        # Read again by itself: the list may be pages old.
        if volume is None or volume.status not in sweep.FREE or not volume.attachments:
            return ()
        server = volume.attachments[0].instance_id
        return _arrivals(volume, volume.attachments, server, sweep.OCCUPIED, number)

    # --- what is apart --------------------------------------------------------------------------

    def _compare(self, now: Round, stop: threading.Event, room: Callable[[], int]) -> Progress:
        if doubt := implausible(now):
            LOG.warning("%s; this round compares nothing", doubt)
            self._ledger.rounds.end(now)
            return Progress()
        progress, limit = Progress(), max(self._settings.pages, 1)
        apart = self._ledger.rounds.apart(now, limit, self._settings.again_seconds)
        for one in apart:
            if stop.is_set() or room() <= progress.opened:
                return progress
            found = self._look_into(one, now.number)
            opened = self._ledger.accept(found).opened if found else 0
            self._ledger.rounds.checked(now, (one.volume_id, one.instance_id), offered=bool(found))
            progress += Progress(0, len(found or ()), opened, int(found is None))
        if len(apart) < limit:
            self._ledger.rounds.end(now)
        return progress

    def _look_into(self, one: Apart, number: int) -> Sequence[Arrival] | None:
        """Read both sides again; return what is still apart, None for a server never known."""
        limit = self._settings.timeout_seconds
        volume = self._cinder.volume(one.volume_id, timeout_seconds=limit)
        if volume is None:
            return ()
        rows = [a for a in volume.attachments if a.instance_id == one.instance_id]
        server = self._nova.server(one.instance_id, one.volume_id, timeout_seconds=limit)
        if server is None:
            if not rows:
                return ()
            # The control: only a server that this Nova had can be missing from it.
            record = self._nova.deleted_server(one.instance_id, timeout_seconds=limit)
            return (
                None if record is None else _arrivals(volume, rows, one.instance_id, GONE, number)
            )
        # A task is under way: an attach or a detach makes the two differ for a moment.
        if bool(rows) == bool(server.block_devices) or server.task_state is not None:
            return ()
        what = NO_DEVICE if rows else NO_ROW
        return _arrivals(volume, rows, one.instance_id, what, number)


def implausible(now: Round) -> str | None:
    """Return why Nova's list must not be taken for the whole of it, or None.

    A cell that does not answer is left out of it, or its servers have no volumes there.
    """
    before = now.devices_before
    if before is None or now.devices >= before * sweep.FAR_LESS:
        return None
    return f"Nova lists {now.devices} volumes of servers, after {before} before"


def _arrivals(
    volume: Volume,
    rows: Sequence[CinderAttachment],
    instance_id: str | None,
    what: str,
    number: int,
) -> Sequence[Arrival]:
    attachment = rows[0] if len(rows) == 1 else None
    found = sweep.found_apart(volume, attachment, instance_id, what, number)
    return [arrival_of(found, BUS)]


def arrival_of(found: Notification, bus: str) -> Arrival:
    """Return for the ledger what detachd itself has found, which came in no body."""
    return Arrival(found, hashlib.sha256(found.message_id.encode()).hexdigest(), bus)
