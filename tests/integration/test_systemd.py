"""The unit that is shipped, started by a real systemd: what it promises, it does.

systemd is process 1 of a machine of its own (tests/services/machine.py), and detachd is installed
there from the wheel as docs/install.md says. The broker is real; the cloud is simulated.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.judgement.policy import Mode
from tests import wheel
from tests.bus import until
from tests.integration import standing_still, within_the_unit
from tests.integration.service_process import UNHURRIED, fetch
from tests.integration.site import REPEATABLE, Broker, Site, open_site
from tests.rbd import Rbd, address_of
from tests.services.ceph import PYTHON, Ceph
from tests.services.fixtures import installed
from tests.services.machine import USER_ID, Machine, UnfitError
from tests.services.rbd_clients import RbdClients
from tests.services.service import ServiceFailedError
from tests.services.tgtd import Tgtd

UNIT = wheel.ROOT / "consumer" / "deploy" / "detachd.service"
NAME = "detachd.service"
CONFIGURATION = "/etc/detachd/detachd.conf"
LEDGER = "sqlite:////var/lib/detachd/ledger.sqlite"
PROGRAM = "/opt/detachd/bin/standing-still"
WITHIN = "/opt/detachd/bin/within-the-unit"
READ_PLACES = """
import sqlite3
ledger = sqlite3.connect("/var/lib/detachd/ledger.sqlite")
print(ledger.execute("SELECT place FROM replicas").fetchall())
"""
INSTALLING = (wheel.ROOT / "docs" / "install.md").read_text()
(DIRECTORY,) = re.findall(r"^    (install .* /var/lib/detachd)$", INSTALLING, re.MULTILINE)
DEPLOYING = (wheel.ROOT / "deploy" / "README.md").read_text()
FOR_TGT = DEPLOYING.split("    [Service]\n")[1].split("\n\n")[0].splitlines()
TGTD = """
[Service]
ExecStart=/usr/sbin/tgtd -f -C 7 --iscsi portal={portal}
RuntimeDirectory=tgtd
KillSignal=SIGKILL
"""

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Share one machine.

    Where systemd is missing, the tests are skipped, or fail if CI=true. Where this user or this
    machine may not mount, they are skipped everywhere: nothing that could be installed changes it.
    """
    try:
        made = installed(Machine)
    except UnfitError as unfit:
        pytest.skip(f"a systemd of its own cannot be started here: {unfit}")
    with made:
        made.install(wheel.build(tmp_path_factory.mktemp("wheel")))
        yield made


