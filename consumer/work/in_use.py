"""The slow round of the sweep: what Cinder and Nova do not agree on, over all attached volumes.

The commonest complaint is a volume that stays in-use because its server was deleted while Cinder
was down. No list in transition shows it. A round reads all of Nova's servers with their volumes and
all of Cinder's rows, a few pages in each sweep, and compares. What only one of them has is read
again, by itself, from both; only what is still apart then is made a case.

A row whose server this Nova was never known to have is no suspect: bare metal, another region, a
client of Cinder's own. It is counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
from collections.abc import Callable, Sequence

from consumer.ledger import Arrival, Ledger
from consumer.ledger.work.rounds import Apart, Round
from drivers.control_plane import Cinder, CinderAttachment, Nova, Volume
from drivers.errors import NotFoundError, PermanentError
from handlers.correlation import sweep

LOG = logging.getLogger(__name__)

BUS = "sweep"
SERVERS, COMPARE = "servers", "compare"
ROW_STATUSES = ("attached", *sweep.ROW_STATUSES)
STAGES = (SERVERS, *(f"rows {status}" for status in ROW_STATUSES), COMPARE)
GONE, NO_DEVICE, NO_ROW = "server-gone", "no-device", "no-row"


@dataclasses.dataclass(frozen=True, slots=True)
class RoundSettings:
    """``pages``: how many pages one sweep reads; 0: there are no rounds."""

    interval_seconds: float
    pages: int
    page_size: int
    timeout_seconds: float
    again_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """What one sweep did for the round. ``strangers``: rows of servers that Nova never had."""

    pages: int = 0
    suspects: int = 0
    opened: int = 0
    strangers: int = 0


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
        settings = self._settings
        now = None
        if settings.pages:
            now = self._ledger.rounds.current(SERVERS, settings.interval_seconds)
        pages = 0
        while now is not None and now.stage != COMPARE and pages < settings.pages:
            if stop.is_set():
                return Progress(pages)
            now = self._read_page(now)
            pages += 1
        if now is None or now.stage != COMPARE:
            return Progress(pages)
        return dataclasses.replace(self._compare(now, stop, room), pages=pages)

    # --- the lists ------------------------------------------------------------------------------

    def _read_page(self, now: Round) -> Round:
        try:
            return self._servers(now) if now.stage == SERVERS else self._rows(now)
        except (NotFoundError, PermanentError) as error:
            if now.marker is None:
                raise
            LOG.warning("a list is read from its beginning, as its marker is gone: %s", error)
            return self._ledger.rounds.note(
                now, (), stage=now.stage, marker=None, device=now.stage == SERVERS
            )

    def _servers(self, now: Round) -> Round:
        page = self._nova.servers(
            after=now.marker,
            limit=self._settings.page_size,
            timeout_seconds=self._settings.timeout_seconds,
        )
        pairs = [(v, server.instance_id) for server in page.servers for v in server.volumes]
        stage = SERVERS if page.after is not None else _following(SERVERS)
        return self._ledger.rounds.note(now, pairs, stage=stage, marker=page.after, device=True)

    def _rows(self, now: Round) -> Round:
        limit = self._settings.page_size
        page = self._cinder.attachments_in(
            now.stage.removeprefix("rows "),
            after=now.marker,
            limit=limit,
            timeout_seconds=self._settings.timeout_seconds,
        )
        pairs = [(row.volume_id, row.instance_id) for row in page if row.instance_id is not None]
        more = len(page) == limit
        stage = now.stage if more else _following(now.stage)
        marker = page[-1].attachment_id if more else None
        return self._ledger.rounds.note(now, pairs, stage=stage, marker=marker, device=False)

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
            progress = dataclasses.replace(
                progress,
                suspects=progress.suspects + len(found or ()),
                opened=progress.opened + opened,
                strangers=progress.strangers + (found is None),
            )
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
            record = self._nova.deleted_server(one.instance_id, timeout_seconds=limit)
            return None if record is None else _arrivals(volume, rows, one, GONE, number)
        if bool(rows) == bool(server.block_devices) or server.task_state is not None:
            return ()
        what = NO_DEVICE if rows else NO_ROW
        return _arrivals(volume, rows, one, what, number)


def implausible(now: Round) -> str | None:
    """Return why Nova's list must not be taken for the whole of it, or None.

    A cell that does not answer is left out of it, or its servers have no volumes there.
    """
    before = now.devices_before
    if before is None or now.devices >= before * sweep.FAR_LESS:
        return None
    return f"Nova lists {now.devices} volumes of servers, after {before} before"


def _following(stage: str) -> str:
    return STAGES[STAGES.index(stage) + 1]


def _arrivals(
    volume: Volume, rows: Sequence[CinderAttachment], one: Apart, what: str, number: int
) -> Sequence[Arrival]:
    attachment = rows[0] if len(rows) == 1 else None
    found = sweep.found_apart(volume, attachment, one.instance_id, what, number)
    return [Arrival(found, hashlib.sha256(found.message_id.encode()).hexdigest(), BUS)]
