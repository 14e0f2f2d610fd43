"""The lists of tests/versions are what tools/write-versions makes of OpenStack's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTS = sorted((ROOT / "tests" / "versions").glob("*.txt"))


def written(upper_constraints: str, *arguments: str) -> str:
    """Return what the tool writes."""
    command = [sys.executable, ROOT / "tools" / "write-versions", *arguments]
    done = subprocess.run(
        command, input=upper_constraints, check=True, capture_output=True, text=True
    )
    return done.stdout


def pinned(text: str) -> list[str]:
    """Return the lines that are no comments."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_only_what_detachd_needs_for_its_python() -> None:
    """Strangers, tools of the tests and other Pythons' releases -> not on the list."""
    upper = """
        kombu===5.5.4
        cliff===4.9.1;python_version=='3.9'
        cliff===4.11.0;python_version>='3.10'
        pytest===8.4.1
        ansible===9.0.0
        oslo_config===10.0.0
    """
    assert pinned(written(upper, "2025.2", "0123")) == [
        "cliff==4.11.0",
        "kombu==5.5.4",
        "oslo_config==10.0.0",
    ]


def test_the_lowest_has_what_openstack_does_not_ship() -> None:
    """Needed at run time and not OpenStack's -> its lower bound, but only where that is asked."""
    lines = pinned(written("kombu===5.5.4", "2025.2", "0123", "--lowest"))
    assert lines[0] == "kombu==5.5.4"
    assert {"orjson==3.10.0", "psycopg-binary==3.2.1"} <= set(lines)
    assert not [line for line in lines if line.startswith("hypothesis")]


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_a_list_is_as_the_tool_writes_it(file: Path) -> None:
    """A list -> the tool, given what it pins as OpenStack's, writes the same, header included."""
    text = file.read_text()
    arguments = re.findall(r"tools/write-versions( --lowest)? (\S+) (\S+)", text)
    ((lowest, release, commit),) = arguments
    own = {"orjson", "psycopg", "psycopg-binary"} if lowest else set()
    upper = [line for line in pinned(text) if line.split("==")[0] not in own]
    again = written(
        "\n".join(line.replace("==", "===") for line in upper), *lowest.split(), release, commit
    )
    assert again == text
    assert file.stem == f"openstack-{release}"
