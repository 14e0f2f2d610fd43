"""A private MariaDB."""

from collections.abc import Mapping, Sequence

from sqlalchemy import URL, make_url

from tests.services.database import USER, PrivateDatabase
from tests.services.service import executable
from tests.services.tls import Tls


class MariaDB(PrivateDatabase):
    """A MariaDB with its own data and none of this machine's settings; durability as shipped."""

    name = "mariadb"
    accounts = ("mysql", "nobody")

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

    def drop_database(self, url: str) -> None:
        """Remove one that fresh_database made; a transaction still open there would block it."""
        name = make_url(url).database
        theirs = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        for (connection,) in self.execute(theirs):
            self.execute(f"KILL {connection}")
        self.execute(f"DROP DATABASE {name}")

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
            f"GRANT ALL ON *.* TO {USER}@localhost;\n",
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
