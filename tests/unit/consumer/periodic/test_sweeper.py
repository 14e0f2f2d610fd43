"""The sweeper on the simulated cloud: what becomes a case, and what proves nothing."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from consumer.counting import EventKind, Happened
from consumer.ledger import Ledger, LedgerUnavailableError
from consumer.ledger.database.tables import sightings, sweeps
from consumer.periodic.sweep import Sweeper, SweepReport, SweepResult, SweepSettings, find_ghosts
from drivers.control_plane import ListedVolume, Volume
from drivers.simulator import DEFAULT_BACKEND, Cloud, Fault
from handlers.case import Case, CaseState, Trigger
from handlers.correlation.sweep import (
    FIRST_PUBLISHER,
    PUBLISHER,
    ROW_STATUSES,
    VOLUME_STATUSES,
    Patience,
)
from handlers.notification import Operation
from tests.bus import new_ledger, running, until

HOST = "compute-1"
HOUR = 3600.0
SETTINGS = SweepSettings(
    enabled=True,
    interval_seconds=0.0,
    patience=Patience(900, 900, 1800, 900, 86_400),
    page_size=2,
    timeout_seconds=1.0,
    most_cases=50,
    in_use_interval_seconds=21_600.0,
    in_use_pages=0,
)


class Notes:
    """Keeps what a sweeper tells."""

    def __init__(self) -> None:
        self.reports: list[SweepReport] = []
        self.errors: list[str] = []

    def __call__(self, event: SweepReport | Happened) -> None:
        """Keep it."""
        match event:
            case SweepReport():
                self.reports.append(event)
            case Happened(EventKind.INTERNAL_ERROR, loop):
                self.errors.append(str(loop))


@dataclasses.dataclass
class Broom:
    """A sweeper with all that it stands on."""

    cloud: Cloud
    ledger: Ledger
    notes: Notes
    settings: SweepSettings = SETTINGS

    def sweeper(self) -> Sweeper:
        """Return a replica's sweeper."""
        return Sweeper(
            self.cloud.cinder,
            self.cloud.driver,
            self.ledger,
            owner="me",
            settings=self.settings,
            count=self.notes,
        )

    def sweep(self) -> SweepReport:
        """Sweep once."""
        report = self.sweeper().sweep_once(threading.Event())
        assert report is not None
        return report

    def later(self, seconds: float) -> SweepReport:
        """Let so much time pass for all that was seen, and sweep."""
        seen = ((sightings, "first_seen_at"), (sightings, "offered_at"))
        for table, column in (*seen, (sweeps, "first_swept_at")):
            self._back(table, column, seconds)
        return self.sweep()

    def _back(self, table: sa.Table, column: str, seconds: float) -> None:
        keys = list(table.primary_key.columns)
        with self.ledger._database.engine.begin() as connection:
            for row in connection.execute(sa.select(table)).mappings().all():
                if row[column] is not None:
                    mine = sa.and_(*(key == row[key.name] for key in keys))
                    then = row[column] - timedelta(seconds=seconds)
                    connection.execute(sa.update(table).where(mine).values({column: then}))

    def doubt_since(self, seconds: float) -> None:
        """Pretend that the counts have been doubted for so long."""
        self._back(sweeps, "doubted_at", seconds)

    def cases(self) -> list[Case]:
        """Return the cases that there are."""
        return list(self.ledger.cases())

    def stuck(self, status: str = "attaching", row: str | None = "attaching") -> str:
        """Put a volume on the stage that is stuck; return its id."""
        volume, server = self.cloud.create_volume(), self.cloud.boot_server(host=HOST)
        self.cloud.set_status(volume, status, status)
        if row is not None:
            self.cloud.add_attachment(volume, row, server, host=HOST)
        return volume


@pytest.fixture
def broom(tmp_path: Path) -> Iterator[Broom]:
    """Give a sweeper of an empty cloud."""
    with Cloud() as cloud, new_ledger(tmp_path) as ledger:
        yield Broom(cloud, ledger, Notes())


