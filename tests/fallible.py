"""A program in front of another one, which runs it and can be made to fail, once."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

SCRIPT = """#!/bin/sh
if ! read -r left effect 2> /dev/null < {plan}; then exec {real} "$@"; fi
if [ "$left" -gt 0 ]; then echo "$((left - 1)) $effect" > {plan}; exec {real} "$@"; fi
rm {plan}
[ "$effect" = 0 ] || head -n 1 | {real} "$@" > /dev/null 2>&1
echo "failed on purpose" >&2
exit 1
"""


class Fallible:
    """The program: its runs do what the real one does, but for the one that was chosen."""

    def __init__(self, directory: Path, real: Path) -> None:
        self.program = directory / f"fallible-{real.name}"
        self._plan = directory / f"fallible-{real.name}.plan"
        words = {"plan": shlex.quote(str(self._plan)), "real": shlex.quote(str(real))}
        self.program.write_text(SCRIPT.format(**words))
        self.program.chmod(0o700)

    @contextlib.contextmanager
    def failing_once(self, run: int, effect: int) -> Iterator[Callable[[], bool]]:
        """Have the run of this number fail, counted from 0; yield what tells whether it has.

        ``effect``: 1 where the real program is run all the same, and only its answer is lost.
        """
        self._plan.write_text(f"{run} {effect}\n")
        has_failed = False
        try:
            yield lambda: has_failed
        finally:
            has_failed = not self._plan.exists()
            self._plan.unlink(missing_ok=True)
