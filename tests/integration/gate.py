"""A tgtadm that waits at one of its commands until it is let through: what happens in between."""

from __future__ import annotations

from pathlib import Path

SCRIPT = """#!/bin/sh
case " $* " in
    *" --op {op} "*)
        : > {arrived}
        while [ -e {closed} ]; do sleep 0.02; done ;;
esac
exec {tgtadm} "$@"
"""


class Gate:
    """A program that is tgtadm but for that; closed at first. ``op`` is, say, unbind."""

    def __init__(self, directory: Path, tgtadm: Path, op: str) -> None:
        directory.mkdir()
        self._arrived, self._closed = directory / "arrived", directory / "closed"
        self.program = directory / "tgtadm"
        self.program.write_text(
            SCRIPT.format(op=op, arrived=self._arrived, closed=self._closed, tgtadm=tgtadm)
        )
        self.program.chmod(0o755)
        self._closed.touch()

    def reached(self) -> bool:
        """Tell whether somebody is waiting, or has been."""
        return self._arrived.exists()

    def open(self) -> None:
        """Let everybody through, now and later."""
        self._closed.unlink()
