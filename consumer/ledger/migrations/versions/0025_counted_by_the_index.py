"""The open cases, and those of them that are acknowledged, are counted from an index alone."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The new one first: a ledger whose upgrade broke off has one of them.
    columns = ["cloud", "state", "opened_at", "acknowledged_until"]
    op.create_index(f"ix_cases_{'_'.join(columns)}", "cases", columns, if_not_exists=True)
    op.drop_index("ix_cases_cloud_state_opened_at", "cases", if_exists=True)
