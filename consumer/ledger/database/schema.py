"""Checks the version of the ledger's tables, and migrates them."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import exc

from consumer.ledger.database import galera
from consumer.ledger.database.engine import Database
from consumer.ledger.errors import LedgerUnavailableError, SchemaAheadError, SchemaBehindError

LOCK = 5_157_233  # any number that no other program uses for an advisory lock in this database
LOCK_NAME = "detachd ledger upgrade"
LOCK_SECONDS = 60
LOCK_TABLE = "detachd_upgrade_runs"
TABLE_EXISTS = 1050


@dataclasses.dataclass(frozen=True, slots=True)
class Upgraded:
    """The result of an upgrade: the revisions before (None: no tables) and after."""

    before: str | None
    after: str


def check_schema(database: Database) -> None:
    """Raise SchemaBehindError or SchemaAheadError unless the tables fit this program.

    Raises ClusterUnfitError if the database is a cluster that cannot keep a ledger.
    """
    _check_cluster(database)
    present = _present(database)
    if present == _steps()[0]:
        return
    if present is None or present in _steps():
        found = f"at {present}" if present else "empty"
        raise SchemaBehindError(
            f"The ledger at {database.name} is {found} and must be at {_steps()[0]}: "
            "run `detachd ledger upgrade`"
        )
    raise SchemaAheadError(
        f"The ledger at {database.name} is at {present}, but this version of detachd knows only "
        f"{_steps()[0]} and older: a newer version has upgraded the ledger; run that version"
    )


def upgrade(database: Database) -> Upgraded:
    """Migrate the tables, in one transaction if the database supports that.

    Running it twice, or twice at once, does no harm. Raises SchemaAheadError, ClusterUnfitError,
    LedgerUnavailableError. Blocks for as long as the steps take.
    """
    _check_cluster(database)
    if (present := _present(database)) is not None and present not in _steps():
        check_schema(database)
    if database.engine.dialect.name == "mariadb":
        database.read(lambda waiting: _with_mariadb_lock(waiting, lambda: database.write(_upgrade)))
    else:
        database.write(_upgrade)
    return Upgraded(present, _steps()[0])


def _check_cluster(database: Database) -> None:
    if database.engine.dialect.name == "mariadb":
        database.read(lambda c: galera.check_cluster(c, database.name))


def _present(database: Database) -> str | None:
    if database.file is not None and not Path(database.file).exists():
        return None  # a connection would create an empty file
    return database.read(lambda c: MigrationContext.configure(c).get_current_revision())


def _upgrade(connection: sa.Connection) -> None:
    """Run the migrations. A second upgrade waits for the lock in PostgreSQL or SQLite."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _with_mariadb_lock(waiting: sa.Connection, work: Callable[[], None]) -> None:
    """Run ``work`` while no other upgrade runs.

    In MariaDB a lock belongs to a connection, not to a transaction. So a second connection keeps
    the lock until the upgrade has committed.
    """
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
        if getattr(error.orig, "args", (None,))[0] != TABLE_EXISTS:
            raise
        return False
    return True


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "consumer.ledger:migrations")
    return config


@functools.cache
def _steps() -> tuple[str, ...]:
    """Return every revision that this program knows, the newest first."""
    scripts = ScriptDirectory.from_config(_config())
    return tuple(script.revision for script in scripts.walk_revisions())
