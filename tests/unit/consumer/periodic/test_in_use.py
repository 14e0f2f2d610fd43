"""The round over all attached volumes: what Cinder and Nova do not agree on, and what it costs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from consumer.ledger import Ledger
from consumer.ledger.database.tables import inventory, rounds
from consumer.periodic.in_use import InUseRound, Progress, RoundSettings
from drivers.control_plane import ListedAttachment, ServersPage, ServerVolumes
from drivers.errors import TransientError
from drivers.simulator import Cloud
from handlers.notification import Source
from tests.bus import new_ledger

SETTINGS = RoundSettings(
    interval_seconds=3600.0, pages=100, page_size=2, timeout_seconds=1.0, again_seconds=86_400.0
)


@dataclasses.dataclass
class Ground:
    """A cloud, a ledger, and rounds on them."""

    cloud: Cloud
    ledger: Ledger

    def go_on(self, *, room: int = 99, **changes: object) -> Progress:
        """Go on with the round, as another replica would."""
        settings = dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]
        replica = InUseRound(self.cloud.cinder, self.cloud.nova, self.ledger, settings)
        return replica.advance(threading.Event(), lambda: room)

    def attached(self) -> tuple[str, str, str]:
        """Attach a volume, all healthy; return it, its server and its row."""
        volume_id, instance_id = self.cloud.create_volume(), self.cloud.boot_server()
        return volume_id, instance_id, self.cloud.attach(volume_id, instance_id)

    def left_behind(self) -> tuple[str, str, str]:
        """Delete a server whose row stays in Cinder."""
        volume_id, instance_id, row = self.attached()
        self.cloud.set_server(instance_id, deleted=True, devices=[])
        return volume_id, instance_id, row

    def later(self, seconds: float) -> None:
        """Let time go by."""
        with self.ledger._database.engine.begin() as connection:
            for table, column in ((rounds, "began_at"), (inventory, "offered_at")):
                for row in connection.execute(table.select()).mappings().all():
                    if row[column] is not None:
                        keys = [key == row[key.name] for key in table.primary_key.columns]
                        earlier = {column: row[column] - timedelta(seconds=seconds)}
                        connection.execute(table.update().where(*keys).values(earlier))


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """Give an empty cloud and an empty ledger."""
    with Cloud() as cloud, new_ledger(tmp_path) as ledger:
        yield Ground(cloud, ledger)


def test_what_agrees_is_no_suspect(ground: Ground) -> None:
    """Attached, shelved, not attached at all -> one round, no case, nothing read one by one."""
    for _ in range(3):
        ground.attached()
    ground.cloud.create_volume()
    assert ground.go_on().suspects == 0
    assert (ground.ledger.cases(), ground.cloud.calls("cinder.volume")) == ((), ())


def test_server_deleted_while_cinder_was_down(ground: Ground) -> None:
    """In-use, the row stays, the server is deleted, no message -> a case of that row, at once."""
    volume_id, instance_id, row = ground.left_behind()
    ground.attached()
    progress = ground.go_on()
    (case,) = ground.ledger.cases()
    assert (case.volume_id, case.instance_id, case.attachment_id) == (volume_id, instance_id, row)
    assert (progress.suspects, progress.opened, progress.strangers) == (1, 1, 0)
    (message,) = ground.ledger.case(case.case_id).notifications
    assert message.notification.source is Source.SWEEP
    assert message.notification.event_type == "sweep.server-gone"


def test_block_device_without_a_row(ground: Ground) -> None:
    """Nova's record holds an available volume that has no row -> a case of that server."""
    volume_id, instance_id = ground.cloud.create_volume(), ground.cloud.boot_server()
    ground.cloud.add_block_device(instance_id, volume_id, None)
    ground.go_on()
    (case,) = ground.ledger.cases()
    assert (case.volume_id, case.instance_id, case.attachment_id) == (volume_id, instance_id, None)


def test_row_without_a_block_device(ground: Ground) -> None:
    """The server exists and has no block device for the row -> a case; not while Nova is at it."""
    _, instance_id, row = ground.attached()
    ground.cloud.set_server(instance_id, devices=[], task_state="rebuilding")
    assert ground.go_on().suspects == 0
    ground.later(3601)
    ground.cloud.set_server(instance_id, task_state=None)
    ground.go_on()
    assert [case.attachment_id for case in ground.ledger.cases()] == [row]


def test_server_that_this_nova_never_had(ground: Ground) -> None:
    """Bare metal, another region, a client of Cinder's own -> counted, and no case."""
    _, instance_id, _ = ground.left_behind()
    ground.cloud.set_server(instance_id, on_record=False)
    progress = ground.go_on()
    assert (progress.strangers, progress.suspects, ground.ledger.cases()) == (1, 0, ())


