"""Whether a look of ours saw the volume in Cinder."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("cases", "archived_cases"):
        # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
        columns = sa.inspect(op.get_bind()).get_columns(table)
        if "volume_seen" not in {column["name"] for column in columns}:
            op.add_column(table, sa.Column("volume_seen", sa.Boolean()))
