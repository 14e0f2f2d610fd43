"""A command that lists, and says in words when there is nothing to list."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from cliff.lister import Lister


class Listing(Lister):
    """cliff's lister. Its table of nothing is an empty line; this one says ``nothing`` to stderr.

    The formats for programs stay as they are.
    """

    nothing: ClassVar[str]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        """Print the table, or the words."""
        rows = list(data)
        if rows or parsed_args.formatter != "table":
            done: int = super().produce_output(parsed_args, column_names, rows)
            return done
        self.app.stderr.write(f"{self.nothing}\n")
        return 0
