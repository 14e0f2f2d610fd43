"""Which keys of a connector each storage driver of Cinder reads: from the sources of the lab's.

``python -m tests.lab.connector_keys`` prints the table of docs/connectors.md.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab import environment

DRIVERS = "lib/python3.*/site-packages/cinder/volume/drivers"
OS_BRICK = "lib/python3.*/site-packages/os_brick/initiator"
ALIKE = "Host_connector_info"  # storwize's own table of hosts, no connector


def keys_by_driver() -> Mapping[str, frozenset[str]]:
    """Return the keys by driver, which is a file of Cinder's drivers or a directory of a vendor's.

    A key counts wherever the driver's code reads it, not in ``terminate_connection`` alone: what
    that calls is spread over many files. Raises LabMissingError without the lab's environment.
    """
    (root,) = environment.require().glob(DRIVERS)
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted(root.rglob("*.py")):
        found[_driver(file.relative_to(root))].update(keys_read(file.read_text()))
    return {driver: frozenset(keys) for driver, keys in found.items() if keys}


def of_os_brick() -> str:
    """Return the sources of what makes connectors on a compute host (os-brick), as one text."""
    (root,) = environment.require().glob(OS_BRICK)
    return "".join(file.read_text() for file in sorted(root.rglob("*.py")))


def _driver(file: Path) -> str:
    """Return dell_emc/powerflex for what is in it, lightos for lightos.py."""
    return "/".join(file.parts[:-1][:2]) or file.stem


def keys_read(source: str) -> Iterator[str]:
    """Yield each key that is read from something called a connector."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Subscript(value=of, slice=ast.Constant(value=str(key)), ctx=ast.Load()):
                pass
            case ast.Call(
                func=ast.Attribute(attr="get", value=of), args=[ast.Constant(value=str(key)), *_]
            ):
                pass
            case ast.Compare(
                left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[of]
            ):
                pass
            case _:
                continue
        if _is_connector(of):
            yield key


def _is_connector(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return "connector" in name.lower() and name != ALIKE


def table() -> str:
    """Return the lines of the table."""
    lines = (
        f"| {driver} | {', '.join(f'`{key}`' for key in sorted(keys))} |"
        for driver, keys in sorted(keys_by_driver().items())
    )
    return "\n".join(["| driver | keys |", "|---|---|", *lines])


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
