"""A private PostgreSQL."""

import signal
import time
from pathlib import Path

from sqlalchemy import URL, make_url

from tests.services.database import USER, PrivateDatabase
from tests.services.service import executable
from tests.services.tls import Tls


class PostgreSQL(PrivateDatabase):
    """A PostgreSQL with its own data directory; durability (fsync) as shipped."""

    name = "postgresql"
    accounts = ("postgres", "nobody")
    # A clean stop removes this file and the shared memory that its seventh line names.
    last_words = (
        "! [ -f data/postmaster.pid ] || ipcrm -m $(awk 'NR == 7 {print $2}' data/postmaster.pid)"
    )
    stop_signal = signal.SIGINT  # "fast": ends the sessions, frees the shared memory

    def __init__(self, tls: Tls | None = None) -> None:
        super().__init__(tls)
        debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
        newest_first = sorted(debian, key=_version, reverse=True)
        found = executable("PostgreSQL", "postgresql", *newest_first, "postgres")
        self._programs = found.resolve().parent

    def _address(self) -> URL:
        return URL.create(
            "postgresql+psycopg", USER, self.password, "127.0.0.1", self.port, "postgres"
        )

    def copied_database(self, url: str) -> str:
        """Make one like another, which becomes its template."""
        return self._made_database(f"TEMPLATE {make_url(url).database}")

    def drop_database(self, url: str) -> None:
        """Remove one that fresh_database made, whoever is still connected to it."""
        self.execute(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def back_up(self, url: str) -> Path:
        """Write a database into a file by ``pg_dump``."""
        file = self.directory / f"{make_url(url).database}.sql"
        self._run(self._programs / "pg_dump", f"--file={file}", self._client(url))
        return file

    def restore(self, url: str, file: Path) -> None:
        """Make the database anew, and have ``psql`` read the file."""
        self.drop_database(url)
        self.execute(f"CREATE DATABASE {make_url(url).database}")
        stop = "--set=ON_ERROR_STOP=1"
        self._run(self._programs / "psql", "--no-psqlrc", stop, f"--file={file}", self._client(url))

    def _client(self, url: str) -> str:
        """Return what PostgreSQL's own programs connect by."""
        words = self._write("passwords", f"127.0.0.1:{self.port}:*:{USER}:{self.password}\n")
        where = f"host=127.0.0.1 port={self.port} user={USER} dbname={make_url(url).database}"
        return f"--dbname={where} passfile={words}"

    def as_plain_user(self, url: str) -> str:
        """Return the URL itself: ``default_transaction_read_only`` binds administrators too."""
        return url

    def set_read_only(self, *, on: bool) -> None:
        """Refuse writes of transactions that begin from now on, as a standby does."""
        wanted = "on" if on else "off"
        self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {wanted}")
        self.execute("SELECT pg_reload_conf()")
        # The postmaster reads it when it comes to it, and tells every backend before it forks the
        # next: once a new connection has it, the others have been told.
        while self.execute("SHOW default_transaction_read_only") != [(wanted,)]:
            time.sleep(0.01)

    def cut_connections(self) -> None:
        """End every client's connection but this one, in the midst of whatever it does."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def _prepare(self) -> None:
        secret = self._write("password", self.password)
        self._run(
            self._programs / "initdb",
            f"--username={USER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            f"--pgdata={self.directory / 'data'}",
        )

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # /dev/shm would keep it after kill -9
        }
        if self.tls is not None:
            settings |= {
                "ssl": "on",
                "ssl_ca_file": str(self._own("ca.pem", self.tls.ca)),
                "ssl_cert_file": str(self._own("server.pem", self.tls.certificate)),
                "ssl_key_file": str(self._own("server.key", self.tls.key)),
            }
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._spawn(self._programs / "postgres", "-D", self.directory / "data", *options)


def _version(program: Path) -> float:
    return float(program.parts[-3])
