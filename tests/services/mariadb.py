"""A private MariaDB."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import URL, make_url
from sqlalchemy.exc import OperationalError

from tests.services.database import USER, PrivateDatabase
from tests.services.service import executable
from tests.services.tls import Tls

PLAIN = "plain"
PLAIN_MAY = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES"


class MariaDB(PrivateDatabase):
    """A MariaDB with its own data and none of this machine's settings; durability as shipped."""

    name = "mariadb"
    accounts = ("mysql", "nobody")
    # Reading the machine's certificates, before the server is even asked, takes longer than most
    # statements.
    connecting: ClassVar[dict[str, Any]] = {**PrivateDatabase.connecting, "ssl_disabled": True}

    def __init__(self, tls: Tls | None = None) -> None:
        super().__init__(tls)
        self._server = executable("MariaDB", "mariadb-server", "/usr/sbin/mariadbd", "mariadbd")
        self._install = executable("MariaDB", "mariadb-server", "mariadb-install-db")

    def _address(self) -> URL:
        return URL.create(
            "mysql+pymysql",
            USER,
            self.password,
            "127.0.0.1",
            self.port,
            "detachd",
            {"charset": "utf8mb4"},
        )

    def copied_database(self, url: str) -> str:
        """Make one like another, by the words in which the server itself describes its tables."""
        copy = self.fresh_database()
        old, new = make_url(url).database, make_url(copy).database
        tables = [table for (table,) in self.execute(f"SHOW TABLES FROM {old}")]
        described = (self.execute(f"SHOW CREATE TABLE {old}.{table}") for table in tables)
        self.execute(
            f"USE {new}",
            "SET foreign_key_checks = OFF",
            *(str(words) for ((_, words),) in described),
            *(f"INSERT INTO {table} SELECT * FROM {old}.{table}" for table in tables),
        )
        return copy

    def drop_database(self, url: str) -> None:
        """Remove one that fresh_database made; a transaction still open there would block it."""
        name = make_url(url).database
        theirs = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        for (connection,) in self.execute(theirs):
            with suppress(OperationalError):  # it may have ended by itself since
                self.execute(f"KILL {connection}")
        self.execute(f"DROP DATABASE {name}")

    def back_up(self, url: str) -> Path:
        """Write a database into a file by ``mariadb-dump``."""
        name = str(make_url(url).database)
        file = self.directory / f"{name}.sql"
        self._client("mariadb-dump", "--single-transaction", f"--result-file={file}", name)
        return file

    def restore(self, url: str, file: Path) -> None:
        """Make the database anew, and have ``mariadb`` read the file."""
        name = str(make_url(url).database)
        self.drop_database(url)
        self.execute(f"CREATE DATABASE {name}")
        self._client("mariadb", f"--execute=source {file}", name)

    def _client(self, program: str, *words: str) -> None:
        secret = self._write("client.cnf", f"[client]\nuser={USER}\npassword={self.password}\n")
        found = executable("MariaDB", "mariadb-client", program)
        server = ("--host=127.0.0.1", f"--port={self.port}")
        self._run(found, f"--defaults-file={secret}", *server, *words)

    def as_plain_user(self, url: str) -> str:
        """Return the URL for a user without privileges, whom ``read_only`` binds."""
        return make_url(url).set(username=PLAIN).render_as_string(hide_password=False)

    def set_read_only(self, *, on: bool) -> None:
        """Refuse writes to all but administrators, as a server does that is a standby by now."""
        self.execute(f"SET GLOBAL read_only = {int(on)}")

    def cut_connections(self) -> None:
        """End every connection but this one, in the midst of whatever it does."""
        theirs = "SELECT id FROM information_schema.processlist WHERE command <> 'Daemon'"
        for (connection,) in self.execute(theirs + " AND id <> CONNECTION_ID()"):
            with suppress(OperationalError):  # it has ended by itself
                self.execute(f"KILL {connection}")

    def _prepare(self) -> None:
        self._run(
            self._install,
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            f"--datadir={self.directory / 'data'}",
        )
        self._write(
            "init.sql",
            "CREATE DATABASE IF NOT EXISTS detachd;\n"
            f"CREATE USER IF NOT EXISTS {USER}@localhost IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {USER}@localhost;\n"
            f"CREATE USER IF NOT EXISTS {PLAIN}@localhost IDENTIFIED BY '{self.password}';\n"
            f"GRANT {PLAIN_MAY} ON *.* TO {PLAIN}@localhost;\n",
        )

    def _launch(self) -> None:
        self._spawn(
            self._server,
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            f"--init-file={self.directory / 'init.sql'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--socket={self.directory / 'socket'}",
            "--character-set-server=utf8mb4",  # as Debian's own settings have it
            *self._tls_options(),
            *self._options(),
        )

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "TMPDIR": str(self.directory)}  # /tmp is everybody's

    def _options(self) -> Sequence[str]:
        """Return further options of the server."""
        return ()

    def _tls_options(self) -> list[str]:
        if self.tls is None:
            return []
        return [
            f"--ssl-ca={self._own('ca.pem', self.tls.ca)}",
            f"--ssl-cert={self._own('server.pem', self.tls.certificate)}",
            f"--ssl-key={self._own('server.key', self.tls.key)}",
        ]
