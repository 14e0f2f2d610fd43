"""A pause of one backend."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # MariaDB commits each statement by itself: an upgrade that broke off must be able to go on.
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("pauses")}
    if "backend" not in present:
        op.add_column("pauses", sa.Column("backend", sa.String(255)))
