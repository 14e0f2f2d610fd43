"""A ledger that was copied is the one that the migrations make."""

from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger
from tests.services import ledgers
from tests.services.database import PrivateDatabase


def described(url: str) -> str:
    """Return all that a database tells of its tables, and its revision.

    As text: SQLAlchemy's types are equal to none but themselves.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    inspector = sa.inspect(engine)
    told = (
        inspector.get_multi_columns,
        inspector.get_multi_pk_constraint,
        inspector.get_multi_foreign_keys,
        inspector.get_multi_unique_constraints,
        inspector.get_multi_check_constraints,
        inspector.get_multi_indexes,
        inspector.get_multi_table_options,
    )
    with engine.connect() as connection:
        revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).all()
    return repr([*(sorted(tell().items(), key=str) for tell in told), revision])


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_copy_is_as_the_migrations_make_it(request: pytest.FixtureRequest, name: str) -> None:
    """A copy, and an upgrade from nothing -> the same tables, constraints, indexes, revision."""
    server: PrivateDatabase = request.getfixturevalue(name)
    copied, made = ledgers.on(server), server.fresh_database()
    with closing(Ledger(made)) as ledger:
        ledger.upgrade()
    assert described(copied) == described(made)
    for url in (copied, made):
        server.drop_database(url)


def test_copy_on_sqlite_is_as_the_migrations_make_it(tmp_path: Path) -> None:
    """The same on SQLite, where a copy is a file."""
    made = f"sqlite:///{tmp_path / 'made.sqlite'}"
    with closing(Ledger(made)) as ledger:
        ledger.upgrade()
    assert described(ledgers.sqlite_in(tmp_path)) == described(made)
