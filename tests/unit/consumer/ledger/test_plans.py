"""How the databases find what the hot transactions ask for, in a ledger that has seen much."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from consumer.ledger import Ledger, Timing
from consumer.ledger.engine import Database
from tests.benchmarks.filling import fill
from tests.benchmarks.ledger_scale import batch
from tests.services import ledgers
from tests.services.ledgers import LEDGERS

FINISHED = 20_000
GROWING = ("cases", "claims", "notifications", "history", "intents", "outbox")
MOST_ROWS = FINISHED // 10

Statement = tuple[str, Any]


@pytest.fixture(scope="module", params=LEDGERS)
def busy_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Give a ledger with many finished cases and a few that are due, for all tests here."""
    with ledgers.each(request, tmp_path_factory.mktemp("busy")) as url:
        fill(url, FINISHED)
        with contextlib.closing(Ledger(url, timing=Timing(error_settle_seconds=0.0))) as ledger:
            ledger.accept(batch())
        yield url


@pytest.fixture
def busy(busy_url: str) -> Iterator[Ledger]:
    """Open it."""
    with contextlib.closing(Ledger(busy_url, timing=Timing(error_settle_seconds=0.0))) as ledger:
        yield ledger


@pytest.fixture
def database(busy_url: str) -> Iterator[Database]:
    """Ask it past the ledger."""
    with contextlib.closing(Database(busy_url)) as database:
        yield database


def asked(ledger: Ledger) -> list[Statement]:
    """Do all that the loops do again and again; return the statements that look for rows."""
    statements: list[Statement] = []
    engine = ledger._database.engine  # what it sends is what is tested

    def note(*told: Any) -> None:
        statement, parameters, many = told[2], told[3], told[5]
        if statement.startswith(("SELECT", "UPDATE")) and " WHERE " in statement.replace("\n", " "):
            statements.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    ledger.accept(batch()[:20])
    claims = ledger.claim("w", limit=20, lease_seconds=600, deadlines=False)
    ledger.renew(claims[0], 900)
    ledger.hand_back(claims[0])
    ledger.outbox_take("w", limit=20, lease_seconds=30)
    ledger.outbox_sent([1])
    ledger.outbox_pending()
    ledger.counts()
    event.remove(engine, "before_cursor_execute", note)
    return statements


def scans(database: Database, statement: Statement) -> list[str]:
    """Return what the database says of reading much of a table that grows."""
    kind = database.engine.dialect.name
    words = {
        "sqlite": "EXPLAIN QUERY PLAN ", "mariadb": "EXPLAIN ",
        "postgresql": "EXPLAIN (FORMAT JSON) ",
    }[kind]  # fmt: skip
    rows = database.write(
        lambda c: c.exec_driver_sql(words + statement[0], statement[1]).mappings().all()
    )
    match kind:
        case "sqlite":
            details = [row["detail"] for row in rows]
            return [d for d in details if d.startswith(tuple(f"SCAN {t}" for t in GROWING))]
        case "mariadb":
            return [str(dict(row)) for row in rows if _much(row["table"], row["rows"])]
        case _:
            plan = rows[0]["QUERY PLAN"]
            parsed = plan if isinstance(plan, list) else json.loads(plan)
            return [str(node) for node in _nodes(parsed[0]["Plan"]) if _sequential(node)]


def _much(table: str | None, rows: Any) -> bool:
    return table is not None and int(rows or 0) > MOST_ROWS


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    children = plan.pop("Plans", ())
    yield plan
    for child in children:
        yield from _nodes(child)


def _sequential(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan" and node["Relation Name"] in GROWING


def test_hot_statements_go_by_an_index(busy: Ledger, database: Database) -> None:
    """Many finished cases, few open -> nothing that the loops ask reads a growing table whole."""
    statements = asked(busy)
    assert len(statements) > 15
    assert {s[0]: plan for s in statements if (plan := scans(database, s))} == {}


def test_a_question_without_an_index_is_noticed(database: Database) -> None:
    """A statement that has to read a table whole -> this test's eye sees it."""
    assert scans(database, ("SELECT case_id FROM cases WHERE use_case = 'UC9'", ()))


def test_filling_made_finished_cases(busy: Ledger, database: Database) -> None:
    """The filled ledger -> so many closed cases, and none of them is among those still open."""
    by_state = sa.text("SELECT state, count(*) FROM cases GROUP BY state")
    found = dict(database.read(lambda c: [(row[0], row[1]) for row in c.execute(by_state)]))
    assert found.pop("closed") == FINISHED
    assert sum(state.count for state in busy.counts().values()) == sum(found.values()) >= 200
