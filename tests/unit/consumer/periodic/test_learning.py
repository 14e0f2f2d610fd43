"""Looks at attached volumes, so that their clients are learned: which get one, and when none."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.ledger import Ledger
from consumer.periodic.in_use import InUseRound, RoundSettings
from consumer.periodic.learning import Learner, LearningSettings
from drivers.base import (
    Attachment,
    Capabilities,
    Connection,
    Connector,
    Observation,
    StorageDriver,
    VolumeRef,
)
from drivers.errors import IndeterminateError
from drivers.simulator import Cloud
from handlers.judgement.policy import BackendPolicy
from handlers.notification import Operation, Phase
from tests.bus import new_ledger
from tests.unit.consumer.ledger.making import accept, seen, told

HOST, ADDRESS = "compute-1", "192.0.2.1"
ROUND = RoundSettings(
    interval_seconds=3600.0, pages=100, page_size=10, timeout_seconds=1.0, again_seconds=86_400.0,
    learns=True,
)  # fmt: skip
SETTINGS = LearningSettings(looks_per_minute=60, again_seconds=3600.0)


class Clients(StorageDriver):
    """Shows one client for each volume, of the one host, until it is silent."""

    capabilities = Capabilities(sees_connections=True, sees_hosts=True, by_learned_client=True)

    def __init__(self, *, learns: bool = True) -> None:
        super().__init__("storage-1@rbd", {})
        self.seen: list[str] = []
        self.silent = False
        if not learns:
            self.capabilities = Capabilities(sees_connections=True, sees_hosts=True)  # type: ignore[misc]

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Return its client, whose numbers go by how many volumes were asked of before."""
        del timeout_seconds
        self.seen.append(volume.volume_id)
        if self.silent:
            raise IndeterminateError("no answer")
        nonce = len(set(self.seen))
        one = Connection(
            f"client.{nonce}", None, f"{ADDRESS}:0/{nonce}", True, 1, ADDRESS, (nonce,)
        )
        return Observation((one,), "the cluster answered")

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Fail: nothing may be ended here."""
        raise AssertionError((volume, attachment, request_id, timeout_seconds))

    detach = terminate_connection


class Ground:
    """A cloud whose hosts have an address, a ledger that has heard of it, and the looks."""

    def __init__(self, cloud: Cloud, ledger: Ledger) -> None:
        self.cloud, self.ledger, self.driver = cloud, ledger, Clients()
        connector = Connector(host=HOST, initiator="iqn.1994-05.com.redhat:1", ip=ADDRESS)
        row = seen("attached", attachment_id="earlier", host=HOST, connector=connector)
        accept(ledger, told(Operation.ATTACH, Phase.END, volume_id="v", attachments=(row,)))
        self.has_room = True
        self.learner = self.another()

    def another(self) -> Learner:
        """Return what another service would look with."""
        return Learner(
            (self.cloud.cinder, self.cloud.nova),
            lambda _: self.driver,
            lambda _: BackendPolicy(look_timeout_seconds=1.0, try_backoff_seconds=0.001),
            self.ledger,
            cloud="default",
            settings=SETTINGS,
            has_room=lambda: self.has_room,
            count=lambda _: None,
        )

    def attached(self) -> tuple[str, str]:
        """Attach a volume, all healthy; return it and its row."""
        volume_id = self.cloud.create_volume()
        return volume_id, self.cloud.attach(volume_id, self.cloud.boot_server(host=HOST))

    def list_them(self) -> None:
        """Have a round list what is attached."""
        listing = InUseRound(self.cloud.cinder, self.cloud.nova, self.ledger, ROUND)
        listing.advance(threading.Event(), lambda: 99)

    def look(self, times: int = 1) -> None:
        """Look so often."""
        for _ in range(times):
            self.learner.look_once()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """Give an empty cloud and an empty ledger."""
    with Cloud() as cloud, new_ledger(tmp_path) as ledger:
        yield Ground(cloud, ledger)


def test_the_client_of_a_healthy_attachment_is_learned(ground: Ground) -> None:
    """Attached and healthy, listed by a round -> its client; nothing outside was written."""
    volume_id, row = ground.attached()
    ground.list_them()
    ground.look()
    learned = ground.ledger.learned.of_volume(volume_id)
    assert (learned[row].address, learned[row].client, learned[row].cookie) == (
        f"{ADDRESS}:0/1", "client.1", 1,
    )  # fmt: skip
    assert not ground.cloud.calls("driver.force_detach")
    assert ground.ledger.cases() == ()


def test_each_gets_a_look_before_any_gets_a_second(ground: Ground) -> None:
    """Three are listed -> three looks at three volumes, and then none before their time."""
    volumes = {ground.attached()[0] for _ in range(3)}
    ground.list_them()
    ground.look(5)
    assert sorted(ground.driver.seen) == sorted(volumes)


def test_a_volume_that_is_not_healthy_is_looked_at_and_not_learned(ground: Ground) -> None:
    """It is being migrated -> a look, and nothing is known of its client."""
    volume_id, _ = ground.attached()
    ground.list_them()
    ground.cloud.set_volume(volume_id, migration_status="migrating")
    ground.look()
    assert ground.driver.seen == [volume_id]
    assert ground.ledger.learned.of_volume(volume_id) == {}


def test_no_look_while_every_thread_has_a_case(ground: Ground) -> None:
    """All threads of the worker are at work -> nobody is asked anything; then a look."""
    ground.attached()
    ground.list_them()
    asked = len(ground.cloud.calls("cinder.volume"))
    ground.has_room = False
    ground.look(3)
    assert (len(ground.cloud.calls("cinder.volume")), ground.driver.seen) == (asked, [])
    ground.has_room = True
    ground.look()
    assert len(ground.driver.seen) == 1


def test_a_backend_without_an_answer_is_left_alone(ground: Ground) -> None:
    """No answer to two looks in a row -> no other for a while, not even at what is listed anew."""
    for _ in range(5):
        ground.attached()
    ground.list_them()
    ground.driver.silent = True
    ground.look(3)
    assert len(ground.driver.seen) == 2
    ground.driver.silent = False
    ground.look(1)
    assert len(ground.driver.seen) == 2
    ground.learner = ground.another()
    ground.look(1)
    assert len(ground.driver.seen) == 3, "another service has its own patience"


def test_a_cinder_without_an_answer_is_left_alone(ground: Ground) -> None:
    """Cinder gives no answer -> it is asked once, and not for every attachment."""
    for _ in range(3):
        ground.attached()
    ground.list_them()
    ground.cloud.set_apis(cinder_up=False)
    before = len(ground.cloud.calls("cinder.volume"))
    ground.look(3)
    assert len(ground.cloud.calls("cinder.volume")) - before <= 1
    assert ground.driver.seen == []


def test_backends_whose_driver_knows_hosts_get_no_look(ground: Ground) -> None:
    """The driver needs no learned client -> Cinder is asked once where it is, nobody else."""
    for _ in range(3):
        ground.attached()
    ground.list_them()
    ground.driver = Clients(learns=False)
    before = len(ground.cloud.calls("nova.server"))
    ground.look(5)
    assert (ground.driver.seen, len(ground.cloud.calls("nova.server"))) == ([], before)
    assert ground.learner.look_once() is None


def test_without_such_a_driver_nothing_is_listed(ground: Ground) -> None:
    """No driver needs it -> the rounds list nothing for looks."""
    ground.attached()
    quiet = dataclasses.replace(ROUND, learns=False)
    listing = InUseRound(ground.cloud.cinder, ground.cloud.nova, ground.ledger, quiet)
    listing.advance(threading.Event(), lambda: 99)
    assert ground.learner.look_once() is None
