"""Whether the ledger that the benchmark fills is what years of archiving leave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger
from consumer.ledger.database.engine import Database
from consumer.ledger.database.tables import metadata
from tests.benchmarks.filling import BEGIN, EACH_SECONDS, NUMBERED, after_days, fill
from tests.services import ledgers
from tests.services.ledgers import LEDGERS

FINISHED = 5_000
ARCHIVED = 4_300
# Given by the database as rows come, so that they depend on what had come before.
GIVEN = set(NUMBERED.values())


@pytest.fixture(params=LEDGERS)
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """Give two empty ledgers of one kind."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("moved", "filled"):
            directory = tmp_path / name
            directory.mkdir()
            found.append(stack.enter_context(ledgers.each(request, directory)))
        yield found


def move_all(url: str) -> int:
    """Archive what is older than the last one that filling puts into the archive."""
    last = datetime.fromisoformat(BEGIN).replace(tzinfo=UTC)
    last += timedelta(seconds=(ARCHIVED - 0.5) * EACH_SECONDS)
    moved = 0
    with contextlib.closing(Ledger(url)) as ledger:
        while done := ledger.archive((datetime.now(UTC) - last).total_seconds(), limit=500).cases:
            moved += done
    return moved


def attachments(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what all tables hold, but for the row of no volume and numbers that are given."""
    with contextlib.closing(Database(url)) as database:
        return {
            table.name: database.read(lambda c, t=table: _of_table(c, t))
            for table in metadata.tables.values()
        }


def _of_table(connection: sa.Connection, table: sa.Table) -> list[tuple[Any, ...]]:
    columns = [c for c in table.columns if c.name not in GIVEN]
    statement = sa.select(*columns)
    if table.name == "claims":
        statement = statement.where(table.c.volume_id != "")
    return sorted((tuple(attachment) for attachment in connection.execute(statement)), key=repr)


@pytest.mark.slow
def test_filled_is_what_moving_leaves(urls: list[str]) -> None:
    """All filled in and then archived by the service -> the same rows as filled in so."""
    moved, filled = urls
    fill(moved, FINISHED)
    assert move_all(moved) == ARCHIVED
    fill(filled, FINISHED, ARCHIVED)
    found, expected = attachments(moved), attachments(filled)
    assert {name: len(of) for name, of in found.items()} == {
        name: len(of) for name, of in expected.items()
    }
    assert len(found["archived_notifications"]) == 3 * ARCHIVED
    assert found == expected


def test_what_is_archived_by_now() -> None:
    """A million cases a year, archived after two days -> the last 5,479 are worked on still."""
    assert [after_days(n, 2) for n in (1_000, 5_479, 1_000_000)] == [0, 0, 994_521]
