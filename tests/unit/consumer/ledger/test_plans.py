"""How the databases find what the hot transactions ask for, in a ledger that has seen much."""

from __future__ import annotations

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

FINISHED = 20_000
GROWING = ("cases", "claims", "notifications", "history", "intents", "outbox")
MOST_ROWS = FINISHED // 10

Statement = tuple[str, Any]


@pytest.fixture
def busy(ledger_url: str) -> Iterator[Ledger]:
    """Give a ledger with many finished cases and a few that are due."""
    ledger = Ledger(ledger_url, timing=Timing(error_settle_seconds=0.0))
    fill(ledger_url, FINISHED)
    ledger.accept(batch())
    yield ledger
    ledger.close()


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


def test_hot_statements_go_by_an_index(busy: Ledger, ledger_url: str) -> None:
    """Many finished cases, few open -> nothing that the loops ask reads a growing table whole."""
    statements = asked(busy)
    assert len(statements) > 15
    database = Database(ledger_url)
    found = {s[0]: plan for s in statements if (plan := scans(database, s))}
    database.close()
    assert found == {}


def test_a_question_without_an_index_is_noticed(busy: Ledger, ledger_url: str) -> None:
    """A statement that has to read a table whole -> this test's eye sees it."""
    database = Database(ledger_url)
    plan = scans(database, ("SELECT case_id FROM cases WHERE use_case = 'UC9'", ()))
    database.close()
    assert plan, busy


def test_filling_made_finished_cases(busy: Ledger, ledger_url: str) -> None:
    """The filled ledger -> so many closed cases, none of which is ever due."""
    database = Database(ledger_url)
    closed = database.read(
        lambda c: c.execute(sa.text("SELECT count(*) FROM cases WHERE state = 'closed'")).scalar()
    )
    database.close()
    assert closed == FINISHED
    assert sum(state.count for state in busy.counts().values()) == 200
