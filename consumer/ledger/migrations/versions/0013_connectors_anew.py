"""Connectors that were learned before all keys of Cinder's drivers were kept: forgotten.

They may lack ``sdc_guid`` or ``host_ips``, and nothing in them shows it. Where the protocol is not
known any more, Cinder's driver would be called with them, end nothing and report success. The next
attach on a host tells its connector again; what waits for one is parked meanwhile, and looked at
again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.table("connectors").delete())
    for name in ("cases", "archived_cases"):
        table = sa.table(name, sa.column("connector"))
        op.execute(table.update().where(table.c.connector.is_not(None)).values(connector=sa.null()))
