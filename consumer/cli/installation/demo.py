"""``detachd demo``: plays the five use cases and healthy cases that look like them.

The results are shown as a table, or as a card for each scene on a narrow terminal.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cliff.command import Command
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from consumer.demo.performance import Row

ANNOUNCED = "volume.force_detach."
# Each with its maximum width; longer texts are folded. None: no maximum.
HEADINGS = {
    "": None, "scenario": 18, "verdict\nrule": None, "what was done": None,
    "Cinder\nbefore → after": 21, "backend\nbefore → after": 14, "verified\nby": None,
    "announced": None,
}  # fmt: skip
TABLE_WIDTH = 120


class _Console(Console):
    """rich ends the process with 1 where nobody reads on, which here means a wrong result."""

    def on_broken_pipe(self) -> None:
        """Let the error through; cliff ends quietly, as for every command."""
        raise BrokenPipeError


def console() -> Console:
    """Return the terminal; if output is not a terminal, a console as wide as the table."""
    made = _Console()
    # A pipe has no width; a file shall have the whole table.
    return made if made.is_terminal else _Console(width=max(made.width, TABLE_WIDTH))


def show(rows: Sequence[Row], on: Console) -> None:
    """Print the results, and how many of them are wrong."""
    if on.width >= TABLE_WIDTH:
        on.print(_table(rows))
    else:
        for row in rows:
            on.print(_card(row), soft_wrap=False)
    on.print(_closing(len(rows), sum(not row.ok for row in rows)))
    sys.stdout.flush()


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title="Results", title_justify="left",
        padding=0, show_edge=False,
    )  # fmt: skip
    for heading, width in HEADINGS.items():
        table.add_column(heading, overflow="fold", max_width=width, no_wrap=width is None)
    for row in rows:
        table.add_row(
            "[green]✓[/]" if row.ok else "[red]✗[/]",
            row.scenario,
            f"{row.verdict}\n[dim]{row.rule}[/]",
            "\n".join(row.steps) or "[dim]nothing[/]",
            _change(row.cinder_before, row.cinder_after),
            _change(row.backend_before, row.backend_after),
            row.verified_by or "-",
            "\n".join(name.removeprefix(ANNOUNCED) for name in row.announced) or "-",
        )
        table.add_row()
    return table


def _card(row: Row) -> Table:
    """Return one result as lines, for a terminal that is too narrow for the table."""
    card = Table.grid(padding=(0, 2))
    mark = "[green]✓[/]" if row.ok else "[red]✗[/]"
    card.add_row(mark, f"[bold]{row.scenario}[/]", f"{row.verdict} [dim]{row.rule}[/]")
    announced = ", ".join(name.removeprefix(ANNOUNCED) for name in row.announced)
    for name, value in (
        ("what was done", "\n".join(row.steps) or "nothing"),
        ("Cinder", _change(row.cinder_before, row.cinder_after)),
        ("backend", _change(row.backend_before, row.backend_after)),
        ("verified by", row.verified_by or "-"),
        ("announced", announced or "-"),
    ):
        card.add_row("", f"[dim]{name}[/]", value)
    card.add_row("")
    return card


def _change(before: str, after: str) -> str:
    # rich takes words in brackets for its markup.
    return before.replace("[", r"\[") + "\n→ " + after.replace("[", r"\[")


def _closing(total: int, wrong: int) -> str:
    if wrong:
        return f"[red]{wrong} of {total} scenes have a wrong result.[/]"
    right = f"[green]All {total} scenes have the expected result.[/]"
    return f"{right} No healthy attachment was changed."


COLOURS = {
    "unseen": "dim",
    "waiting": "yellow",
    "due": "yellow",
    "settling": "cyan",
    "parked": "magenta",
    "closed": "green",
}


class Demo(Command):
    """Run the five use cases, and healthy cases that look like them, on a simulated cloud.

    The demo changes nothing outside its own process. The exit code is 0 only if every scene has
    the expected result.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add ``--json``."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("--json", action="store_true", help="print a JSON list, not a table")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Play, print, and return the exit code."""
        from consumer.demo.performance import perform

        # What the service logs would tear the live table.
        logging.getLogger().setLevel(logging.ERROR)
        rows = perform(lambda _: None) if parsed_args.json else _show_live()
        if parsed_args.json:
            print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0 if all(row.ok for row in rows) else 1


def _show_live() -> list[Row]:
    from consumer.demo.performance import perform

    on = console()
    with Live(_states({}), console=on, transient=True) as live:
        rows = perform(lambda states: live.update(_states(states)))
    show(rows, on)
    return rows


def _states(states: Mapping[str, str]) -> Table:
    from consumer.demo.scenes import SCENES

    table = Table(box=box.SIMPLE, title="The notifications are on the bus", title_justify="left")
    table.add_column("scenario")
    table.add_column("case")
    table.add_column("situation", style="dim")
    for scene in SCENES:
        state = states.get(scene.name, "unseen")
        table.add_row(scene.name, f"[{COLOURS.get(state, '')}]{state}[/]", scene.title)
    return table
