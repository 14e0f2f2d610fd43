"""``detachd demo``: the five use cases and their look-alikes, played and tabled."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Mapping

from cliff.command import Command
from rich import box
from rich.live import Live
from rich.table import Table

from consumer.demo.performance import Row, perform
from consumer.demo.scenes import SCENES
from consumer.demo.showing import console, show

COLOURS = {
    "unseen": "dim",
    "waiting": "yellow",
    "due": "yellow",
    "settling": "cyan",
    "parked": "magenta",
    "closed": "green",
}


class Demo(Command):
    """Play the five use cases and their look-alikes on embedded parts and show what came out.

    Nothing outside this process is touched. Exits 0 only if every scene came out as it must.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add ``--json``."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("--json", action="store_true", help="print a JSON list, no table")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Play, print, and return the exit code."""
        logging.getLogger().setLevel(logging.ERROR)
        rows = perform(lambda _: None) if parsed_args.json else _show_live()
        if parsed_args.json:
            print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0 if all(row.ok for row in rows) else 1


def _show_live() -> list[Row]:
    on = console()
    with Live(_states({}), console=on, transient=True) as live:
        rows = perform(lambda states: live.update(_states(states)))
    show(rows, on)
    return rows


def _states(states: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE, title="notifications are on the bus", title_justify="left")
    table.add_column("scenario")
    table.add_column("case")
    table.add_column("what was arranged", style="dim")
    for scene in SCENES:
        state = states.get(scene.name, "unseen")
        table.add_row(scene.name, f"[{COLOURS.get(state, '')}]{state}[/]", scene.title)
    return table
