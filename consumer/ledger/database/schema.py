"""Checks the version of the ledger's tables, without alembic: every command does so first."""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources
from pathlib import Path

import sqlalchemy as sa

from consumer.ledger.database import galera
from consumer.ledger.database.engine import Database
from consumer.ledger.errors import SchemaAheadError, SchemaBehindError

MIGRATIONS = "consumer.ledger.migrations"
VERSION = "alembic_version"


@dataclasses.dataclass(frozen=True, slots=True)
class Upgraded:
    """The result of an upgrade: the revisions before (None: no tables) and after."""

    before: str | None
    after: str


def check_schema(database: Database) -> None:
    """Raise an error that says what to do, unless all fits; see ``Ledger.check_schema``."""
    check_cluster(database)
    if _is_missing(database):
        raise SchemaBehindError(
            f"There is no ledger at {database.name}: correct [ledger] connection if it names a "
            "wrong file; for a new ledger run `detachd ledger upgrade`"
        )
    found = present(database)
    if found == steps()[0]:
        return
    # A revision of this program that is not the newest; an unknown one can only be of a newer
    # program.
    if found is None or found in steps():
        state = f"at {found}" if found else "empty"
        raise SchemaBehindError(
            f"The ledger at {database.name} is {state} and must be at {steps()[0]}: "
            "run `detachd ledger upgrade`"
        )
    raise SchemaAheadError(
        f"The ledger at {database.name} is at {found}, but this version of detachd knows only "
        f"{steps()[0]} and older: a newer version has upgraded the ledger; run that version"
    )


def check_cluster(database: Database) -> None:
    """Raise ClusterUnfitError if the database is a cluster that cannot keep a ledger."""
    if database.engine.dialect.name == "mariadb":
        database.read(lambda c: galera.check_cluster(c, database.name))


def present(database: Database) -> str | None:
    """Return the revision at which the tables are, None if there are none."""
    if _is_missing(database):
        return None  # a connection would create an empty file
    return database.read(_revision)


def _is_missing(database: Database) -> bool:
    """Tell whether the ledger's file surely does not exist; other errors appear when it is read."""
    if database.file is None:
        return False
    try:
        Path(database.file).stat()  # exists() does not tell a directory that may not be entered
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _revision(connection: sa.Connection) -> str | None:
    """Return what alembic has noted in its table, None if there is none."""
    if not sa.inspect(connection).has_table(VERSION):
        return None
    # As alembic names it, whose table this is. Importing alembic would take longer than the
    # command.
    noted = sa.select(sa.column("version_num", sa.String)).select_from(sa.table(VERSION))
    return connection.execute(noted).scalar()


@functools.cache
def steps() -> tuple[str, ...]:
    """Return every revision that this program knows, the newest first: files NNNN_name.py."""
    names = (file.name for file in resources.files(MIGRATIONS).joinpath("versions").iterdir())
    return tuple(sorted((name[:4] for name in names if name[:4].isdigit()), reverse=True))
