"""The kinds of what a person was told of a case, which only its words had told.

What a person has at the time of the upgrade gets them from its words, its rule and its last write,
so that nothing is told again and nothing that was refused is tried again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ENDANGERED = "%danger: meanwhile another server may get the volume%"
GAVE_UP = "%(after % attempts)%"
WAITED = "%, for longer than patience_seconds%"
OUR_OWN = ("internal-error", "ledger-away")

_CASES = sa.table(
    "cases",
    *(sa.column(n) for n in ("case_id", "state", "rule", "verdict", "reason", "fingerprint")),
    sa.column("told"),
)
_INTENTS = sa.table("intents", *(sa.column(name) for name in ("intent_id", "case_id", "result")))


def upgrade() -> None:
    long = sa.Text().with_variant(mysql.LONGTEXT(), "mariadb")
    for table in ("cases", "archived_cases"):
        # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
        columns = sa.inspect(op.get_bind()).get_columns(table)
        if "told" not in {column["name"] for column in columns}:
            op.add_column(table, sa.Column("told", long))
    _fill_in()


def _fill_in() -> None:
    c = _CASES.c
    parked = c.state.in_(("parked", "awaiting-approval"))
    kind = sa.case(
        (c.reason.like(ENDANGERED), _told("danger")),
        (c.rule.in_(OUR_OWN), _told("internal")),
        (c.reason.like(WAITED), _told("waited")),
        (c.reason.like(GAVE_UP), _told("failed")),
        (c.verdict == "park", _told("rule")),
        (sa.and_(c.fingerprint.is_not(None), _last_result() == "refused"), _told("refused")),
        (c.fingerprint.is_not(None), _told("guard")),
        else_=_told("failed"),
    )
    op.execute(_CASES.update().where(parked, c.told.is_(None)).values(told=kind))
    waiting = c.state.in_(("due", "settling", "waiting"))
    endangered = c.reason.like(ENDANGERED)
    op.execute(
        _CASES.update().where(waiting, endangered, c.told.is_(None)).values(told=_told("danger"))
    )


def _told(kind: str) -> sa.ColumnElement[Any]:
    return sa.literal(f'["{kind}"]')


def _last_result() -> sa.ScalarSelect[Any]:
    return (
        sa.select(_INTENTS.c.result)
        .where(_INTENTS.c.case_id == _CASES.c.case_id)
        .order_by(_INTENTS.c.intent_id.desc())
        .limit(1)
        .scalar_subquery()
    )
