"""The image of deploy/Containerfile, run by podman with the words that stand in its first lines.

`make image` builds it and runs this: it takes longer than a test of the suite may.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import wheel
from tests.bus import until
from tests.integration.service_process import UNHURRIED
from tests.integration.site import REPEATABLE, Broker, open_site

STORE = os.environ.get("DETACHD_IMAGES", "")
USER_ID = 42710
CONTAINERFILE = (wheel.ROOT / "deploy" / "Containerfile").read_text()
PRIVATE = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroups /sys/fs/cgroup; echo; exec sleep 600"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not STORE, reason="`make image` builds the image, and runs this"),
]


class Podman:
    """podman with its own store, in a namespace of mounts of its own: see tools/build-image."""

    def __init__(self) -> None:
        command = ["unshare", "--mount", "sh", "-ec", PRIVATE]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline()

    def command(self, *words: str) -> list[str]:
        """Return a command of podman as one that may be run here."""
        enter = ["nsenter", f"--target={self._holder.pid}", "--mount"]
        store = ["--root", STORE, "--runroot", f"{STORE}/run", "--storage-driver", "overlay"]
        cgroups = ["--cgroup-manager", "cgroupfs", "--runtime", "crun"]
        return [*enter, "podman", *store, *cgroups, *words]

    def run(self, *words: str) -> str:
        """Give a command of podman; return what it printed."""
        done = subprocess.run(
            self.command(*words), check=False, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def end(self) -> None:
        """Let go of the mounts."""
        self._holder.kill()
        self._holder.communicate()


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Share one namespace."""
    made = Podman()
    yield made
    made.end()


def told(*more: str) -> list[str]:
    """Return the words of `podman run` in the Containerfile, without its directories and image.

    More: neither cgroups nor systemd's timers for health checks are there for a test.
    """
    joined = CONTAINERFILE.replace("\\\n#", "")
    (line,) = re.findall(r"^# +podman run (.*) -v /etc/detachd.* detachd$", joined, re.MULTILINE)
    limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
    return ["run", *shlex.split(line), "--cgroups=disabled", *limits, *more]


WITHIN = """
id -u
grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status
touch /beside 2> /dev/null && echo beside
touch /opt/detachd/beside 2> /dev/null && echo beside
touch /var/lib/detachd/file && echo ledger
"""


def test_it_is_not_root_and_may_do_nothing_but_keep_a_ledger(podman: Podman) -> None:
    """A shell in it -> a user without rights, on a root that is read-only but for one directory."""
    words = told("--rm", "--no-healthcheck", "--entrypoint=sh", "detachd", "-c", WITHIN)
    printed = podman.run(*words).splitlines()
    status = dict(line.split(":\t") for line in printed if ":" in line)
    assert status == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}
    assert [line for line in printed if ":" not in line] == [str(USER_ID), "ledger"]


def test_a_volume_is_mended_by_it_and_it_is_healthy_and_stops(
    podman: Podman, broker: Broker, tmp_path: Path
) -> None:
    """Run beside a broker and a simulated cloud -> works, is healthy for podman, ends with 0."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    places = [f"--volume={etc}:/etc/detachd:ro", f"--volume={lib}:/var/lib/detachd"]
    with open_site(broker, tmp_path) as site:
        ledger = {"connection": "sqlite:////var/lib/detachd/ledger.sqlite"}
        site.detachd.configure(UNHURRIED, ledger=ledger, exporter={"port": 10713})
        for line in directories():
            words = line.replace("/etc/detachd", str(etc)).replace("/var/lib/detachd", str(lib))
            subprocess.run(shlex.split(words), check=True, cwd=tmp_path)
        podman.run(*told(*places, "--rm", "--no-healthcheck", "detachd", "ledger", "upgrade"))
        name = f"detachd-{os.getpid()}"
        running = subprocess.Popen(
            podman.command(*told(*places, f"--name={name}", "--health-interval=disable", "detachd"))
        )
        try:
            until(lambda: healthy(podman, name), 60)
            (act,) = site.arrange(REPEATABLE[:1])
            site.publish([act])
            until(lambda: states(podman, name) == ["closed"], 60)
            assert site.announced(act.volume_id)[-1] == "volume.force_detach.end"
            began = time.monotonic()
            podman.run("stop", "--time=90", name)
            assert time.monotonic() - began < 60
            assert running.wait(60) == 0
        finally:
            running.kill()
            podman.run("rm", "--force", name)


def directories() -> list[str]:
    """Return the lines of the page that make the directories and the configuration."""
    page = (wheel.ROOT / "deploy" / "README.md").read_text().split("## The image\n")[1]
    return re.findall("^    (install .*)$", page, re.MULTILINE)


def healthy(podman: Podman, name: str) -> bool:
    """Run the image's own check, as podman does."""
    command = podman.command("healthcheck", "run", name)
    return not subprocess.run(command, check=False, capture_output=True).returncode


def states(podman: Podman, name: str) -> list[str]:
    """Return the states of all cases."""
    listed = podman.run("exec", name, "detachd", "case", "list", "-f", "json")
    return [case["State"] for case in json.loads(listed)]
