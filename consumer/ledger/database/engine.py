"""The connection to one of the three databases: transactions, their repetition, database time.

1. Every transaction is a function of a connection. It may be run again from its beginning: after a
   deadlock, a serialisation failure, a lock that was not granted, or a lost connection.
2. A work that must not be done twice says by ``done`` whether an earlier try was committed.
3. What repetition does not mend is LedgerUnavailableError if the database is away or refuses to
   work, and is raised as it is otherwise.
4. No error names the password or the options of the URL, and none has a statement with its values.

If SQLite cannot open a file, it does not say why; the errors here do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import SQLITE_BUSY, SQLITE_LOCKED
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
import tenacity
from sqlalchemy import event, exc

from consumer.ledger.database import galera
from consumer.ledger.database.address import (
    Tls,
    address_of,
    connect_arguments,
    shown,
    tls_explained,
)
from consumer.ledger.database.write_queue import WriteQueue
from consumer.ledger.errors import LedgerUnavailableError, LedgerUrlError

_NOT_OPENED = "unable to open database file"
_NOT_WRITTEN = "attempt to write a readonly database"
_NO_ROOM = ("database or disk is full", "disk I/O error", _NOT_OPENED)
"""What SQLite says on a full disk, also where it cannot make the files beside the ledger."""
_PAGES_BYTES = 64 * 1024
"""What SQLite needs to open a ledger: the shared memory beside it has 32 KB."""
_REMEDY = "see connection in [ledger]"


def file_explained(message: str, file: str | None) -> str:
    """Return why the file cannot be used, and a remedy; "" if the message is about something else.

    ``message`` is SQLite's. Blocks for the file system only.
    """
    if file is None:
        return ""
    path = Path(file).absolute()
    if trouble := _of_the_disk(message, path.parent):
        return trouble
    if not (_NOT_OPENED in message or _NOT_WRITTEN in message):
        return ""
    if _is_directory(path):
        return f"{path} is a directory; use a file in it ({_REMEDY})"
    if not _is_directory(path.parent):
        return (
            f"the directory {path.parent} does not exist, or the user {os.geteuid()} may not enter "
            f"it; create it, owned by the user that detachd runs as ({_REMEDY})"
        )
    return (
        f"the user {os.geteuid()} may not write {path}, or other files in {path.parent}; "
        "run detachd's commands as the user that the service runs as"
    )


def _of_the_disk(message: str, directory: Path) -> str:
    """Return what the file system of this directory has to do with it; "" for nothing."""
    try:
        system = os.statvfs(directory)
    except OSError:
        return ""
    room = system.f_bavail * system.f_frsize
    if room < _PAGES_BYTES and any(words in message for words in _NO_ROOM):
        return f"the file system of {directory} is full ({room} bytes are free); make room on it"
    if system.f_flag & os.ST_RDONLY and (_NOT_OPENED in message or _NOT_WRITTEN in message):
        return f"the file system of {directory} is mounted read-only; mount it for writing"
    return ""


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where it may not look


Result = TypeVar("Result")
P = ParamSpec("P")
Work = Callable[[sa.Connection], Result]

# clock_timestamp, not now(): that is the beginning of the transaction, before it waited for a lock.
NOW = {
    "postgresql": "SELECT clock_timestamp()",
    "mariadb": "SELECT UTC_TIMESTAMP(6)",
}
# No lock is held during a call outside, so whoever waits longer waits for something that is broken.
LOCK_WAIT_SECONDS = 10
NETWORK_SECONDS = 30
TRIES = 6
LONGEST_SECONDS = 30
# Where many nodes commit, the one that comes second has to begin again; nothing is wrong with it.
DEADLOCK_TRIES = 60
DEADLOCK = 1213

# No overflow: with many threads, connections beyond the pool would be opened for each use.
POOL = {
    "pool_size": 15,
    "max_overflow": 0,
    "pool_timeout": NETWORK_SECONDS,
    "pool_use_lifo": True,
}

REPEAT = {
    1205, 1213, 1020,  # MariaDB: lock wait timeout, deadlock, record has changed
    "40001", "40P01", "55P03",  # PostgreSQL: serialisation, deadlock, lock not available
}  # fmt: skip

# Errors after a failover: this server is a standby now, or shuts down. All connections to it are
# closed, so that new ones go to the server that the address leads to now.
FAILOVER_CODES = {
    1290, 1792, 1836, 1053, 1927,  # MariaDB: read-only (three), shutdown, kill
    1047, 1180,  # a Galera node without quorum: before a statement, and in a commit
    "25006", "57P01", "57P02", "57P03",  # PostgreSQL: read-only, shutdown, crash, starting up
}  # fmt: skip


class Database:
    """One ledger database. Thread-safe; holds a pool of connections until ``close``."""

    def __init__(self, url: str, tls: Tls | None = None) -> None:
        address = address_of(url)
        self.name = shown(address)
        self.file = address.database if address.get_backend_name() == "sqlite" else None
        self._tls = tls
        self.engine = _engine(address, tls)
        # SQLite has one writer: the threads of this process queue instead of polling its lock.
        self._write_queue = WriteQueue(self.engine) if self.file is not None else None

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def write(
        self,
        work: Work[Result],
        *,
        done: Work[Result | None] | None = None,
        repeated: bool = False,
    ) -> Result:
        """Run one writing transaction; repeat it after an error for which that helps.

        When the connection is lost during a commit, it is unknown whether the commit took effect.
        Therefore ``done`` is called before a repetition; its answer, unless None, is the result.
        ``repeated``: this call repeats an earlier one. Raises LedgerUnavailableError. Blocks for
        database locks, for at most about a minute in all.
        """

        def attempt(connection: sa.Connection, repeated: bool) -> Result:
            # In the same transaction as the work: another try of the same write cannot come
            # between.
            earlier = done(connection) if done is not None and repeated else None
            return work(connection) if earlier is None else earlier

        def once(tries: int) -> Result:
            if self._write_queue is not None:
                return self._write_queue.write(attempt, repeated=repeated or tries > 1)
            with self.engine.begin() as connection:
                return attempt(connection, repeated or tries > 1)

        return self._repeat(once)

    def read(self, work: Work[Result], *, one_statement: bool = False) -> Result:
        """Run a reading transaction; one statement needs none. Raises LedgerUnavailableError."""

        def once(_: int) -> Result:
            with self.engine.connect() as connection:
                # So that several statements see one state. The servers begin a transaction with the
                # first statement.
                if self.file is not None and not one_statement:
                    connection.exec_driver_sql("BEGIN")
                return work(connection)

        return self._repeat(once)

    def close(self) -> None:
        """Close every connection of the pool."""
        self.engine.dispose()

    def _repeat(self, once: Callable[[int], Result]) -> Result:
        try:
            # Outside tenacity: nearly every first try succeeds, and needs none of its bookkeeping.
            return once(1)
        except exc.SQLAlchemyError as error:
            first = error
        with self._explained():
            return _repeated(once, first)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exc.SQLAlchemyError as error:
            if not _unavailable(error):
                raise
            message = cause(error)
            hint = tls_explained(message, self._tls) or file_explained(message, self.file)
            raise LedgerUnavailableError(
                f"The ledger at {self.name} cannot be used: {hint + ': ' if hint else ''}{message}"
            ) from error


class PartOfLedger:
    """A part of the ledger of one cloud.

    Every method of it is one transaction, blocks for the database and may raise
    LedgerUnavailableError.
    """

    def __init__(self, database: Database, cloud: str) -> None:
        self._database = database
        self._cloud = cloud

    def _read(
        self,
        work: Callable[Concatenate[sa.Connection, str, P], Result],
        *args: P.args,
        **named: P.kwargs,
    ) -> Result:
        """Run ``work`` in a reading transaction, with the connection and the cloud first."""
        return self._database.read(lambda c: work(c, self._cloud, *args, **named))

    def _write(
        self,
        work: Callable[Concatenate[sa.Connection, str, P], Result],
        *args: P.args,
        **named: P.kwargs,
    ) -> Result:
        """Do the same in a writing one."""
        return self._database.write(lambda c: work(c, self._cloud, *args, **named))


def _repeated(once: Callable[[int], Result], first: exc.SQLAlchemyError) -> Result:
    """Handle the error of a first try: raise it, or try again with pauses."""

    def try_again(retrying: tenacity.Retrying) -> Result:
        number: int = retrying.statistics["attempt_number"]
        # tenacity has to see the first error as one of its tries, to judge it and to wait.
        if number == 1:
            raise first
        return once(number)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_worth_repeating),
        wait=tenacity.wait_random_exponential(multiplier=0.01, max=1),
        stop=_tried_enough,
        reraise=True,
    )
    return retrying(try_again, retrying)


def _tried_enough(state: tenacity.RetryCallState) -> bool:
    """Tell whether to stop. A deadlock, which always lets another go on, is repeated more often."""
    error = state.outcome.exception() if state.outcome else None
    most = DEADLOCK_TRIES if _code(getattr(error, "orig", None)) == DEADLOCK else TRIES
    return state.attempt_number >= most or (state.seconds_since_start or 0) >= LONGEST_SECONDS


def database_now(connection: sa.Connection) -> datetime:
    """Return the time of the database's clock. All leases, deadlines and delays use it.

    For SQLite it is the clock of this host.
    """
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = connection.exec_driver_sql(NOW[connection.dialect.name]).scalar_one()
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def cause(error: BaseException) -> str:
    """Return the database's error message, without the statement and its parameters."""
    origin = getattr(error, "orig", None) or error
    return " ".join(str(origin).split()) or type(origin).__name__


