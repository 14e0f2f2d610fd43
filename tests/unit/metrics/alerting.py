"""What the tests of the alerts and of their runbooks read, and promtool, which judges PromQL.

Debian's package ``prometheus`` brings promtool.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
RULES_FILE = ROOT / "metrics" / "alerts" / "detachd.rules.yaml"
RUNBOOKS = ROOT / "metrics" / "runbooks"
SCENES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")

_QUERIES = re.compile(r"```promql\n(.*?)```", re.DOTALL)


def promtool(*arguments: str) -> None:
    """Run promtool; what it complains of is the failure's text.

    Without it the test is skipped, with the reason, or failed where CI=true.
    """
    path = shutil.which("promtool")
    if path is None:
        _missing("promtool is not installed; Debian's package prometheus brings it")
    else:
        command = [path, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def rules() -> list[dict[str, Any]]:
    """Return every rule of the file, in order."""
    groups = yaml.safe_load(RULES_FILE.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})


def title(rule: dict[str, Any]) -> str:
    """Name a rule in a test's id."""
    return "-".join([rule["alert"], *sorted(rule["labels"].values())])


def queries_of(page: Path) -> list[str]:
    """Return the PromQL of a runbook, a query a line."""
    return [q for block in _QUERIES.findall(page.read_text()) for q in block.splitlines() if q]


def queries() -> Iterator[tuple[str, str]]:
    """Yield every PromQL expression there is, with where it stands."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for page in PAGES:
        for query in queries_of(page):
            yield page.name, query
