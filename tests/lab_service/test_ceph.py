"""The service on Cinder's own RBD driver and a real Ceph: blind, and seeing, side by side.

Cinder's driver terminates no connection there, so that its success says nothing. The disk is the
judge: each guest writes numbered and signed blocks by a client of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.behaviour.ground import State
from tests.behaviour.on_ceph import CephGround
from tests.lab.ceph_backend import CephBackend
from tests.lab.openstack import OpenStack
from tests.lab_service.ceph_ending import Ended, ended
from tests.lab_service.ceph_guests import CephGuests
from tests.lab_service.ceph_scenes import BLIND, SCENES, SEEING, CephScene
from tests.lab_service.lab_site import Eyes, Volumes, open_lab_site
from tests.lab_service.playing import played
from tests.lab_service.stage import Stage

pytestmark = pytest.mark.timeout(600)  # the first test of a play waits for it to be arranged


@dataclasses.dataclass(frozen=True, slots=True)
class Guested:
    """A scene with the guests that take part in it."""

    scene: CephScene
    guests: CephGuests

    @property
    def name(self) -> str:
        """What it is called by."""
        return self.scene.name

    def arrange(self, stage: Stage) -> None:
        """Have it come about."""
        self.scene.arrange(stage, self.guests)

    def end(self, arranged: Future[tuple[Stage, State]]) -> Ended:
        """See how it ends."""
        return ended(self.scene, self.guests, *arranged.result())


@pytest.fixture(scope="module")
def volumes(openstack: OpenStack, ceph_backend: CephBackend) -> Volumes:
    """Have the volumes on Ceph, and share the servers between both plays."""
    return Volumes.on(CephGround(openstack, ceph_backend))


@pytest.fixture(scope="module", params=[BLIND, SEEING], ids=["blind", "seeing"])
def play(
    request: pytest.FixtureRequest,
    ceph_backend: CephBackend,
    volumes: Volumes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Eyes, Mapping[str, Future[Ended]]]]:
    """Play every scene at once, with a service that has these eyes."""
    eyes: Eyes = request.param
    directory = tmp_path_factory.mktemp(f"ceph-{eyes.value}")
    conf = {"driver:rbd": {"conf": ceph_backend.ceph.configuration}} if eyes.see else {}
    volumes = dataclasses.replace(volumes, sections=conf)
    with (
        open_lab_site(volumes.ground.lab, directory, eyes, volumes) as site,
        CephGuests(ceph_backend, volumes.ground.lab, directory) as guests,
        played(site, [Guested(scene, guests) for scene in SCENES], Guested.end) as play,
    ):
        yield eyes, play


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene(play: tuple[Eyes, Mapping[str, Future[Ended]]], scene: CephScene) -> None:
    """A volume is stuck, and a client may have it -> what comes of it, by the service's eyes."""
    eyes, ends = play
    end = ends[scene.name].result()
    assert scene.allows(end.outcome, eyes), end
