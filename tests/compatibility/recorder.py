"""Record a run of tests: the pytest plugin behind ``DETACHD_RECORD_RUNS=FILE``.

What is used tells for itself: each private service when it has started, each ledger when it is
connected to. Of several processes (pytest-xdist), the workers hand what they used to the one that
counts the results and writes the file.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import re
import sqlite3
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import amqp
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from tests.compatibility.records import ROOT, Counts, Run, Used
from tests.lab.daemon import Daemon
from tests.services.ceph import Ceph
from tests.services.rabbitmq import RabbitMQ
from tests.services.service import PrivateService

VARIABLE = "DETACHD_RECORD_RUNS"
HANDED = "detachd_used"
WHOLE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
WORSE = ("passed", "skipped", "failed")
OPENSTACK = {"cinder-api": "cinder", "nova-api": "nova"}
LISTS = (*sorted((ROOT / "tests" / "versions").glob("*.txt")), ROOT / "constraints.txt")


class Recorder:
    """The plugin; one for each process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._outcomes: dict[str, tuple[str, str]] = {}  # by test: its suite, and how it ended
        self._seen: dict[str, set[str]] = defaultdict(set)
        PrivateService.watchers.append(self._started)
        event.listen(sa.Engine, "engine_connect", self._connected)

    def pytest_unconfigure(self) -> None:
        """Watch no longer."""
        PrivateService.watchers.remove(self._started)
        event.remove(sa.Engine, "engine_connect", self._connected)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test by its worst phase: what fails in a fixture fails."""
        suite, known = self._outcomes.get(report.nodeid, (suite_of(report.nodeid), "passed"))
        self._outcomes[report.nodeid] = (suite, max(known, report.outcome, key=WORSE.index))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker used."""
        for kind, versions in getattr(node, "workeroutput", {}).get(HANDED, {}).items():
            self._seen[kind].update(versions)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the record, or hand over what was used; nothing of a run that was broken off."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[HANDED] = {kind: sorted(versions) for kind, versions in self._seen.items()}
        elif self._outcomes and exitstatus in WHOLE:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(self.run().to_json())

    def run(self) -> Run:
        """Return the record as it stands."""
        return Run(
            name=self._file.stem,
            date=datetime.now(UTC).date().isoformat(),
            commit=commit(),
            used=self._used(),
            suites=self._suites(),
        )

    def _used(self) -> Used:
        packages = (package for package in OPENSTACK.values() if self._seen[package])
        return Used(
            python=platform.python_version(),
            libraries=libraries(),
            rabbitmq=tuple(sorted(self._seen["rabbitmq"])),
            ledgers=tuple(sorted(self._seen["ledger"])),
            openstack={package: ", ".join(sorted(self._seen[package])) for package in packages},
            ceph=tuple(sorted(self._seen["ceph"])),
        )

    def _suites(self) -> dict[str, Counts]:
        counts: dict[str, Counts] = {}
        for suite, outcome in sorted(self._outcomes.values()):
            before = counts.get(suite, Counts())
            counts[suite] = dataclasses.replace(before, **{outcome: getattr(before, outcome) + 1})
        return counts

    def _started(self, service: PrivateService) -> None:
        match service:
            case RabbitMQ():
                self._seen["rabbitmq"].add(_version_of_broker(service))
            case Ceph():
                self._seen["ceph"].add(service.version)
            case Daemon(name=name) if name in OPENSTACK:
                package = OPENSTACK[name]
                self._seen[package].add(_version_in(service.environment, package))
            case _:
                pass

    def _connected(self, connection: sa.Connection) -> None:
        if connection.engine.hide_parameters:  # as the ledger's do, and no other
            self._seen["ledger"].add(_version_of_database(connection))


def suite_of(test: str) -> str:
    """Return the part of tests/ that a test belongs to, and whether it runs on the lab.

    Tests of behaviour run twice: what runs on the simulator proves nothing of a release.
    """
    part = test.partition("::")[0].split("/")[1]
    on_lab = part.startswith("lab") or (part == "behaviour" and "[lab" in test)
    return part + (" on the lab" if on_lab else "")


def _version_of_broker(broker: RabbitMQ) -> str:
    with amqp.Connection(f"127.0.0.1:{broker.port}") as connection:
        return str(connection.server_properties["version"])


def _version_in(environment: Path, package: str) -> str:
    (metadata,) = environment.glob(f"lib/python3.*/site-packages/{package}-*.dist-info")
    return metadata.name.removeprefix(f"{package}-").removesuffix(".dist-info")


def _version_of_database(connection: sa.Connection) -> str:
    dialect = connection.dialect
    numbers = ".".join(str(n) for n in dialect.server_version_info or () if isinstance(n, int))
    match dialect.name:
        case "sqlite":
            return f"SQLite {sqlite3.sqlite_version}"
        case "postgresql":
            return f"PostgreSQL {numbers}"
        case _:
            return f"MariaDB {numbers}"


def libraries() -> str | None:
    """Return the list of releases that every installed package agrees with; None if no list is so.

    A package that is pinned and not installed, or installed and not pinned, does not count.
    """
    installed = {_plain(d.name): d.version for d in importlib.metadata.distributions()}
    for file in LISTS:
        pinned = pins(file.read_text())
        if all(installed.get(name, version) == version for name, version in pinned.items()):
            return file.stem
    return None


def pins(text: str) -> Mapping[str, str]:
    """Read a list of releases: what is pinned, by plain name."""
    pairs = (line.split("==") for line in text.splitlines() if "==" in line and line[0] != "#")
    return {_plain(name): version for name, version in pairs}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def commit() -> str:
    """Return the commit that is checked out, with "+" behind it where tracked files are changed."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return _git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()