def _engine(address: sa.URL, tls: Tls | None) -> sa.Engine:
    options = _options(address)
    options["connect_args"] |= connect_arguments(address.get_backend_name(), tls)
    try:
        # Parameters are in the text of every error otherwise, and errors are logged.
        engine = sa.create_engine(address, hide_parameters=True, **options)
    except ModuleNotFoundError as missing:
        extra = address.get_backend_name()
        raise LedgerUrlError(
            f"{extra} needs the module {missing.name}: pip install 'detachd[{extra}]'"
        ) from missing
    event.listen(engine, "handle_error", _invalidate_after_failover)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "do_connect", _make_private)
        event.listen(engine, "connect", _prepare_sqlite)
    if engine.dialect.name == "mariadb":
        event.listen(engine, "connect", galera.prepare)
    return engine


def _options(address: sa.URL) -> dict[str, Any]:
    match address.get_backend_name():
        case "sqlite":
            # Few: there is one writer, reads are short, and each connection may cache 2 MB.
            few = {"pool_size": 4}
            return {"connect_args": {"timeout": LOCK_WAIT_SECONDS}, **POOL, **few}
        case "postgresql":
            arguments: dict[str, Any] = {
                "connect_timeout": 5,
                # A server that vanished without a word: TCP alone would send again for a quarter of
                # an hour.
                "tcp_user_timeout": NETWORK_SECONDS * 1000,
                "application_name": "detachd",
                "options": f"-c lock_timeout={LOCK_WAIT_SECONDS}s",
            }
        case _:
            arguments = {
                "charset": "utf8mb4",
                "connect_timeout": 5,
                "read_timeout": NETWORK_SECONDS,
                "write_timeout": NETWORK_SECONDS,
                # TRADITIONAL: whatever the default of the server, a text that is too long for its
                # column is refused and not cut.
                "init_command": "SET SESSION sql_mode = 'TRADITIONAL', "
                f"innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}",
            }
    return {
        "connect_args": arguments,
        # With repeatable reads, what is read under a lock could be older than the lock.
        "isolation_level": "READ COMMITTED",
        # Servers and proxies end connections that were idle for long. One that they have ended
        # costs a repetition.
        "pool_recycle": 1800,
        **POOL,
    }


