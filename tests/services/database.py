"""What the private databases share: SQLAlchemy URLs and fresh databases."""

import functools
import itertools
import secrets
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.services.ports import free_port
from tests.services.service import PrivateService
from tests.services.tls import Tls

USER = "detachd"


class PrivateDatabase(PrivateService):
    """A private database server. Its passwords are real ones: connecting without is refused.

    With ``tls`` it speaks TLS too, on the same port.
    """

    connecting: ClassVar[dict[str, Any]] = {"connect_timeout": 5}

    def __init__(self, tls: Tls | None = None) -> None:
        self.tls = tls
        self.port = free_port()
        self.password = secrets.token_urlsafe()
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """SQLAlchemy's URL, password included, of the database that is there from the start."""
        return self._address().render_as_string(hide_password=False)

    @abstractmethod
    def _address(self) -> URL:
        """Take the same apart."""

    def fresh_database(self) -> str:
        """Make a new, empty database and return its URL."""
        return self._made_database()

    def _made_database(self, how: str = "") -> str:
        name = f"fresh_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {how}")
        return self._address().set(database=name).render_as_string(hide_password=False)

    @abstractmethod
    def copied_database(self, url: str) -> str:
        """Make a new database that is like another, to which nobody is connected; return its URL.

        Tables and rows are the same; takes far less time than the steps that made them.
        """

    @abstractmethod
    def drop_database(self, url: str) -> None:
        """Remove one that fresh_database made, whoever is still connected to it."""

    @abstractmethod
    def back_up(self, url: str) -> Path:
        """Write a database into a file, as docs/install.md says, while others use it."""

    @abstractmethod
    def restore(self, url: str, file: Path) -> None:
        """Put what ``back_up`` wrote in the place of a database, whoever is connected to it."""

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """Run them on one new connection, outside any transaction; return the rows of the last.

        Raises SQLAlchemy's OperationalError when nobody answers within 5 s.
        """
        with self._engine.connect() as connection:
            for statement in statements:
                result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    @functools.cached_property
    def _engine(self) -> Engine:
        return create_engine(
            self._address(),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=self.connecting,
        )

    def _own(self, name: str, file: Path) -> Path:
        """Copy a file to where the server's own account may read it, and nobody else."""
        return self._write(name, file.read_text())

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except OperationalError:
            return False
        return True
