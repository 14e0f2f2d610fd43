"""How the databases find what the hot transactions ask for, in a ledger that has seen much."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from consumer.ledger import Archived, Ledger, Pruned, Replay, Timing
from consumer.ledger.database.engine import Database
from consumer.ledger.database.tables import ARCHIVE_OF, archived_cases
from handlers.case import CaseState
from tests.benchmarks.filling import fill
from tests.benchmarks.ledger_scale import batch
from tests.services import ledgers
from tests.services.ledgers import LEDGERS
from tests.unit.consumer.ledger.making import renew

pytestmark = pytest.mark.slow  # the ledger takes some seconds to fill

FINISHED = 20_000
GROWING = ("claims", *(t.name for pair in ARCHIVE_OF.items() for t in pair))
AGES_SECONDS = 100 * 365 * 86_400.0
MOST_ROWS = FINISHED // 10

Statement = tuple[str, Any]


@pytest.fixture(scope="module", params=LEDGERS)
def busy_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Give a ledger with many finished cases, as many archived, and a few that are due."""
    with ledgers.each(request, tmp_path_factory.mktemp("busy")) as url:
        fill(url, 2 * FINISHED, FINISHED)
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


def loops(ledger: Ledger) -> None:
    """Do all that the loops do again and again."""
    ledger.accept(batch()[:20])
    claims = ledger.claim("w", limit=20, lease_seconds=600, deadlines=False)
    renew(ledger, claims[0], 900)
    ledger.release(claims[0])
    ledger.outbox_lease("w", limit=20, lease_seconds=30)
    ledger.outbox_sent([1])
    ledger.outbox_pending()
    ledger.counts()


def people(ledger: Ledger) -> None:
    """Look at the newest cases and at one of the archive, and send that one round again."""
    ledger.cases()
    ledger.cases(state=CaseState.CLOSED)
    archived = sa.select(sa.func.max(archived_cases.c.case_id))
    case_id = ledger._database.read(lambda c: c.execute(archived).scalar_one())
    ledger.case(case_id)
    ledger.replay(Replay("replay:1", "0" * 64, "replay", "alice", ""), case_id)


def ageing(ledger: Ledger) -> None:
    """Archive and forget what is older than anything is: there is nothing to do."""
    assert ledger.archive(AGES_SECONDS, limit=100) == Archived()
    assert ledger.prune(AGES_SECONDS, limit=100) == Pruned()


def asked(ledger: Ledger, work: Callable[[Ledger], None]) -> list[Statement]:
    """Do it; return the statements that look for rows."""
    statements: list[Statement] = []
    engine = ledger._database.engine  # what it sends is what is tested

    def note(*arguments: Any) -> None:
        statement, parameters, many = arguments[2], arguments[3], arguments[5]
        if statement.startswith(("SELECT", "UPDATE")) and " WHERE " in statement.replace("\n", " "):
            statements.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    work(ledger)
    event.remove(engine, "before_cursor_execute", note)
    return statements


def scans(database: Database, statement: Statement) -> list[str]:
    """Return what the database says of reading much of a table that grows."""
    match database.engine.dialect.name:
        case "sqlite":
            details = [
                row["detail"] for row in _explain(database, "EXPLAIN QUERY PLAN ", statement)
            ]
            return [d for d in details if d.startswith(tuple(f"SCAN {t}" for t in GROWING))]
        case "mariadb":
            much = [r for r in _explain(database, "EXPLAIN ", statement) if _much(r, "rows")]
            if much and statement[0].startswith("SELECT"):  # to see where a LIMIT ends it
                much = [r for r in _explain(database, "ANALYZE ", statement) if _much(r, "r_rows")]
            return [str(dict(row)) for row in much]
        case _:
            plan = _explain(database, "EXPLAIN (FORMAT JSON) ", statement)[0]["QUERY PLAN"]
            parsed = plan if isinstance(plan, list) else json.loads(plan)
            return [str(node) for node in _nodes(parsed[0]["Plan"]) if _sequential(node)]


def _explain(database: Database, words: str, statement: Statement) -> Sequence[Mapping[str, Any]]:
    return database.write(
        lambda c: c.exec_driver_sql(words + statement[0], statement[1]).mappings().all()
    )


def _much(row: Mapping[str, Any], counted: str) -> bool:
    return row["table"] is not None and float(row[counted] or 0) > MOST_ROWS


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    children = plan.pop("Plans", ())
    yield plan
    for child in children:
        yield from _nodes(child)


def _sequential(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan" and node["Relation Name"] in GROWING


@pytest.mark.parametrize(("work", "least"), [(loops, 15), (people, 15), (ageing, 4)])
def test_statements_go_by_an_index(
    busy: Ledger, database: Database, work: Callable[[Ledger], None], least: int
) -> None:
    """Many finished cases, few open -> nothing that is asked often reads a growing table whole."""
    statements = asked(busy, work)
    assert len(statements) > least
    assert {s[0]: plan for s in statements if (plan := scans(database, s))} == {}


def test_a_question_without_an_index_is_noticed(database: Database) -> None:
    """A statement that has to read a table whole -> this test's eye sees it."""
    assert scans(database, ("SELECT case_id FROM cases WHERE use_case = 'UC9'", ()))


def test_filling_made_finished_cases(busy: Ledger, database: Database) -> None:
    """The filled ledger -> so many closed cases, and none of them is among those still open."""
    by_state = sa.text(
        "SELECT state, count(*) FROM (SELECT state FROM cases UNION ALL "
        "SELECT state FROM archived_cases) AS everywhere GROUP BY state"
    )
    found = dict(database.read(lambda c: [(row[0], row[1]) for row in c.execute(by_state)]))
    assert found.pop("closed") in (2 * FINISHED, 2 * FINISHED - 1), "one may be sent round again"
    assert sum(state.count for state in busy.counts().values()) == sum(found.values()) >= 200
