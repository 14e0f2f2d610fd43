"""The driver's options for one cluster, checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

from drivers.base import check_template

# ``@`` begins the name of a snapshot, ``/`` that of an image.
PLACE = re.compile(r"[^/@\s]+(?:/[^/@\s]+)?")

OPTS = (
    cfg.ListOpt(
        "pools",
        default=["volumes"],
        help=(
            "The pools in which the images of the backend are, each as POOL or POOL/NAMESPACE: "
            "Cinder's rbd_pool. A volume is looked for in all of them."
        ),
    ),
    cfg.StrOpt(
        "conf",
        default="/etc/ceph/ceph.conf",
        help="The path of the configuration file of the cluster: Cinder's rbd_ceph_conf.",
    ),
    cfg.StrOpt(
        "user",
        default="detachd",
        help=(
            "The user of the cluster, without 'client.'. It needs few rights, which the page of "
            "the driver lists. The configuration file names its keyring."
        ),
    ),
    cfg.StrOpt(
        "lift_user",
        default="",
        help=(
            "The user, without 'client.', as which `detachd fence lift` lets a client in again. It "
            "needs one right more than 'user', which the service has no need of. Empty: 'user'."
        ),
    ),
    cfg.StrOpt(
        "volume_name_template",
        default="volume-%s",
        help="The name of the image of a volume, with %s for its id: Cinder's option of that name.",
    ),
    cfg.FloatOpt(
        "fence_seconds",
        default=94_608_000.0,
        min=600.0,
        help=(
            "How long a client is fenced, in seconds; three years, as ceph-csi has it. It has to "
            "outlast the client's process, which writes again when its fence is over, and Ceph "
            "prolongs none. Take it off by `detachd fence lift` when the process is gone."
        ),
    ),
    cfg.IntOpt(
        "other_images",
        default=0,
        min=0,
        help=(
            "How many other images of the cluster a client may have open to be fenced all the "
            "same. It loses all of them. QEMU has a client for each disk, so that it is 0."
        ),
    ),
    cfg.StrOpt(
        "python",
        default="/usr/bin/python3",
        help=(
            "The path of the Python that has the bindings rados and rbd: the one of the system, "
            "for which Ceph's packages are made. The driver runs programs with it."
        ),
    ),
    cfg.IntOpt(
        "programs",
        default=8,
        min=2,
        help=(
            "How many programs of 'python' may ask the cluster at the same time; a request beyond "
            "them waits, within its time limit. Those that have nothing to do are ended."
        ),
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A pool, and a namespace in it; the empty namespace is the default one."""

    pool: str
    namespace: str = ""

    @classmethod
    def of(cls, text: str) -> Place:
        """Read POOL or POOL/NAMESPACE."""
        pool, _, namespace = text.partition("/")
        return cls(pool, namespace)

    def __str__(self) -> str:
        return f"{self.pool}/{self.namespace}" if self.namespace else self.pool


@dataclasses.dataclass(frozen=True, slots=True)
class RbdOptions:
    """Where one backend's images are, and how they are called."""

    pools: tuple[Place, ...]
    conf: str
    user: str
    lift_user: str
    volume_name_template: str
    fence_seconds: float
    other_images: int
    python: str
    programs: int

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> RbdOptions:
        """Check what the options' types do not; ValueError says which is wrong and why."""
        given = {opt.dest: values[opt.dest] for opt in OPTS}
        texts = [text.strip() for text in given.pop("pools")]
        if wrong := [text for text in texts if not PLACE.fullmatch(text)] or not texts:
            raise ValueError(f"the option pools must list POOL or POOL/NAMESPACE, not {wrong!r}")
        # A pool that is named twice would show each image twice.
        options = cls(pools=tuple(dict.fromkeys(Place.of(text) for text in texts)), **given)
        options._check()
        return options

    @property
    def where(self) -> str:
        """The cluster and the pools in words."""
        return f"{', '.join(map(str, self.pools))} of the cluster of {self.conf}"

    @property
    def lifts_as(self) -> str:
        """The user that lets a client in again."""
        return self.lift_user or self.user

    def _check(self) -> None:
        for name, path in (("conf", self.conf), ("python", self.python)):
            # A relative path would depend on where the service was started.
            if not Path(path).is_absolute():
                raise ValueError(f"the option {name} must be an absolute path, not {path!r}")
        if self.user.startswith("client.") or not self.user.strip():
            raise ValueError(f"the option user goes without 'client.': not {self.user!r}")
        if self.lift_user.startswith("client."):
            raise ValueError(f"the option lift_user goes without 'client.': not {self.lift_user!r}")
        check_template("volume_name_template", self.volume_name_template)
        if "/" in self.volume_name_template:
            raise ValueError(
                "the option volume_name_template goes without the pool: not "
                f"{self.volume_name_template!r}"
            )