def test_it_goes_on_where_it_stopped(ground: Ground) -> None:
    """One page in each sweep, each by another replica -> the same finding, no page read twice."""
    for _ in range(4):
        ground.attached()
    _, _, row = ground.left_behind()
    for _ in range(30):
        ground.go_on(pages=1)
    assert [case.attachment_id for case in ground.ledger.cases()] == [row]
    assert len(ground.cloud.calls("nova.servers")) == 2


def test_an_outage_loses_no_place(ground: Ground) -> None:
    """Nova is away in the middle -> the error is the caller's; then on from there."""
    for _ in range(4):
        ground.attached()
    ground.go_on(pages=1)
    ground.cloud.set_apis(nova_up=False)
    with pytest.raises(TransientError):
        ground.go_on(pages=1)
    ground.cloud.set_apis()
    ground.go_on()
    assert len(ground.cloud.calls("nova.servers")) == 3  # one of them failed


def test_no_more_cases_than_there_is_room_for(ground: Ground) -> None:
    """Five servers are gone, two cases may be opened -> two now, the others in later sweeps."""
    for _ in range(5):
        ground.left_behind()
    assert ground.go_on(room=2).opened == 2
    assert ground.go_on(room=0).opened == 0
    assert ground.go_on(room=2).opened == 2
    assert ground.go_on(room=2).opened == 1
    assert len(ground.ledger.cases()) == 5


def test_the_next_round_is_due_later_and_repeats_nothing(ground: Ground) -> None:
    """The round is over -> none before the interval; what was offered lately is not offered."""
    ground.left_behind()
    ground.go_on()
    assert ground.go_on() == Progress()
    ground.later(3601)
    assert ground.go_on().pages > 0
    assert ground.go_on().suspects == 0
    ground.later(86_401)
    assert ground.go_on().suspects == 1


def test_far_fewer_servers_than_before_are_not_believed(ground: Ground) -> None:
    """A cell is down and its servers are left out of the list -> nothing is compared."""
    servers = [ground.attached()[1] for _ in range(4)]
    ground.go_on()
    ground.later(3601)
    for instance_id in servers[:3]:
        ground.cloud.set_server(instance_id, devices=[])
    assert ground.go_on().suspects == 0
    assert ground.cloud.calls("nova.server") == ()


@pytest.mark.parametrize("status", ["available", "awaiting-transfer"])
def test_attached_row_on_a_free_volume(ground: Ground, status: str) -> None:
    """Others may get the volume and a row of it is attached -> a case, whichever the driver."""
    volume_id, _, row = ground.attached()
    ground.cloud.set_status(volume_id, status, "attached")
    assert ground.go_on().suspects == 0  # the sweep itself reads them
    ground.later(3601)
    assert ground.go_on(free=True).suspects == 1
    assert [case.attachment_id for case in ground.ledger.cases()] == [row]


class _Large:
    """A cloud of so many servers, each with one volume; only its lists can be asked."""

    def __init__(self, size: int) -> None:
        self.names = [f"{number:06}" for number in range(size)]
        self.calls = 0

    def servers(self, *, after: str | None, limit: int, timeout_seconds: float) -> ServersPage:
        """Return a page."""
        page = self._page(after, limit, timeout_seconds)
        more = page[-1] != self.names[-1]
        found = tuple(ServerVolumes(name, frozenset({name})) for name in page)
        return ServersPage(found, page[-1] if more else None)

    def attachments_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedAttachment, ...]:
        """Return a page: all are attached."""
        page = self._page(after, limit, timeout_seconds)
        page = page if status == "attached" else []
        return tuple(ListedAttachment(name, name, status, name) for name in page)

    def _page(self, after: str | None, limit: int, timeout_seconds: float) -> list[str]:
        assert timeout_seconds
        self.calls += 1
        begin = 0 if after is None else int(after) + 1
        return self.names[begin : begin + limit]


def test_what_a_round_costs(tmp_path: Path) -> None:
    """100,000 volumes by pages of 500, here a tenth of both -> the 406 calls that the docs say.

    As many sweeps as 20 pages in each allow: 21, an hour and three quarters at 300 s.
    """
    large = _Large(10_000)
    settings = dataclasses.replace(SETTINGS, pages=20, page_size=50)
    sweeps = 0
    with new_ledger(tmp_path) as ledger:
        replica = InUseRound(large, large, ledger, settings)  # type: ignore[arg-type]
        while replica.advance(threading.Event(), lambda: 50).pages:
            sweeps += 1
    assert (large.calls, sweeps) == (406, 21)
