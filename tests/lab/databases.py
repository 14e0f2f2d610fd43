"""The MariaDB of the lab: six databases, dumped and loaded whole."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.services.mariadb import MariaDB
from tests.services.service import START_SECONDS, ServiceFailedError

NAMES = ("keystone", "placement", "cinder", "nova_api", "nova", "nova_cell0")


class LabDatabase(MariaDB):
    """A MariaDB that need not survive a power cut, which makes the lab start sooner."""

    def address(self, database: str) -> str:
        """Return the URL of one of its databases, password included."""
        return self._address().set(database=database).render_as_string(hide_password=False)

    def create_databases(self) -> None:
        """Make the six, empty; in OpenStack's character set."""
        for name in NAMES:
            self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb3")

    def dump(self) -> str:
        """Return the six as SQL text."""
        return self._client("mariadb-dump", "--databases", *NAMES)

    def load(self, sql: str, *, database: str | None = None) -> None:
        """Take in what ``dump`` gave, or what ``rows`` did into one of the databases."""
        self._client("mariadb", *((database,) if database else ()), given=sql)

    def rows(self, database: str, *tables: str) -> str:
        """Return what these tables hold as SQL text."""
        return self._client("mariadb-dump", "--no-create-info", "--replace", database, *tables)

    def _options(self) -> list[str]:
        return ["--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite"]

    def _client(self, program: str, *arguments: str, given: str = "") -> str:
        where = (f"--socket={self.directory / 'socket'}", "--user=detachd")
        done = subprocess.run(
            [shutil.which(program) or program, "--no-defaults", *where, *arguments],
            check=False,
            input=given,
            capture_output=True,
            text=True,
            env={**self._environment(), "MYSQL_PWD": self.password},
            timeout=START_SECONDS,
        )
        if done.returncode:
            raise ServiceFailedError(f"{program} failed: {done.stderr}", self._log)
        return done.stdout


def filled_in(sql: Path, places: dict[str, str]) -> str:
    """Return a dump with its placeholders replaced by where things are this time."""
    text = sql.read_text()
    for placeholder, place in places.items():
        text = text.replace(placeholder, place)
    return text
