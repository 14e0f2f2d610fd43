"""A number in each row of ``claims`` that a lock changes, so that it excludes on a cluster too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    columns = sa.inspect(op.get_bind()).get_columns("claims")
    if "turn" not in {column["name"] for column in columns}:
        turn = sa.Column("turn", sa.BigInteger, nullable=False, server_default="0")
        op.add_column("claims", turn)
