"""The driver's options for one tgtd, checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

from drivers.base import check_template

LONGEST_SOCKET_PATH = 107  # sun_path of struct sockaddr_un, less its zero byte
HIGHEST_CONTROL_PORT = 32767  # a short int in usr/tgtadm.c

# RFC 3721 gives the form; what initiators really use goes a little beyond it, so only those signs
# are kept out by which a second word of tgtd's own requests could be smuggled in.
ISCSI_NAME = re.compile(r"(?:iqn|eui|naa)\.[^\s=,;]{1,219}")

OPTS = (
    cfg.IntOpt(
        "control_port",
        default=0,
        min=0,
        max=HIGHEST_CONTROL_PORT,
        help="The control port of the tgtd of the backend (option -C of tgtd).",
    ),
    cfg.StrOpt(
        "socket",
        default="/var/run/tgtd/socket",
        help=(
            "The path of the management socket of tgtd, without the suffix .CONTROL_PORT that tgtd "
            "adds. It is the value of TGT_IPC_SOCKET, if tgtd was started with that variable."
        ),
    ),
    cfg.StrOpt(
        "target_template",
        default="iqn.2010-10.org.openstack:volume-%s",
        help=(
            "The name of the iSCSI target of a volume, with %s for the id of the volume. It "
            "combines Cinder's options target_prefix and volume_name_template."
        ),
    ),
    cfg.StrOpt(
        "control_target",
        help=(
            "The name of a target that always exists in this tgtd and in no other tgtd. It proves "
            "that detachd asks the right tgtd: only if this target is found, a volume without a "
            "target counts as not exported. If unset, the state of such a volume is unknown."
        ),
    ),
    cfg.StrOpt("tgtadm", default="/usr/sbin/tgtadm", help="The path of the command tgtadm."),
)


@dataclasses.dataclass(frozen=True, slots=True)
class TgtOptions:
    """Where one backend's tgtd is, and how its targets are called; a field for each of ``OPTS``."""

    control_port: int
    socket: str
    target_template: str
    control_target: str | None
    tgtadm: str

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> TgtOptions:
        """Check what the options' types do not; ValueError says which is wrong and why."""
        options = cls(**{opt.dest: values[opt.dest] for opt in OPTS})
        options._check_places()
        options._check_names()
        return options

    @property
    def place(self) -> str:
        """The socket that is asked."""
        return f"{self.socket}.{self.control_port}"

    def _check_places(self) -> None:
        for name, path in (("socket", self.socket), ("tgtadm", self.tgtadm)):
            if not Path(path).is_absolute():
                raise ValueError(f"the option {name} must be an absolute path, not {path!r}")
        if len(self.place.encode()) > LONGEST_SOCKET_PATH:
            raise ValueError(
                f"the option socket is too long: {self.place} has more than "
                f"{LONGEST_SOCKET_PATH} bytes"
            )

    def _check_names(self) -> None:
        check_template("target_template", self.target_template)
        # Checked with an id in it: only then it is a name.
        given = {"target_template": self.target_template % "id"}
        if self.control_target is not None:
            given["control_target"] = self.control_target
        for name, value in given.items():
            if not ISCSI_NAME.fullmatch(value):
                raise ValueError(f"the option {name} must be an iSCSI name (iqn. ...): {value!r}")