class Unit:
    """detachd's unit on a machine: installed, configured, and whatever a test adds to it."""

    def __init__(self, machine: Machine, site: Site) -> None:
        self.machine = machine
        self.site = site
        machine.write(f"/etc/systemd/system/{NAME}", UNIT.read_text())
        machine.write(PROGRAM, Path(standing_still.__file__).read_text(), 0o755)
        machine.write(WITHIN, Path(within_the_unit.__file__).read_text(), 0o755)
        self.configure()
        machine.run(*DIRECTORY.split())

    def configure(self, mode: Mode = Mode.AUTO) -> None:
        """Write the configuration anew."""
        self.site.detachd.configure(
            UNHURRIED, ledger={"connection": LEDGER}, backend_defaults={"mode": mode.value}
        )
        self.machine.write(CONFIGURATION, self.site.detachd.file.read_text(), 0o640, USER_ID)

    def add(self, *lines: str) -> None:
        """Add lines to the section [Service], as `systemctl edit` does."""
        text = "\n".join(["[Service]", *lines, ""])
        self.machine.write(f"/etc/systemd/system/{NAME}.d/trial.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def ctl(self, verb: str, *words: str, fails: bool = False) -> str:
        """Give a command of `systemctl`."""
        return self.machine.run("systemctl", verb, *words, NAME, fails=fails)

    def start(self) -> None:
        """Make the tables and start it."""
        self.machine.detachd("ledger", "upgrade")
        self.ctl("start")

    def shown(self, name: str) -> str:
        """Return a property of the unit."""
        return self.machine.shown(NAME, name)

    def healthy(self) -> bool:
        """Ask /healthz once."""
        return fetch(self.site.detachd.port, "/healthz")[0] == 200

    def ready(self) -> bool:
        """Ask /readyz once."""
        return fetch(self.site.detachd.port, "/readyz")[0] == 200

    def journal(self) -> str:
        """Return what it has logged."""
        return self.machine.journal(NAME)

    def looks(self, driver: str, options: dict[str, object], volume: str, *lines: str) -> None:
        """Start it, and have a storage driver look at a volume before, within the unit."""
        asked = json.dumps(options).replace('"', '\\"')
        self.add(*lines, f'ExecStartPre={WITHIN} {driver} "{asked}" {volume}')
        self.start()

    def found(self) -> list[str]:
        """Return what a process has found out within the unit."""
        return list(json.loads(self.machine.path(str(within_the_unit.FOUND)).read_text()))

    def states(self) -> list[str]:
        """Return the states of all cases."""
        listed = self.machine.detachd("case", "list", "-f", "json")
        return [case["State"] for case in json.loads(listed)]

    def remove(self) -> None:
        """Stop it, and leave nothing of it."""
        for words in (f"kill --signal=KILL {NAME}", f"stop {NAME}", f"reset-failed {NAME}"):
            self.machine.does("systemctl", *words.split())  # each is refused where it has ended
        for name in (f"/etc/systemd/system/{NAME}.d", "/var/lib/detachd", "/etc/detachd"):
            self.machine.run("rm", "-rf", name)
        self.machine.run("systemctl", "daemon-reload")


@pytest.fixture
def unit(machine: Machine, broker: Broker, tmp_path: Path) -> Iterator[Unit]:
    """Give the unit as it is installed, not started, with an empty ledger."""
    with open_site(broker, tmp_path) as site:
        made = Unit(machine, site)
        machine.run("systemctl", "daemon-reload")
        yield made
        sys.stdout.write(made.journal())  # pytest shows it where the test failed
        made.remove()


def test_start_returns_when_it_has_started_and_stop_when_it_has_ended(unit: Unit) -> None:
    """The loops do not run yet -> activating; they run -> started; stop -> a clean end in time."""
    unit.add(f"ExecStart=\nExecStart={PROGRAM} serve")
    unit.machine.detachd("ledger", "upgrade")
    waits = unit.machine.path(str(standing_still.WAITS))
    waits.touch()
    unit.ctl("start", "--no-block")
    until(lambda: unit.shown("MainPID") != "0", 30)
    time.sleep(2.0)
    assert (unit.shown("ActiveState"), unit.healthy()) == ("activating", False)
    waits.unlink()
    unit.ctl("start")
    assert unit.shown("ActiveState") == "active"
    until(unit.healthy, 30)  # a loop may be slow on a machine with much other work
    until(unit.ready, 30)
    began = time.monotonic()
    unit.ctl("stop")
    assert time.monotonic() - began < 60, "the unit would be killed at 90"
    assert unit.shown("ActiveState") == "inactive"
    assert (unit.shown("Result"), unit.shown("ExecMainStatus")) == ("success", "0")
    assert "stopped" in unit.journal()


def test_a_service_that_cannot_start_never_counts_as_started(unit: Unit) -> None:
    """The ledger has no tables -> `systemctl start` fails, and the journal says what to do."""
    unit.add("Restart=no")
    unit.ctl("start", fails=True)
    assert (unit.shown("ActiveState"), unit.shown("Result")) == ("failed", "exit-code")
    assert "ledger upgrade" in unit.journal()


def test_a_loop_that_stands_still_has_it_restarted(unit: Unit) -> None:
    """One loop of many does not turn -> the watchdog ends the process, and a new one works."""
    unit.add(f"ExecStart=\nExecStart={PROGRAM} serve", "WatchdogSec=6s", "RestartSec=100ms")
    unit.start()
    time.sleep(7.0)  # longer than the watchdog's interval
    assert unit.shown("NRestarts") == "0"
    unit.machine.path(str(standing_still.STANDS)).touch()
    until(lambda: unit.shown("NRestarts") == "1", 30)
    until(lambda: unit.shown("ActiveState") == "active", 30)
    journal = unit.journal()
    assert "systemd's watchdog is not fed any more: the kill switch has not turned for" in journal
    assert "Watchdog timeout (limit 6s)!" in journal
    until(unit.healthy, 30)


def test_a_reload_takes_a_mode_over(unit: Unit) -> None:
    """The mode in the file changes, `systemctl reload` -> the same process has the new one."""
    unit.start()
    pid = unit.shown("MainPID")
    unit.configure(Mode.OBSERVE)
    unit.ctl("reload")
    until(lambda: "mode auto -> observe" in unit.journal(), 30)
    assert (unit.shown("MainPID"), unit.shown("ActiveState")) == (pid, "active")


def test_it_works_within_what_the_unit_forbids(unit: Unit) -> None:
    """A stuck volume, kill -9, SIGUSR2, the kill switch -> mended, back, reported, held."""
    unit.add("RestartSec=100ms", "WatchdogSec=6s")
    unit.start()
    until(unit.ready, 30)
    (act,) = unit.site.arrange(REPEATABLE[:1])
    unit.site.publish([act])
    until(lambda: unit.states() == ["closed"], 60)
    assert unit.site.announced(act.volume_id)[-1] == "volume.force_detach.end"
    unit.ctl("kill", "--signal=KILL")
    until(lambda: unit.shown("NRestarts") == "1", 30)
    until(unit.ready, 30)
    unit.ctl("kill", "--signal=USR2", "--kill-whom=main")
    until(lambda: "=== Threads ===" in unit.journal(), 30)
    unit.machine.write("/etc/detachd/STOP", "")
    until(lambda: "the kill switch is on" in unit.journal(), 30)
    assert unit.shown("NRestarts") == "1"
    places = unit.machine.run("/opt/detachd/bin/python", "-c", READ_PLACES)
    assert "None" not in places


def test_nothing_is_open_to_it_but_what_it_needs(unit: Unit) -> None:
    """What the user detachd may do elsewhere -> all of it is refused to a process of the unit."""
    for name in within_the_unit.OTHERS:
        unit.machine.write(name, "")
    unit.machine.run("install", "-d", "-m", "0777", within_the_unit.OPEN_TO_ALL)
    unit.machine.as_detachd(WITHIN)
    assert unit.found() == list(within_the_unit.TRIED)
    unit.add(f"ExecStartPre={WITHIN}")
    unit.start()
    assert unit.found() == []
    status = unit.machine.run("cat", f"/proc/{unit.shown('MainPID')}/status")
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"):
        assert line in status


def test_the_driver_rbd_sees_an_image_from_within(
    unit: Unit, ceph: Ceph, rbd_clients: RbdClients
) -> None:
    """An image that a host has open -> the program that the driver runs finds it."""
    rbd = Rbd(ceph, rbd_clients)
    volume = rbd.volume()
    rbd.opened(volume, "compute-1")
    for name in ("ceph.conf", "client.detachd.keyring"):
        text = (ceph.directory / name).read_text().replace(str(ceph.directory), "/etc/detachd")
        unit.machine.write(f"/etc/detachd/{name}", text, 0o640, USER_ID)
    unit.looks("rbd", {"conf": "/etc/detachd/ceph.conf", "python": PYTHON}, volume.volume_id)
    assert unit.found() == [address_of("compute-1")]


def test_the_driver_tgt_sees_a_target_with_the_lines_of_the_page(unit: Unit) -> None:
    """The lines of deploy/README.md -> the driver finds who may enter; without them: no answer."""
    tgtd = installed(Tgtd)
    volume, host = "6d1f0c6a", "iqn.1994-05.com.redhat:compute-1"
    adm = "tgtadm -C 7 --lld iscsi"
    target = f"iqn.2010-10.org.openstack:volume-{volume}"
    unit.machine.write("/etc/systemd/system/target.service", TGTD.format(portal=tgtd.url))
    unit.machine.run("systemctl", "start", "target")
    words = f"{adm} --mode target --op new --tid 1 --targetname {target}"
    until(lambda: unit.machine.does(*words.split()), 10)
    unit.machine.run(*f"{adm} --mode target --op bind --tid 1 --initiator-name {host}".split())
    with pytest.raises(ServiceFailedError):
        unit.looks("tgt", {"control_port": 7}, volume)
    unit.looks("tgt", {"control_port": 7}, volume, *FOR_TGT)
    assert unit.found() == [host]
    unit.machine.run("systemctl", "stop", "target")


@pytest.mark.timeout(500)
def test_the_lines_of_the_pages_lead_to_a_running_service(
    broker: Broker, tmp_path: Path, machine: Machine
) -> None:
    """A machine without detachd, the lines of the two pages typed by root -> it runs, for both."""
    del machine  # for its reasons to skip
    built = wheel.build(tmp_path)
    with open_site(broker, tmp_path) as site, Machine() as fresh:
        if not fresh.does(
            "python3", "-c", "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
        ):
            pytest.skip("the machine's own Python is older than 3.11, or has no python3-venv")
        fresh.run("userdel", "detachd")
        fresh.path(f"/srv/{built.name}").write_bytes(built.read_bytes())
        constraints = (wheel.ROOT / "constraints.txt").read_text()
        fresh.write("/srv/constraints.txt", constraints)
        replaced = f"-q -c /srv/constraints.txt '/srv/{built.name}[postgresql]'"
        for line in (
            *first_lines("The package"),
            *first_lines("A user and directories on the host"),
        ):
            fresh.run("sh", "-c", line.replace("'detachd[postgresql]'", replaced))
        site.detachd.configure(UNHURRIED, ledger={"connection": LEDGER})
        fresh.path(CONFIGURATION).write_text(site.detachd.file.read_text())
        fresh.run("detachd", "config", "check")
        fresh.run("detachd", "ledger", "upgrade")
        for line in first_lines("The unit", DEPLOYING):
            fresh.run("sh", "-c", line)
        assert fresh.shown(NAME, "ActiveState") == "active"
        assert "1 alive" in fresh.run("runuser", "-u", "detachd", "--", "detachd", "status")
        assert "1 alive" in fresh.run("detachd", "status")
        assert fresh.path("/usr/local/share/man/man1/detachd.1").exists()


def first_lines(title: str, page: str = INSTALLING) -> list[str]:
    """Return the first lines to be typed below a heading of a page."""
    below = page.split(f"## {title}\n")[1]
    block = re.search(r"^(?:    \S.*\n)+", below, re.MULTILINE)
    assert block is not None
    return block[0].replace("    ", "").splitlines()