@pytest.mark.parametrize(
    ("status", "row", "operation"),
    [
        ("attaching", "attaching", Operation.ATTACH),
        ("attaching", None, Operation.ATTACH),
        ("reserved", "reserved", Operation.ATTACH),
        ("reserved", "error_attaching", Operation.ATTACH),
        ("detaching", "attached", Operation.DETACH),
        ("detaching", "error_detaching", Operation.DETACH),
        ("available", "error_attaching", Operation.ATTACH),
        ("in-use", "reserved", Operation.ATTACH),
    ],
)
def test_what_stays_in_transition_becomes_a_case(
    broom: Broom, status: str, row: str | None, operation: Operation
) -> None:
    """Seen twice, an hour apart, without a word on the bus -> a case that is due, by the sweep."""
    volume = broom.stuck(status, row)
    assert broom.sweep().opened == 0
    assert broom.cases() == []
    report = broom.later(HOUR)
    assert (report.result, report.opened) == (SweepResult.WHOLE, 1)
    seen = row if row in ROW_STATUSES else status
    (case,) = broom.cases()
    record = broom.ledger.case(case.case_id)
    assert (record.case.volume_id, record.case.operation) == (volume, operation)
    assert (record.case.state, record.case.trigger) == (CaseState.DUE, Trigger.SWEEP)
    assert record.case.backend is not None
    assert [n.notification.event_type for n in record.notifications] == [f"sweep.{seen}"]


def test_healthy_volumes_make_no_case(broom: Broom) -> None:
    """Available and in-use volumes -> nothing is seen, nothing becomes a case."""
    broom.cloud.create_volume()
    broom.stuck("in-use", "attached")
    report = broom.sweep()
    assert (report.seen, report.ghosts) == ({}, {DEFAULT_BACKEND: 0})
    assert broom.later(HOUR).suspects == 0
    assert broom.cases() == []


def test_what_moves_makes_no_case(broom: Broom) -> None:
    """In transition at both looks, but it moved in between -> no case."""
    volume = broom.stuck("attaching", None)
    broom.sweep()
    broom.cloud.add_attachment(volume, "attaching", broom.cloud.boot_server(host=HOST), host=HOST)
    assert broom.later(HOUR).suspects == 0


