"""A list whose emptiness is said in words: a table of nothing is an empty line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from cliff.lister import Lister


class Listing(Lister):
    """A command that lists. ``nothing`` is what it says on standard error where there is none."""

    nothing: ClassVar[str]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        """Print the list. A format for programs stays what it is."""
        rows = list(data)
        if not rows and parsed_args.formatter == "table":
            self.app.stderr.write(f"{self.nothing}\n")
            return 0
        return int(super().produce_output(parsed_args, column_names, rows))
