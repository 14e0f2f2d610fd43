"""Where a service runs, so that another one there can tell when it is dead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("replicas")}
    if "place" not in present:
        op.add_column("replicas", sa.Column("place", sa.String(255)))
