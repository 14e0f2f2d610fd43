"""How the ledger's records are printed: in lists, and their fields for programs."""

from __future__ import annotations

import argparse
import dataclasses
import enum
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from cliff.lister import Lister

from consumer.cli.app import positive
from consumer.cli.configured import ConfiguredCommand


class Listing(ConfiguredCommand, Lister):
    """A command that lists. ``nothing`` is what it says on standard error where there is none."""

    nothing: ClassVar[str]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        """Print the list. A format for programs stays what it is."""
        rows = list(data)
        # cliff's table of nothing is an empty line, which looks like a failure.
        if not rows and parsed_args.formatter == "table":
            self.app.stderr.write(f"{self.nothing}\n")
            return 0
        return int(super().produce_output(parsed_args, column_names, rows))


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add ``--limit``: how many records are listed."""
    parser.add_argument(
        "--limit", type=positive, default=100, help="maximum number (default: %(default)s)"
    )


def as_dict(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; nested dataclasses are not converted."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def plain(value: Any) -> Any:
    """Return a value for JSON: enums by value, times in ISO 8601 to the second."""
    if isinstance(value, enum.Enum):
        return value.value
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
