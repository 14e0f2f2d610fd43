"""A Galera cluster behind the URL: how it differs from one MariaDB, and what is refused.

A transaction runs on its node alone until it commits. Then its changed rows get a place in the one
order that all nodes have, and it fails (1213) if a transaction placed before it, that its node had
not applied yet, changed a row with the same key. So, between nodes:

1. Only rows that are *written* exclude each other. A row that was read, or locked by FOR UPDATE, is
   not compared. An UPDATE that changes no value writes nothing. Therefore each lock of the ledger
   also changes the row that it locks (``claims.turn``, see ``locks``).
2. A node shows another's commit a moment later. Therefore each connection asks its node to wait for
   what was committed before (``wsrep_sync_wait``), before the first statement of a transaction
   reads or writes.
3. Each node has a clock of its own. Therefore another worker's lease counts as ended only
   ``CLOCKS_APART`` after its time.
4. GET_LOCK belongs to one node. Therefore an upgrade excludes another by a table (``schema``).

What these four cannot hold is refused when the ledger is opened (``unfit``).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry

from consumer.ledger.errors import ClusterUnfitError

CLOCKS_APART = timedelta(seconds=5)
"""By how much the clocks of two nodes may differ before a lease is worth nothing."""
# More make a message without a volume dearer, which changes them all; fewer make batches of two
# replicas collide.
STRIPES = 16

# Reads 1, UPDATE and DELETE 2, INSERT 4.
# https://mariadb.com/docs/galera-cluster/reference/galera-cluster-system-variables
_CAUSAL = "SET SESSION wsrep_sync_wait = 7, wsrep_dirty_reads = OFF"
_IS_CLUSTER = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'wsrep_provider')"
_SETTINGS = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name LIKE 'wsrep%%' "
    "OR Variable_name IN ('binlog_format', 'innodb_autoinc_lock_mode')"
)
_KEY = "detachd_galera_stripe"

FEWEST_ROWS = 50_000
"""More rows than the largest transaction writes: a hundred cases that go to the archive."""
FEWEST_BYTES = 64 * 1024 * 1024


def prepare(connection: Any, record: ConnectionPoolEntry) -> None:
    """Ask a new DBAPI connection whether its server is a node; if so, make its reads causal."""
    with connection.cursor() as cursor:
        cursor.execute(_IS_CLUSTER)
        found = {str(name).lower(): str(value) for name, value in cursor.fetchall()}
        provider = found.get("wsrep_provider", "")
        if found.get("wsrep_on") == "ON" and provider not in ("", "none"):
            cursor.execute(_CAUSAL)
            # Kept for the connection, in the pool's info: asked once, and read without a statement.
            record.info[_KEY] = random.randrange(STRIPES)  # noqa: S311 - to spread load, no secret


def is_node(connection: sa.Connection) -> bool:
    """Tell whether the connection's server is a node of a cluster. Blocks on nothing."""
    return _KEY in connection.info


def stripe(connection: sa.Connection) -> int:
    """Return which of the STRIPES of the gate this connection passes."""
    number: int = connection.info[_KEY]
    return number


def slack(connection: sa.Connection) -> timedelta:
    """Return how long after its end a lease may still hold by another node's clock."""
    return CLOCKS_APART if is_node(connection) else timedelta(0)


def check_cluster(connection: sa.Connection, name: str) -> None:
    """Raise ClusterUnfitError if the server is a node whose settings break what a ledger needs."""
    if not is_node(connection):
        return
    rows = connection.exec_driver_sql(_SETTINGS)
    if reasons := unfit({str(key).lower(): str(value) for key, value in rows}):
        raise ClusterUnfitError(
            f"The ledger at {name} is on a Galera cluster that cannot keep it: {'; '.join(reasons)}"
        )


def unfit(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Return, in words, each setting of a node with which the ledger would not be exclusive."""
    options = _options(settings.get("wsrep_provider_options", ""))
    judged = (_settings_judged(settings), _options_judged(options))
    return tuple(fault.words for faults in judged for fault in faults if fault.found)


@dataclasses.dataclass(frozen=True, slots=True)
class _Fault:
    found: bool
    words: str


def _settings_judged(settings: Mapping[str, str]) -> tuple[_Fault, ...]:
    forced = settings.get("wsrep_forced_binlog_format", "NONE")
    written = forced if forced != "NONE" else settings.get("binlog_format", "ROW")
    # 0 is no limit.
    rows = int(settings.get("wsrep_max_ws_rows", "0"))
    size = int(settings.get("wsrep_max_ws_size", "0"))
    return (
        _Fault(
            written != "ROW",
            f"binlog_format is {written}, so nodes repeat statements and not rows; set it to ROW",
        ),
        _Fault(
            settings.get("innodb_autoinc_lock_mode", "2") != "2",
            "innodb_autoinc_lock_mode is not 2, with which Galera can deadlock; set it to 2",
        ),
        _Fault(
            settings.get("wsrep_osu_method", "TOI") != "TOI",
            "wsrep_OSU_method is not TOI, so an upgrade would change the tables of one node alone; "
            "set it to TOI",
        ),
        _Fault(
            0 < rows < FEWEST_ROWS,
            f"wsrep_max_ws_rows is {rows}, less than a transaction may write; set it to 0",
        ),
        _Fault(
            0 < size < FEWEST_BYTES,
            f"wsrep_max_ws_size is {size}, less than a transaction may write; set it to "
            f"{FEWEST_BYTES} or more",
        ),
    )


def _options_judged(options: Mapping[str, str]) -> tuple[_Fault, ...]:
    return tuple(
        _Fault(
            options.get(name, "false").lower() in ("true", "yes", "1", "on"),
            f"{name} is on in wsrep_provider_options, so both halves of a split cluster take "
            "writes and two workers could have one volume; switch it off",
        )
        for name in ("pc.ignore_sb", "pc.ignore_quorum")
    )


def _options(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}
