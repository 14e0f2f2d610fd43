"""Migrates the ledger's tables with alembic; imported only for that, as alembic takes its time."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import exc

from consumer.ledger.database import galera, schema
from consumer.ledger.database.engine import Database
from consumer.ledger.database.schema import Upgraded
from consumer.ledger.errors import LedgerUnavailableError

LOCK = 5_157_233  # any number that no other program uses for an advisory lock in this database
LOCK_NAME = "detachd ledger upgrade"
LOCK_SECONDS = 60
LOCK_TABLE = "detachd_upgrade_runs"
# MariaDB's number of the error.
TABLE_EXISTS = 1050


def upgrade(database: Database) -> Upgraded:
    """Migrate the tables, in one transaction if the database supports that.

    Running it twice, or twice at once, does no harm. Raises SchemaAheadError, ClusterUnfitError,
    LedgerUnavailableError. Blocks for as long as the steps take.
    """
    schema.check_cluster(database)
    before = schema.present(database)
    # Raises SchemaAheadError with its text; alembic would only say that it cannot find the
    # revision.
    if before is not None and before not in schema.steps():
        schema.check_schema(database)
    if database.engine.dialect.name == "mariadb":
        # MariaDB commits at each change of a table, so no transaction can hold the lock.
        database.read(lambda waiting: _with_mariadb_lock(waiting, lambda: database.write(_upgrade)))
    else:
        database.write(_upgrade)
    return Upgraded(before, schema.steps()[0])


def _upgrade(connection: sa.Connection) -> None:
    """Run the migrations. A second upgrade waits for the lock in PostgreSQL or SQLite."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _with_mariadb_lock(waiting: sa.Connection, work: Callable[[], None]) -> None:
    """Run ``work`` while no other upgrade runs."""
    # In MariaDB a lock belongs to a connection, not to a transaction. So a second connection keeps
    # the lock until the upgrade has committed.
    if galera.is_node(waiting):
        _with_table_as_lock(waiting, work)
        return
    locked = waiting.execute(sa.func.get_lock(LOCK_NAME, LOCK_SECONDS)).scalar_one()
    if locked != 1:
        raise LedgerUnavailableError("another upgrade of the ledger is still running")
    try:
        work()
    finally:
        waiting.execute(sa.func.release_lock(LOCK_NAME))


def _with_table_as_lock(waiting: sa.Connection, work: Callable[[], None]) -> None:
    """Do the same on a cluster, whose nodes have only the order of such statements in common."""
    deadline = time.monotonic() + LOCK_SECONDS
    while not _table_made(waiting):
        if time.monotonic() > deadline:
            raise LedgerUnavailableError(
                "another upgrade of the ledger is still running, or one has died: if none runs, "
                f"DROP TABLE {LOCK_TABLE} and try again"
            )
        time.sleep(0.2)
    try:
        work()
    finally:
        waiting.exec_driver_sql(f"DROP TABLE {LOCK_TABLE}")


def _table_made(connection: sa.Connection) -> bool:
    try:
        connection.exec_driver_sql(f"CREATE TABLE {LOCK_TABLE} (one INTEGER PRIMARY KEY)")
    except exc.OperationalError as error:
        # That is the lock: on a cluster a CREATE TABLE has one place in the order of all nodes.
        if getattr(error.orig, "args", (None,))[0] != TABLE_EXISTS:
            raise
        return False
    return True


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "consumer.ledger:migrations")
    return config
