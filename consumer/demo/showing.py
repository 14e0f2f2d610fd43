"""How what came out is shown: a table, or a card for each scene where the terminal is narrow."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from consumer.demo.performance import Row

ANNOUNCED = "volume.force_detach."
# Each with the width that it is folded to; what has none is told whole.
HEADINGS = {
    "": None, "scenario": 18, "verdict\nrule": None, "what was done": None,
    "Cinder\nbefore → after": 21, "backend\nbefore → after": 14, "verified\nby": None,
    "announced": None,
}  # fmt: skip
TABLE_WIDTH = 120


def console() -> Console:
    """Return where to show it: the terminal, or as wide as the table is where there is none."""
    made = Console()
    return made if made.is_terminal else Console(width=max(made.width, TABLE_WIDTH))


def show(rows: Sequence[Row], on: Console) -> None:
    """Print what came out, and how many came out wrong."""
    if on.width >= TABLE_WIDTH:
        on.print(_table(rows))
    else:
        for row in rows:
            on.print(_card(row), soft_wrap=False)
    on.print(_closing(len(rows), sum(not row.ok for row in rows)))
    sys.stdout.flush()


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, title="What detachd made of it", title_justify="left",
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
    """Return one row as lines, for a terminal that is too narrow for the table."""
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
    return before.replace("[", r"\[") + "\n→ " + after.replace("[", r"\[")


def _closing(total: int, wrong: int) -> str:
    if wrong:
        return f"[red]{wrong} of {total} came out wrong.[/]"
    return f"[green]All {total} came out as they must.[/] No healthy attachment was touched."
