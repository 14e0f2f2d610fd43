"""Looks at volumes as the service does, with its clients and drivers.

1. It makes the calls of a look and no other, and writes nothing anywhere.
2. A volume that never had a case is looked at as the one that a sweep would open: of each of its
   attachments, or of none.
3. What the ledger would tell is left out where it is away, and that is said.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from consumer.cloud import ControlPlane, Drivers, control_plane
from consumer.ledger import Ledger, LedgerError, NoSuchCaseError, OnRecord
from consumer.settings.configuration import Settings
from consumer.settings.ledger import open_ledger
from consumer.work.backends import Backends
from consumer.work.driver_calls import BoundedDrivers
from drivers.base import ClientInstance, Connector, StorageDriver
from drivers.control_plane import CinderAttachment, Volume
from drivers.errors import OutsideError
from handlers.case import Case, CaseState, LateCalls, OffWord, Trigger
from handlers.correlation.sweep import FREE
from handlers.counting import uncounted
from handlers.notification import Operation
from handlers.recovery.explanation import About, Explanation, explain
from handlers.recovery.live import ReadOnlyFile, look_now
from handlers.recovery.looking import Viewer

FULL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
OTHER_IDS = "a volume or a server is named by its full id"
LOOK_SECONDS = 30.0
DETACHING = frozenset({"detaching", "error_detaching"})
NO_CASE = "no case is open: looked at as the one that a sweep would open, {operation} by {why}"


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """One look: at which attachment of which volume, as what, and what it means.

    ``case`` is the one that it was made for; its id is empty where there is none.
    """

    case: Case
    why: str
    look: Mapping[str, Any]
    about: About

    @property
    def told(self) -> Explanation:
        """What it means."""
        return explain(self.look, self.about)


@dataclasses.dataclass(frozen=True, slots=True)
class LiveLooks:
    """What a look is made with. ``away`` says why the ledger could not be read, else it is None."""

    clouds: ControlPlane
    driver_of: Callable[[str], StorageDriver]
    backends: Backends
    cloud: str
    ledger: Ledger | None
    away: str | None

    def case(self, case_id: str, volume_id: str) -> Looked:
        """Look at the attachment of a case. Raises NoSuchCaseError, LedgerUnavailableError."""
        record = self._on_record(volume_id, case_id)
        return self._look(record.cases[0], record, "as its case")

    def volume(self, volume_id: str) -> Iterator[Looked]:
        """Look at a volume: as each of its open cases, else at each of its attachments."""
        record = self._on_record(volume_id)
        for case in record.cases:
            yield self._look(case, record, "as its case")
        if not record.cases:
            for case, why in self._suspected(volume_id, record):
                looked = self._look(case, record, why)
                host = self._let_in_alone(looked.look)
                again = dataclasses.replace(case, host=host)
                # Looked at again as a case of that host, which a sweep would open.
                yield self._look(again, record, why) if host else looked

    def server(self, instance_id: str) -> tuple[str, ...] | None:
        """Return the volumes of a server by Cinder and by Nova; None where neither knows it.

        Blocks for both. Raises OutsideError.
        """
        limit = LOOK_SECONDS
        rows = self.clouds.cinder.attachments_of(instance_id, timeout_seconds=limit)
        by_nova = self.clouds.nova.volumes_of(instance_id, timeout_seconds=limit)
        if not rows and by_nova is None:
            return None
        return tuple(sorted({row.volume_id for row in rows} | (by_nova or frozenset())))

    def may_be_volume(self, volume_id: str) -> bool:
        """Tell whether Cinder has a volume of this id, or gives no answer."""
        try:
            return self.clouds.cinder.volume(volume_id, timeout_seconds=LOOK_SECONDS) is not None
        except OutsideError:
            return True

    def _on_record(self, volume_id: str, case_id: str | None = None) -> OnRecord:
        if self.ledger is None:
            return OnRecord(datetime.now(UTC), (), LateCalls(), False, False)
        return self.ledger.on_record(volume_id, case_id)

    def _learned(self, host: str) -> Connector | None:
        return self.ledger.connector_of(host) if self.ledger else None

    def _paused(self, backend: str | None) -> str | None:
        pause = self.ledger.paused(backend) if self.ledger else None
        return f"{pause.words}; `{pause.resume}` ends that" if pause else None

    def _clients(self, volume_id: str) -> Mapping[str, ClientInstance]:
        return self.ledger.learned.of_volume(volume_id) if self.ledger else {}

    def _let_in_alone(self, look: Mapping[str, Any]) -> str | None:
        """Return the one known host that a free volume is exported to, as a sweep finds it."""
        cinder, backend = look["cinder"], look["backend"]
        if self.ledger is None or cinder.get("status") not in FREE or cinder["attachments"]:
            return None
        names = [connection["name"] for connection in backend.get("connections") or ()]
        hosts = self.ledger.sweeps.hosts() if names else {}
        found = {hosts.get(name) for name in names}
        return found.pop() if len(found) == 1 else None

    def _suspected(self, volume_id: str, record: OnRecord) -> Iterator[tuple[Case, str]]:
        volume = self._volume(volume_id)
        rows: tuple[CinderAttachment | None, ...] = volume.attachments if volume else ()
        for row in rows or (None,):
            yield self._made_up(volume_id, volume, row, record)

    def _volume(self, volume_id: str) -> Volume | None:
        try:
            return self.clouds.cinder.volume(volume_id, timeout_seconds=LOOK_SECONDS)
        except OutsideError:
            return None  # the look itself says why

    def _made_up(
        self,
        volume_id: str,
        volume: Volume | None,
        row: CinderAttachment | None,
        record: OnRecord,
    ) -> tuple[Case, str]:
        """Return the case that a sweep would open, and what of Cinder's says which operation."""
        statuses = [volume.status] if volume else []
        statuses += [row.status] if row else []
        moving = next((status for status in statuses if status in DETACHING), None)
        operation = Operation.DETACH if moving else Operation.ATTACH
        case = Case(
            case_id="",
            cloud=self.cloud,
            volume_id=volume_id,
            operation=operation,
            attachment_id=row.attachment_id if row else None,
            instance_id=row.instance_id if row else None,
            trigger=Trigger.SWEEP,
            signal_seq=0,
            state=CaseState.DUE,
            opened_at=record.now,
            updated_at=record.now,
            late=record.late,
            volume_seen=record.volume_seen,
            deletion_told=record.deletion_told,
        )
        why = f"status {moving or next(iter(statuses), 'unknown')}"
        return case, NO_CASE.format(operation=operation.value, why=why)

    def _off(self, host: str) -> OffWord | None:
        return self.ledger.off_word(host) if self.ledger is not None else None

    def _look(self, case: Case, record: OnRecord, why: str) -> Looked:
        viewer = Viewer(
            self.clouds.cinder,
            self.clouds.nova,
            self.driver_of,
            lambda backend: self.backends.of(backend).policy,
            threading.Event(),
            uncounted,
        )
        # As a worker has it, whose claim counts the attempt.
        claimed = dataclasses.replace(case, attempts=case.attempts + 1)
        file = ReadOnlyFile(claimed, record.now, self._learned, self._off, self._clients)
        look = look_now(viewer, file)
        state = case.state if case.case_id else None
        about = About(
            case.case_id or None,
            state,
            case.fingerprint,
            self.away,
            live=True,
            paused=self._paused(look["cinder"].get("backend")),
        )
        return Looked(case, why, look, about)