def test_what_moves_between_two_lists_is_seen_once(
    broom: Broom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attaching in the first list, reserved in a later one -> one sighting, the last; no error."""
    volume = broom.stuck("attaching", None)
    listed = broom.cloud.cinder.volumes_in

    def moving(status: str, **how: object) -> Sequence[ListedVolume]:
        found: Sequence[ListedVolume] = listed(status, **how)  # type: ignore[arg-type]
        broom.cloud.set_status(volume, "reserved", "reserved")
        return found

    monkeypatch.setattr(type(broom.cloud.cinder), "volumes_in", lambda _, *a, **k: moving(*a, **k))
    assert broom.sweep().result is SweepResult.WHOLE
    with broom.ledger._database.engine.connect() as connection:
        kept = connection.execute(sa.select(sightings.c.volume_id, sightings.c.status)).all()
    assert kept == [(volume, "reserved")]


def test_what_moves_right_after_the_list_makes_no_case(
    broom: Broom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ripe in the list, in-use when it is read anew -> no case."""
    volume = broom.stuck()
    broom.sweep()
    read: Callable[..., Volume | None] = broom.cloud.cinder.volume

    def moved(volume_id: str, *, timeout_seconds: float) -> Volume | None:
        broom.cloud.set_status(volume, "in-use", "attached")
        for row in read(volume_id, timeout_seconds=timeout_seconds).attachments:  # type: ignore[union-attr]
            broom.cloud.set_attachment(row.attachment_id, status="attached")
        return read(volume_id, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(type(broom.cloud.cinder), "volume", lambda _, *a, **k: moved(*a, **k))
    assert broom.later(HOUR).suspects == 0
    assert broom.cases() == []


def test_one_case_however_often_it_is_seen(broom: Broom) -> None:
    """Swept again and again, unchanged -> one case; a day later it is offered to that one again."""
    broom.stuck()
    broom.sweep()
    assert broom.later(HOUR).suspects == 1
    assert [broom.later(HOUR).suspects for _ in range(3)] == [0, 0, 0]
    report = broom.later(86_400)
    assert (report.suspects, report.opened) == (1, 0)
    assert len(broom.cases()) == 1


def test_killed_between_case_and_note(broom: Broom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when the case is in the ledger, and the offer not -> the repeat is a duplicate."""
    broom.stuck()
    broom.sweep()
    with monkeypatch.context() as killed:
        killed.setattr(broom.ledger.sweeps, "offered", _die)
        with pytest.raises(LedgerUnavailableError):
            broom.later(HOUR)
    report = broom.sweep()
    assert (report.suspects, report.opened) == (1, 0)
    assert len(broom.cases()) == 1


def test_many_come_page_by_page(broom: Broom) -> None:
    """Seven stuck volumes, pages of two -> seven cases."""
    stuck = {broom.stuck() for _ in range(7)}
    broom.sweep()
    assert broom.later(HOUR).opened == 7
    assert {case.volume_id for case in broom.cases()} == stuck


def test_sudden_emptiness_is_not_believed(broom: Broom) -> None:
    """Cinder suddenly lists nothing -> doubted, and what was seen before keeps its age."""
    volumes = [broom.stuck() for _ in range(4)]
    broom.sweep()
    with Cloud() as empty:
        assert Broom(empty, broom.ledger, broom.notes).sweep().result is SweepResult.DOUBTED
    assert broom.later(HOUR).opened == len(volumes)


def test_doubt_of_a_day_is_given_up(broom: Broom) -> None:
    """Far fewer volumes for more than a day -> that is what there is now."""
    volumes = [broom.cloud.create_volume() for _ in range(4)]
    broom.sweep()
    for volume in volumes[1:]:
        broom.cloud.delete_volume(volume)
    assert broom.sweep().result is SweepResult.DOUBTED
    broom.doubt_since(86_500)
    assert [broom.sweep().result for _ in range(2)] == [SweepResult.WHOLE] * 2


@pytest.mark.parametrize(
    "call", ["cinder.count_volumes", "cinder.volumes_in", "cinder.rows_in", "cinder.volume"]
)
def test_cinder_does_not_answer(broom: Broom, call: str) -> None:
    """Cinder fails in the midst of a sweep -> failed, nothing is forgotten, the next goes well."""
    broom.stuck()
    broom.sweep()
    broom.cloud.script(Fault.before(call))
    assert broom.later(HOUR).result is SweepResult.FAILED
    assert broom.cases() == []
    report = broom.sweep()
    assert (report.result, report.opened) == (SweepResult.WHOLE, 1)


def test_told_by_the_bus_already(broom: Broom) -> None:
    """An open case of that attachment is there -> it is brought forward, none is opened."""
    broom.stuck()
    broom.sweep()
    broom.later(HOUR)
    (case,) = broom.cases()
    report = broom.later(86_400)
    assert report.opened == 0
    assert [c.case_id for c in broom.cases()] == [case.case_id]


def test_not_our_turn(broom: Broom) -> None:
    """Another replica swept a moment ago -> we do not, and ask Cinder nothing."""
    broom.settings = dataclasses.replace(SETTINGS, interval_seconds=300.0)
    broom.sweep()
    calls = len(broom.cloud.calls())
    assert broom.sweeper().sweep_once(threading.Event()) is None
    assert len(broom.cloud.calls()) == calls


def test_stopped_in_the_midst(broom: Broom) -> None:
    """The service stops while the lists are read -> no conclusion, and nothing is forgotten."""
    broom.stuck()
    broom.sweep()
    stop = threading.Event()
    stop.set()
    assert broom.sweeper().sweep_once(stop) is None
    assert broom.later(HOUR).opened == 1


def test_loop_survives_what_nobody_expected(broom: Broom, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is away, then a bug of ours -> the loop goes on, and the bug is counted."""
    broom.settings = dataclasses.replace(SETTINGS, interval_seconds=0.01)
    failures = iter([LedgerUnavailableError("gone"), ValueError("a bug")])
    take = broom.ledger.sweeps.begin

    def flaky(owner: str, interval_seconds: float) -> object:
        if (error := next(failures, None)) is not None:
            raise error
        return take(owner, interval_seconds)

    monkeypatch.setattr(broom.ledger.sweeps, "begin", flaky)
    with running(broom.sweeper()):
        until(lambda: broom.notes.reports)
    assert broom.notes.errors == ["sweeper"]


# -- available, and exported all the same --------------------------------------------------------


def ghost(broom: Broom) -> str:
    """Export an available volume to the host; return its id."""
    volume = broom.cloud.create_volume()
    broom.cloud.export(volume, HOST)
    return volume


def test_ghost_export_is_counted_and_becomes_a_case(broom: Broom) -> None:
    """Available and exported at two looks -> counted at once, a case at the second."""
    volume = ghost(broom)
    broom.cloud.create_volume()
    report = broom.sweep()
    assert (report.ghosts, report.opened) == ({DEFAULT_BACKEND: 1}, 0)
    assert broom.later(HOUR).opened == 1
    (case,) = broom.cases()
    record = broom.ledger.case(case.case_id)
    assert (record.case.volume_id, record.case.operation) == (volume, Operation.ATTACH)


def test_backend_that_cannot_list_is_not_asked(broom: Broom) -> None:
    """A blind driver -> no number at all, which is not the same as zero."""
    ghost(broom)
    sweeper = Sweeper(
        broom.cloud.cinder, broom.cloud.blind_driver, broom.ledger,
        owner="me", settings=SETTINGS, count=broom.notes,
    )  # fmt: skip
    report = sweeper.sweep_once(threading.Event())
    assert report is not None
    assert report.ghosts == {}


def test_no_backend_can_list(broom: Broom) -> None:
    """No driver lists, however many volumes are available -> Cinder is not asked for them."""
    ghost(broom)
    sweeper = Sweeper(
        broom.cloud.cinder, broom.cloud.blind_driver, broom.ledger,
        owner="me", settings=SETTINGS, count=broom.notes, ghosts=False,
    )  # fmt: skip
    report = sweeper.sweep_once(threading.Event())
    assert report is not None
    assert (report.result, report.ghosts) == (SweepResult.WHOLE, {})
    assert len(broom.cloud.calls("cinder.volumes_in")) == len(VOLUME_STATUSES)


def test_backend_that_does_not_answer_is_unknown(broom: Broom) -> None:
    """The list of exports fails once -> no number; what was seen before keeps its age."""
    ghost(broom)
    stuck = broom.stuck()
    broom.sweep()
    broom.cloud.script(Fault.before("driver.list_exports"))
    report = broom.sweep()
    assert (report.result, report.ghosts) == (SweepResult.WHOLE, {})
    assert broom.later(HOUR).opened == 2
    assert stuck in {case.volume_id for case in broom.cases()}


def test_available_volumes_are_not_kept() -> None:
    """A cloud has a hundred thousand of them -> at any time only one is held."""
    alive, most = weakref.WeakSet[_Listed](), 0

    def available() -> Iterator[ListedVolume]:
        nonlocal most
        for number in range(20):
            volume = _Listed(f"vol-{number}", "available", DEFAULT_BACKEND, None)
            alive.add(volume)
            most = max(most, len(alive))
            yield volume

    with Cloud() as cloud:
        find_ghosts(available(), cloud.driver, timeout_seconds=1.0)
    assert most <= 2


class _Listed(ListedVolume):
    """One that can be watched."""


def _die(_: object) -> None:
    raise LedgerUnavailableError("killed")


def test_no_more_cases_than_one_sweep_may_open(broom: Broom) -> None:
    """Five stuck volumes, two cases may be opened in a sweep -> two, the rest counted; then on."""
    for _ in range(5):
        broom.stuck()
    broom.settings = dataclasses.replace(SETTINGS, most_cases=2)
    broom.sweep()
    report = broom.later(HOUR)
    assert (report.opened, report.left) == (2, 3)
    assert [broom.sweep().opened for _ in range(3)] == [2, 1, 0]
    assert len(broom.cases()) == 5


@pytest.mark.parametrize("status", ["available", "awaiting-transfer"])
def test_attached_row_on_a_free_volume(broom: Broom, status: str) -> None:
    """Reset by hand, the row stays -> a case of that row, whether or not it is exported."""
    volume = broom.stuck(status, "attached")
    broom.sweep()
    assert broom.later(HOUR).opened == 1
    (case,) = broom.cases()
    assert (case.volume_id, case.attachment_id is not None) == (volume, True)


def test_what_the_first_sweep_saw_is_old(broom: Broom) -> None:
    """Stuck before the first sweep, after it, or changed since -> only the first is told as old."""
    old, changed = broom.stuck(), broom.stuck()
    broom.sweep()
    new = broom.stuck()
    broom.cloud.set_status(changed, "reserved", "reserved")
    for attachment in broom.cloud.cinder.volume(changed, timeout_seconds=1.0).attachments:
        broom.cloud.set_attachment(attachment.attachment_id, status="reserved")
    broom.sweep()
    broom.later(HOUR)
    by = {
        case.volume_id: {
            told.notification.publisher_id for told in broom.ledger.case(case.case_id).notifications
        }
        for case in broom.cases()
    }
    assert by == {old: {FIRST_PUBLISHER}, new: {PUBLISHER}, changed: {PUBLISHER}}
