"""The first hour of an installer: README's own lines, in a bare environment, from the wheel.

The lines are read from README, so that it cannot go stale. Only what one machine has once is
replaced: the broker's address, the ports, and the package's name by the wheel that was built here.
Times of Prometheus are shortened, so that the hour takes a minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import wheel
from tests.services.ports import free_port
from tests.services.rabbitmq import RabbitMQ

README = (wheel.ROOT / "README.md").read_text()
A_BROKER_HERE = "rabbit://guest:guest@127.0.0.1:5672/"
PATIENCE_SECONDS = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


def section(title: str) -> str:
    """Return what README says under a heading."""
    return re.split(r"^#+ ", README.split(f"### {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def lines(text: str) -> list[str]:
    """Return the lines that are to be typed."""
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


TRIAL = section("A trial, in five minutes")
SUBSCRIBER = TRIAL.split("```python\n")[1].split("```")[0]
TYPED = lines(TRIAL.replace(SUBSCRIBER, ""))


class Shell:
    """A person at a terminal in one directory, with nothing of this process's environment."""

    def __init__(self, directory: Path, replaced: dict[str, str]) -> None:
        self.directory = directory
        self.replaced = replaced
        self.background: list[subprocess.Popen[bytes]] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
        self.environment = kept | {"PATH": f"{directory}/venv/bin:{kept['PATH']}"}

    def type(self, line: str) -> str:
        """Run a line and return its output; one that ends with & goes on in the background."""
        for old, new in self.replaced.items():
            line = line.replace(old, new)
        if not line.endswith(" &"):
            return self._wait_for(line)
        with (self.directory / f"{Path(line.split()[1]).name}.log").open("wb") as log:
            words = ["bash", "-c", f"exec {line.removesuffix(' &')}"]
            self.background.append(
                subprocess.Popen(
                    words, cwd=self.directory, env=self.environment, stdout=log, stderr=log
                )
            )
        return ""

    def _wait_for(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.directory, env=self.environment, check=False,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def end(self) -> None:
        """Stop what goes on in the background; every one has to stop when it is asked to."""
        for process in self.background:
            process.terminate()
        for process in self.background:
            process.wait(30)

    def told(self) -> str:
        """Return what the programs in the background have said."""
        return "\n".join(f"{p.name}:\n{p.read_text()}" for p in self.directory.glob("*.log"))

    def cases(self) -> list[dict[str, str]]:
        """Return the list of cases, as a program reads it."""
        return json.loads(self.type("detachd case list --config-file trial.conf -f json"))


def edit(file: Path, *changes: tuple[str, str]) -> None:
    """Replace texts in a file; each has to be there."""
    text = file.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def until(what: Callable[[], bool], why: Callable[[], str]) -> None:
    """Wait for something to come true."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < ends_at, why()
        time.sleep(0.5)


@pytest.fixture
def shell(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Shell]:
    """Give an empty directory, and what this machine has instead of what README names."""
    if shutil.which("prometheus") is None:
        reason = "prometheus is not installed; Debian's package of this name brings it"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    built = wheel.build(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    made = Shell(
        here,
        {
            "pip install detachd": f"pip install -q -c {wheel.ROOT}/constraints.txt {built}",
            A_BROKER_HERE: rabbitmq.fresh_vhost().replace("amqp://", "rabbit://"),
            "127.0.0.1:9090": f"127.0.0.1:{free_port()}",
        },
    )
    with contextlib.ExitStack() as leaving:
        leaving.callback(made.end)
        yield made


def test_the_lines_of_readme_lead_to_a_mended_volume_and_an_alert(shell: Shell) -> None:
    """README's trial, typed -> a volume mended, announcements, an alert, a case for a person."""
    (shell.directory / "subscriber.py").write_text(SUBSCRIBER)
    port, cloud = free_port(), free_port()
    for line in TYPED:
        shell.type(line)
        if "config minimal" in line:
            trial = shell.directory / "trial.conf"
            assert trial.stat().st_mode & 0o077 == 0
            edit(
                trial,
                (A_BROKER_HERE, shell.replaced[A_BROKER_HERE]),
                ("127.0.0.1:10714", f"127.0.0.1:{cloud}"),
                ("[backend_defaults]", f"[exporter]\nport = {port}\n[backend_defaults]"),
            )
        if "config files" in line:
            files = shell.directory / "files"
            edit(files / "deploy" / "prometheus.yaml", ("10713", str(port)), (": 15s", ": 1s"))
            edit(files / "alerts" / "detachd.rules.yaml", ("for: 1m\n", "for: 1s\n"))
    until(
        lambda: [case["State"] for case in shell.cases()] == ["parked", "closed"],
        lambda: f"{shell.cases()}\n{shell.told()}",
    )
    heard = re.findall("^volume.force_detach.([a-z]+) ", shell.told(), re.MULTILINE)
    assert sorted(heard) == ["end", "parked", "start"]
    until(lambda: "DetachdOpenToOthers" in firing(shell), shell.told)
    assert [process.poll() for process in shell.background] == [None] * 4
    assert "Traceback" not in shell.told()


def firing(shell: Shell) -> set[str]:
    """Return the alerts that fire now."""
    url = f"http://{shell.replaced['127.0.0.1:9090']}/api/v1/alerts"
    with urllib.request.urlopen(url, timeout=5) as answer:
        alerts = json.load(answer)["data"]["alerts"]
    return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}
