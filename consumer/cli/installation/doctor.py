"""``detachd doctor``: each precondition with a plain answer, and what to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from consumer.cli.configured import ConfiguredCommand, add_format
from consumer.cli.text import width, wrapped
from consumer.findings import Finding, Level
from consumer.status.words import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

# 1 and 2 are taken by all commands: failed, bad input.
EXIT = {Level.GOOD: 0, Level.NOTE: 0, Level.WARNING: 3, Level.ERROR: 4}
MARKS = {Level.GOOD: "ok", Level.NOTE: "note", Level.WARNING: "WARNING", Level.ERROR: "ERROR"}
INDENT = 9


class Doctor(ConfiguredCommand):
    """Examine what detachd needs, and say what to do. It changes nothing.

    The exit status is that of the worst finding: 0 for none that matters, 3 for a warning, 4 for an
    error.
    """

    files_alone = False

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        if not self.files_alone:
            parser.add_argument(
                "--config", action="store_true",
                help="examine the files alone, without any connection, as `detachd config check`",
            )  # fmt: skip
            parser.add_argument(
                "--try-detach", action="store_true",
                help="also ask Nova to detach a volume that nobody has, which tells its policy",
            )  # fmt: skip
            parser.add_argument(
                "--try-writes", metavar="VOLUME",
                help=(
                    "also reserve this volume and give it back, which tells policies of Cinder: "
                    "one that you made for it, with the metadata detachd_trial=true"
                ),
            )  # fmt: skip
        add_format(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Examine, print, and return the exit status."""
        from consumer.cli.installation import examining

        settings, found = examining.examine_files(parsed_args.config_file)
        if settings is not None and not (self.files_alone or parsed_args.config):
            found += examining.examine_all(
                settings, try_detach=parsed_args.try_detach, try_writes=parsed_args.try_writes
            )
        if parsed_args.format == "json":
            self.app.stdout.write(json.dumps(as_json(found), indent=2) + "\n")
        else:
            self.app.stdout.writelines(line + "\n" for line in text(found, width()))
        return EXIT[examining.worst(found)]


def as_json(found: Iterable[Finding]) -> list[dict[str, str]]:
    """Return the findings as plain JSON values."""
    return [
        {"level": f.level.name.lower(), "area": f.area, "said": f.said, "todo": f.todo}
        for f in found
    ]


def text(found: Sequence[Finding], columns: int) -> Iterator[str]:
    """Yield the findings in lines, by area, and how many there are of each kind."""
    area = None
    for finding in found:
        if finding.area != area:
            area = finding.area
            yield printable(area)
        yield from wrapped(f"  {MARKS[finding.level]}", finding.said, columns, INDENT + 2)
        if finding.todo:
            yield from wrapped("", f"-> {finding.todo}", columns, INDENT + 2)
    counts = {level: sum(f.level is level for f in found) for level in Level}
    yield ""
    yield (
        f"errors: {counts[Level.ERROR]}, warnings: {counts[Level.WARNING]}, "
        f"notes: {counts[Level.NOTE]}, in order: {counts[Level.GOOD]}"
    )
