"""A record of one run of tests: with what it ran, what came out, when, and of which commit.

It is kept as a file of JSON in docs/compatibility. Nothing in it is written by hand.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KEPT_IN = ROOT / "docs" / "compatibility"


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How many tests of one suite ended in which way; a test that broke outside itself failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Used:
    """What a run really had to do with, each as the part itself tells.

    ``rabbitmq``, ``ceph`` and ``ledgers`` are those that were started and connected to,
    ``openstack`` the releases of the lab's services by package, empty where no lab ran.
    ``libraries`` names the list of releases (tests/versions, else constraints.txt) that the
    installed packages agree with.
    """

    python: str
    libraries: str | None = None
    rabbitmq: tuple[str, ...] = ()
    ledgers: tuple[str, ...] = ()
    openstack: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ceph: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run. ``date`` is the day (UTC); ``commit`` ends with "+" where files were changed."""

    name: str
    date: str
    commit: str
    used: Used
    suites: Mapping[str, Counts]

    @property
    def passed(self) -> bool:
        """Tell whether tests ran, and each that ran passed."""
        counts = self.suites.values()
        return any(c.passed for c in counts) and not any(c.failed for c in counts)

    def to_json(self) -> str:
        """Return the text of its file; the file's name is the run's."""
        plain = dataclasses.asdict(self)
        del plain["name"]
        return json.dumps(plain, indent=2, sort_keys=True) + "\n"


def read(directory: Path = KEPT_IN) -> Sequence[Run]:
    """Return the records that are kept, by name; KeyError or TypeError where one is no record."""
    return [_from_json(file.stem, file.read_text()) for file in sorted(directory.glob("*.json"))]


def _from_json(name: str, text: str) -> Run:
    plain: dict[str, Any] = json.loads(text)
    used = plain.pop("used")
    used.setdefault("ceph", [])  # in records of runs from before it was told
    lists = {key: tuple(used.pop(key)) for key in ("rabbitmq", "ceph", "ledgers")}
    suites = {suite: Counts(**counts) for suite, counts in plain.pop("suites").items()}
    return Run(name=name, used=Used(**used, **lists), suites=suites, **plain)
