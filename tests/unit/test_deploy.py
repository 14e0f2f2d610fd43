"""What is deployed, as far as it can be judged without starting it.

tests/integration/test_systemd.py starts the unit, and `make image` builds and runs the image.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from consumer.cli.commands import every
from consumer.settings.options import EXPORTER_OPTIONS
from consumer.work.worker import OPTS
from metrics.exporter import Exporter

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "consumer" / "deploy" / "detachd.service"
MOST_EXPOSED = 1.5
"""systemd-analyze's scale: 0 is everything forbidden, 10 nothing. Below 2 it calls OK."""

WITHOUT_WRITABLE_CODE = """
import ctypes, os, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(77)  # a kernel before 6.3
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def analyze(*words: str | Path) -> str:
    """Run systemd-analyze; skip the test where it is not installed, or fail it where CI=true."""
    path = shutil.which("systemd-analyze")
    if path is None:
        reason = "systemd-analyze is not installed; Debian's package systemd brings it"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    done = subprocess.run([path, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Give the unit with a program that there is here."""
    made = tmp_path / "detachd.service"
    made.write_text(UNIT.read_text().replace("/opt/detachd/bin/detachd", "/bin/true"))
    return made


def test_systemd_understands_the_unit(unit: Path) -> None:
    """`systemd-analyze verify` -> not a word: each directive is known, and used where it may be."""
    assert analyze("verify", "--man=no", unit) == ""


def test_the_unit_is_hardened(unit: Path) -> None:
    """`systemd-analyze security` -> as little as a service with a network can be exposed."""
    words = analyze("security", "--offline=true", "--no-pager", unit)
    level = re.search(r"Overall exposure level for detachd.service: ([0-9.]+)", words)
    assert level is not None
    assert float(level[1]) <= MOST_EXPOSED


def test_the_times_of_the_unit_are_longer_than_a_stop() -> None:
    """drain_seconds is raised, or a time of the unit lowered -> no stop is cut off."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    (drain,) = (opt.default for opt in OPTS if opt.name == "drain_seconds")
    assert parser["Service"]["TimeoutStopSec"] == "90s"
    assert parser["Service"]["WatchdogSec"] == "2min"
    assert drain <= 60


def test_it_runs_where_no_memory_is_writable_and_executable() -> None:
    """MemoryDenyWriteExecute, by the kernel's own switch -> the whole service is imported."""
    words = [sys.executable, "-c", WITHOUT_WRITABLE_CODE]
    code = "import consumer.service, consumer.cli.serve as s; s.share_one_arena(); print('well')"
    done = subprocess.run(
        [*words, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.stdout == "well\n", done.stderr


# -- the image, the playbook, the scrape configuration ---------------------------------------------

CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()


def last_stage() -> dict[str, str]:
    """Return the last value of each instruction of the stage that is the image."""
    joined = CONTAINERFILE.replace("\\\n", " ").split("\nFROM ")[-1]
    lines = [line for line in joined.splitlines()[1:] if line and not line.startswith("#")]
    return {word: rest.strip() for word, _, rest in (line.partition(" ") for line in lines)}


def test_the_image_is_not_of_root_and_stops_in_good_order() -> None:
    """The image -> a user by number, the signal that detachd stops by, and `detachd serve`."""
    found = last_stage()
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", found["USER"])
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(found["ENTRYPOINT"]) + json.loads(found["CMD"]) == ["detachd", "serve"]


def test_the_image_is_built_in_the_format_that_has_health_checks() -> None:
    """`podman build` without a format -> the HEALTHCHECK is dropped, so the lines name one."""
    (line,) = re.findall("^# +podman build .*", CONTAINERFILE, re.MULTILINE)
    assert "--format docker" in line


@pytest.mark.parametrize(("stuck", "code"), [((), 0), (("the worker stands still",), 1)])
def test_the_health_check_is_that_of_the_loops(stuck: tuple[str, ...], code: int) -> None:
    """The image's own check, of an exporter -> well while all turn, 1 while a loop stands still."""
    words = json.loads(last_stage()["HEALTHCHECK"].partition(" CMD ")[2])
    exporter = Exporter("127.0.0.1", 0, CollectorRegistry(), dict, stuck=lambda: stuck)
    exporter.start()
    try:
        line = words[2].replace("127.0.0.1:10713", f"127.0.0.1:{exporter.port}")
        asked = [sys.executable, words[1], line]
        assert subprocess.run(asked, capture_output=True, check=False).returncode == code
    finally:
        exporter.stop()


def test_the_ports_are_those_of_the_options() -> None:
    """[exporter] port has another default -> image and scrape configuration follow."""
    (port,) = (opt.default for opt in EXPORTER_OPTIONS if opt.name == "port")
    assert last_stage()["EXPOSE"] == str(port)
    scraped = yaml.safe_load((UNIT.parent / "prometheus.yaml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [f"127.0.0.1:{port}"]
    assert scraped[0]["job_name"] == "detachd"


def test_the_playbook_gives_commands_that_there_are() -> None:
    """A command of detachd is renamed -> the playbook has to follow; and it is YAML."""
    (play,) = yaml.safe_load((ROOT / "deploy" / "detachd.yaml").read_text())
    names = {listed.name for listed in every()}
    given = [
        task["ansible.builtin.command"].partition("/bin/detachd ")[2]
        for task in play["tasks"]
        if "/bin/detachd " in task.get("ansible.builtin.command", "")
    ]
    assert len(given) == 3
    for words in given:
        assert " ".join(words.split()[:2]) in names
