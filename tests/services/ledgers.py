"""Empty ledgers for the tests: made as an operator makes them once, and copied from then on.

To make the tables takes longer than most tests take to use them.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from consumer.ledger import Ledger
from tests.services.database import PrivateDatabase

LEDGERS = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.integration),
    pytest.param("mariadb", id="mariadb", marks=pytest.mark.integration),
]


@contextmanager
def each(request: pytest.FixtureRequest, directory: Path) -> Iterator[str]:
    """Give the URL of a new one for a fixture whose parameter says where; drop it afterwards."""
    if request.param == "sqlite":
        yield sqlite_in(directory)
        return
    server: PrivateDatabase = request.getfixturevalue(request.param)
    url = on(server)
    yield url
    server.drop_database(url)


def ask(ledger: Ledger) -> None:
    """Ask the ledger's database for anything at all."""
    ledger._database.read(lambda c: c.exec_driver_sql("SELECT 1").scalar_one())


def sqlite_in(directory: Path) -> str:
    """Put an upgraded, empty ledger into the directory; return its URL."""
    file = directory / "ledger.sqlite"
    file.write_bytes(_sqlite_file())
    return f"sqlite:///{file}"


def on(server: PrivateDatabase) -> str:
    """Make a new database that holds an upgraded, empty ledger; return its URL."""
    return server.copied_database(_first_on(server))


@functools.cache
def _sqlite_file() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "ledger.sqlite"
        _upgrade(f"sqlite:///{file}")
        return file.read_bytes()


@functools.cache
def _first_on(server: PrivateDatabase) -> str:
    url = server.fresh_database()
    _upgrade(url)
    return url


def _upgrade(url: str) -> None:
    with closing(Ledger(url)) as ledger:
        ledger.upgrade()