@contextlib.contextmanager
def live_looks(settings: Settings) -> Iterator[LiveLooks]:
    """Make the clients and drivers that the service makes; open the ledger where it answers."""
    clouds = control_plane(settings)
    drivers = BoundedDrivers(Drivers(settings, clouds.cinder), settings.backends)
    with contextlib.closing(open_ledger(settings.cloud, settings.ledger)) as ledger:
        away = _away(ledger)
        yield LiveLooks(
            clouds, drivers, settings.backends, settings.cloud, None if away else ledger, away
        )


def _away(ledger: Ledger) -> str | None:
    try:
        ledger.check_schema()
    except LedgerError as error:
        return str(error)
    return None


def looks_at(live: LiveLooks, wanted: str) -> Iterator[Looked]:
    """Yield the looks at what an id stands for: a case, a volume, or a server."""
    if (case := _case(live, wanted)) is not None:
        yield case
        return
    # A volume first, also where Cinder gives no answer: its look then says why.
    if live.may_be_volume(wanted) or (volumes := live.server(wanted)) is None:
        yield from live.volume(wanted)
        return
    for volume_id in volumes:
        yield from live.volume(volume_id)


def _case(live: LiveLooks, wanted: str) -> Looked | None:
    """Return the look at a case of this id; None where it can be the id of something else."""
    other = FULL_ID.fullmatch(wanted) is not None
    if live.ledger is None:
        if other:
            return None
        raise LedgerError(f"a case cannot be found without the ledger: {live.away}")
    try:
        found = live.ledger.case(wanted).case
    except NoSuchCaseError as error:
        if other:
            return None
        # Only a full id can be anything else than a case's.
        raise NoSuchCaseError(f"{error}; {OTHER_IDS}") from None
    return live.case(found.case_id, found.volume_id)
