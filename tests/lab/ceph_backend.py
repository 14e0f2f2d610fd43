"""A second backend of the lab's Cinder: its own RBD driver, on a private Ceph.

The volume service is one more process of the same Cinder. Its backend is in an availability zone of
its own, so that volumes are made there only by who asks for it::

    with ceph_backend_of(lab) as backend:
        admin.do("block-storage", "POST", "/volumes", {"volume": {"size": 1} | backend.wanted})
"""

from __future__ import annotations

import dataclasses
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.daemon import Values, render
from tests.lab.daemons import CinderVolume
from tests.lab.environment import LabMissingError
from tests.lab.openstack import STORAGE_HOST, OpenStack
from tests.services.ceph import Ceph

NAME = "rbd"
ZONE = "ceph"
POOL = "volumes"
USER = "compute"
BINDINGS = ("rados", "rbd")
DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")


class RbdVolume(CinderVolume):
    """cinder-volume with Cinder's RBD driver, which gets to Ceph's bindings alone.

    The environment has none, as no index of packages has them. Debian's are extension modules for
    the Python of Debian; they serve any Python of that minor version.
    """

    name = "cinder-volume-rbd"

    def _prepare(self) -> None:
        super()._prepare()
        place = self.directory / "bindings"
        place.mkdir()
        for module in bindings():
            (place / module.name).symlink_to(module)

    def _environment(self) -> Mapping[str, str]:
        plain = super()._environment()
        return {**plain, "PYTHONPATH": f"{plain['PYTHONPATH']}:{self.directory / 'bindings'}"}


def bindings() -> tuple[Path, ...]:
    """Return the modules of Debian's that the lab's Python can import; LabMissingError without.

    The lab's Python is the one that runs the tests (``environment.py``).
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    found = tuple(DIST_PACKAGES / f"{name}{suffix}" for name in BINDINGS)
    if missing := [str(module) for module in found if not module.exists()]:
        raise LabMissingError(
            f"Cinder's RBD driver needs Ceph's bindings for the lab's Python: {missing} are not "
            "there. Debian's python3-rados and python3-rbd are for the Python of Debian."
        )
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class CephBackend:
    """The running backend: its cluster, and its volume service."""

    ceph: Ceph
    service: RbdVolume

    @property
    def name(self) -> str:
        """The backend as Cinder names it: ``host@backend``."""
        return f"{STORAGE_HOST}@{NAME}"

    @property
    def wanted(self) -> Mapping[str, Any]:
        """What is asked of Cinder so that it makes a volume here."""
        return {"availability_zone": ZONE}

    def image(self, volume_id: str) -> str:
        """Return the image of a volume, as POOL/IMAGE."""
        return f"{POOL}/volume-{volume_id}"


@contextmanager
def ceph_backend_of(lab: OpenStack) -> Iterator[CephBackend]:
    """Have it within; blocks for some seconds until it serves.

    Raises LabMissingError or ServiceMissingError where it cannot run here. No volume on it should
    be left in use, because nobody serves it afterwards.
    """
    bindings()
    with Ceph() as ceph, RbdVolume(_values(lab, ceph)) as service:
        yield CephBackend(ceph, service)


def _values(lab: OpenStack, ceph: Ceph) -> Values:
    values = {
        **lab.daemons["cinder-volume"].values,
        "backend": NAME,
        "ceph_conf": str(ceph.configuration),
        "ceph_pool": POOL,
        "ceph_user": USER,
        "zone": ZONE,
    }
    return values | {"backend_section": render("backend-rbd", values)}
