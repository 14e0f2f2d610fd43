"""What a person ordered with an approval, instead of what the plan asks for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    for table in ("cases", "archived_cases"):
        present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
        if "approved_action" not in present:
            op.add_column(table, sa.Column("approved_action", sa.String(16)))
