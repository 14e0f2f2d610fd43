"""The page for installers agrees with the code where it repeats it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.bus.examination import _rights
from consumer.ledger.database import engine
from tests.bus import MEMORY, settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text()
CALL = re.compile(r"`(GET|POST|DELETE) (/[^`]*)`")


def calls_on_the_page(service: str) -> set[str]:
    """Return the paths that the table has of a service."""
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {service.capitalize()} `")]
    return {path for row in rows for _, path in CALL.findall(row)}


def calls_in_the_client(service: str) -> set[str]:
    """Return every path that the client of a service writes, with {} for what it puts in."""
    tree = ast.parse((ROOT / "drivers" / "openstack" / f"{service}.py").read_text())
    return {text for text in _texts(tree) if re.fullmatch(r"(/[a-z{}_-]+)+", text)}


def _texts(tree: ast.AST) -> Iterator[str]:
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in ast.walk(node) if part is not node}  # fmt: skip
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=values):
                yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in values)
            case ast.Constant(value=str(text)) if id(node) not in parts:
                yield text


@pytest.mark.parametrize("service", ["cinder", "nova"])
def test_each_call_of_a_client_has_its_policies(service: str) -> None:
    """A call is added to a client, or is gone -> the table says what it needs, or leaves it out."""
    assert len(calls_in_the_client(service)) >= 8
    assert calls_on_the_page(service) == calls_in_the_client(service)


def test_each_action_on_a_volume_has_its_policy() -> None:
    """An action is added to the client of Cinder -> the table says what it needs."""
    tree = ast.parse((ROOT / "drivers" / "openstack" / "cinder.py").read_text())
    keys = {
        key.value
        for node in ast.walk(tree) if isinstance(node, ast.Dict)
        for key in node.keys if isinstance(key, ast.Constant) and str(key.value).startswith("os-")
    }  # fmt: skip
    assert set(re.findall(r"/action` (os-\w+)", PAGE)) == keys


def test_the_number_of_connections_is_that_of_the_pool() -> None:
    """The pool of a database server is made larger -> the page, by which limits are set, too."""
    source = Path(engine.__file__).read_text()
    most = re.search(r'"pool_size": (\d+),\n    "max_overflow": 0', source)
    assert most is not None
    assert f"at most {most[1]} for each replica" in PAGE


def test_the_rights_are_those_that_doctor_advises() -> None:
    """`detachd doctor` where the broker refuses -> the rights that the page gives."""
    found = re.search(r"R='(\S+)'", PAGE)
    advised = re.search(r"R='(\S+)'", _rights(settings(MEMORY)))
    assert found is not None
    assert advised is not None
    names = (set(one[1].strip("^$()").split("|")) for one in (found, advised))
    assert next(names) == next(names)
