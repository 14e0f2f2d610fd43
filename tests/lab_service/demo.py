"""`make demo-openstack`: the use cases on the lab, told as `detachd demo` tells them.

Everything but the guests is real: Cinder, Nova, Keystone, the bus, the storage, the iSCSI sessions.
Exits 0 only if every scene came out as it must.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from rich.console import Console

from consumer.cli.installation.demo import ANNOUNCED, console, show
from consumer.demo.performance import Observed, Row
from tests import memory_disk
from tests.behaviour.ground import State
from tests.lab.environment import LabMissingError
from tests.lab.openstack import OpenStack
from tests.lab_service.lab_site import Eyes, open_lab_site
from tests.lab_service.playing import Played, came_out_right, playing
from tests.lab_service.stage import other_host
from tests.lab_service.use_cases import SCENES
from tests.services.service import ServiceMissingError

Play = Mapping[str, Future[Played]]


def main() -> int:
    """Start a lab and detachd, play, print, stop it all; blocks for about two minutes."""
    memory_disk.use()
    on = console()
    try:
        lab = OpenStack()
    except (LabMissingError, ServiceMissingError) as missing:
        on.print(f"[red]{missing}[/]")
        return 1
    with tempfile.TemporaryDirectory(prefix="detachd-demo-") as directory:
        rows = _perform(lab, Path(directory), on)
    return 0 if all(row.ok for row in rows) else 1


def _perform(lab: OpenStack, directory: Path, on: Console) -> list[Row]:
    with (
        on.status("Starting Keystone, Cinder, Nova, RabbitMQ, tgtd (half a minute) ...") as status,
        lab,
        open_lab_site(lab, directory, Eyes.SEEING) as site,
    ):
        status.update("Breaking attachments; Nova and Cinder tell of it on their bus ...")
        with playing(site, SCENES) as play:
            status.update("detachd mends; a mended case is looked at again and closed ...")
            rows = [_row(scene.name, play[scene.name]) for scene in SCENES]
            seen = [line for scene in SCENES for line in _seen_by_hosts(play[scene.name])]
        status.update("Stopping ...")
    show(rows, on)
    on.print("\n[bold]What the iSCSI initiators saw[/]")
    for line in seen:
        on.print(f"  {line}", highlight=False)
    return rows


def _row(name: str, future: Future[Played]) -> Row:
    if (error := future.exception()) is not None:
        _complain(name, error)
        return Row(name, None, None, (), "-", "-", "-", "-", None, (), ok=False)
    played = future.result()
    before, after = _seen(played.before), _seen(played.after)
    return Row(
        scenario=name,
        verdict=str(played.said[0].payload["verdict"]),
        rule=played.rule,
        steps=played.steps,
        cinder_before=before.cinder(),
        cinder_after=after.cinder(),
        backend_before=before.hosts(),
        backend_after=after.hosts(),
        verified_by=played.verified_by,
        announced=tuple(f"{ANNOUNCED}{word}" for word in played.told),
        ok=_is_right(played),
    )


def _seen(state: State) -> Observed:
    return Observed(state.status, state.attachments, state.let_in)


def _is_right(played: Played) -> bool:
    try:
        came_out_right(played)
    except AssertionError as error:
        _complain(played.scene.name, error)
        return False
    return True


def _seen_by_hosts(future: Future[Played]) -> list[str]:
    """Tell of a host that wrote when its volume was broken, and of the one that has it now."""
    if future.exception() is not None or (played := future.result()).writer is None:
        return []
    stage, writer = played.stage, played.writer
    wrote = f"{stage.host} had written {writer.counts().writes} blocks when it was cut off"
    then = f"{other_host(stage.host)}, attached through Nova, wrote {played.written_anew}"
    return [f"{played.scene.name}: {wrote} ({writer.lines[-1]}); it is let in no more; {then}."]


def _complain(name: str, error: BaseException) -> None:
    Console(stderr=True).print(f"{name}: {error}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