def _make_private(_dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
    """Make a file that is not there yet readable for its owner alone."""
    # SQLite gives its -wal and -shm the same owner and mode. What cannot be made here, SQLite says.
    with contextlib.suppress(OSError):
        # With a mode from the start: between creating it and a chmod others could open it.
        made = os.open(arguments[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            # A command that root runs once must not lock out the service, which owns the directory.
            if os.geteuid() == 0:
                place = Path(arguments[0]).absolute().parent.stat()
                os.fchown(made, place.st_uid, place.st_gid)
        finally:
            os.close(made)


def _prepare_sqlite(connection: Any, _: object) -> None:
    # No implicit BEGIN by sqlite3: our code begins transactions itself. An event of SQLAlchemy
    # could do that too, but an engine with such events needs a fifth more time for each statement.
    connection.isolation_level = None
    # WAL: readers do not wait for the writer. FULL: an ack follows the commit, so the commit has to
    # be on disk.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _invalidate_after_failover(context: sa.engine.ExceptionContext) -> None:
    # psycopg sends many rows as a pipeline. If that fails, the cause is only in the context of the
    # error, and the connection cannot be used any more.
    broken = "pipeline mode" in str(context.original_exception)
    if broken or any(_code(error) in FAILOVER_CODES for error in chain(context.original_exception)):
        context.is_disconnect = True


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    # An error may be its own context, by a detour.
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException | None) -> Any:
    """Return the database's code of an error: a SQLSTATE, or MariaDB's number."""
    first = next(iter(getattr(error, "args", ())), None)
    # PyMySQL 1.2 has the SQLSTATE too, which is the same for most of MariaDB's numbers.
    return first if isinstance(first, int) else getattr(error, "sqlstate", None) or first


def _worth_repeating(error: BaseException) -> bool:
    if not isinstance(error, exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    origin: Any = error.orig
    if (code := getattr(origin, "sqlite_errorcode", None)) is not None:
        # The higher bits say which kind of busy it is.
        return code & 0xFF in (SQLITE_BUSY, SQLITE_LOCKED)
    return _code(origin) in REPEAT


def _unavailable(error: exc.SQLAlchemyError) -> bool:
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    # ProgrammingError, DataError and IntegrityError are not among them: a bug or a bad row, which
    # no waiting mends.
    unusable = exc.OperationalError | exc.InterfaceError | exc.InternalError | exc.TimeoutError
    return isinstance(error, unusable) or type(error) is exc.DatabaseError
