"""How long a look of the tgt driver takes, beside the bare command that it runs: `make bench`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.base import VolumeRef
from drivers.tgt.listing import read_targets
from tests.iscsi import BACKEND, CONTROL_TARGET, Iscsi, Volume
from tests.services.initiator import Initiators
from tests.services.tgtd import Tgtd

TARGETS = 200
LOOKS = 200
MOST_SECONDS = 0.010
MOST_OF_BARE = 3.5
"""Of one look about half is the command, which also has to be started, the other half is reading
what it shows; a third is left for a busy machine. A second command in a look would show as one."""

Look = Callable[[], object]


@pytest.fixture
def iscsi(tgtd: Tgtd, initiators: Initiators, tmp_path: Path) -> Iterator[Iscsi]:
    """Give a backend with its control target."""
    made = Iscsi(tgtd, initiators, tmp_path)
    made.add_control_target()
    yield made
    tgtd.clear()


def test_look_among_two_hundred_targets(iscsi: Iscsi) -> None:
    """200 targets -> any volume seen, exported or not, in 10 ms, of which half is tgtadm's own."""
    volumes = _fill(iscsi)
    driver = iscsi.driver(control_target=CONTROL_TARGET)
    absent = VolumeRef("2f9a1d52-0b6c-4c0e-9a53-3f6f4b1d2c10", BACKEND)
    text = iscsi.tgtd.adm("target", "show")
    looks: dict[str, Look] = {
        "bare tgtadm": lambda: _bare(iscsi.tgtd),
        "reading what it shows": lambda: read_targets(text),
        "observe, first target": lambda: driver.observe(volumes[0].ref, timeout_seconds=10),
        "observe, last target": lambda: driver.observe(volumes[-1].ref, timeout_seconds=10),
        "observe, no target": lambda: driver.observe(absent, timeout_seconds=10),
        "list_exports": lambda: driver.list_exports(timeout_seconds=10),
    }
    busy = os.getloadavg()[0]
    took = _in_turn(looks)
    _show(took, len(text), busy)
    bare = statistics.median(took["bare tgtadm"])
    for name in (name for name in looks if name.startswith("observe")):
        assert statistics.median(took[name]) / bare < MOST_OF_BARE, name
        assert statistics.quantiles(took[name])[0] < MOST_SECONDS, name


def _fill(iscsi: Iscsi) -> list[Volume]:
    """Make the targets, two hosts let in to each, one in session with a few."""
    disk = iscsi.image()
    volumes = [iscsi.volume("compute-1", "compute-2", disk=disk) for _ in range(TARGETS - 1)]
    for volume in volumes[:: TARGETS // 4]:
        iscsi.log_in(volume, "compute-1", writes=False).logged_in()
    return volumes


def _bare(tgtd: Tgtd) -> bytes:
    """Run the command as anybody would."""
    which = ("-C", str(tgtd.control_port), "--lld", "iscsi", "--mode", "target", "--op", "show")
    environment = {"TGT_IPC_SOCKET": str(tgtd.socket)}
    return subprocess.run(
        [tgtd.tgtadm, *which], check=True, capture_output=True, env=environment
    ).stdout


def _in_turn(looks: dict[str, Look]) -> dict[str, list[float]]:
    """Take each in turn, so that what disturbs one disturbs all; return the seconds of each."""
    took: dict[str, list[float]] = {name: [] for name in looks}
    for _ in range(LOOKS):
        for name, look in looks.items():
            began = time.perf_counter()
            look()
            took[name].append(time.perf_counter() - began)
    return took


def _show(took: dict[str, list[float]], size: int, busy: float) -> None:
    bare = statistics.median(took["bare tgtadm"])
    lines = [f"{'look':<26}{'quartile':>10}{'median':>10}{'of bare':>9}"]
    for name, seconds in took.items():
        quartile, median, _ = statistics.quantiles(seconds)
        lines.append(
            f"{name:<26}{quartile * 1e3:>7.2f} ms{median * 1e3:>7.2f} ms{median / bare:>9.2f}"
        )
    lines.append(
        f"{TARGETS} targets, {size:,} bytes; load before: {busy:.1f} on {os.cpu_count()} cores"
    )
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
