"""SQLite has one writer: threads that wait for their turn are written together, by one commit.

A commit waits for the disk, and everybody else waits meanwhile. So whoever comes while nobody
writes leads: it writes for all who have come by then, in one transaction with one sync, and hands
the lead on to the first who came meanwhile. Where anything goes wrong in that transaction all of it
is taken back, and each is written alone. Nobody is told that it is done before the commit.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

Result = TypeVar("Result")
Attempt = Callable[[sa.Connection, bool], Result]
"""Does the work; the flag says that it may have been committed before."""


class WriteQueue:
    """The writers of one SQLite file in this process. Thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: list[_Write[Any]] = []
        self._has_leader = False

    def write(self, attempt: Attempt[Result], *, repeated: bool) -> Result:
        """Do it in a transaction that has committed when this returns, perhaps with others'.

        Blocks for those who write. Raises what ``attempt`` raises, and what the database does.
        """
        write = _Write(attempt, repeated)
        with self._lock:
            self._waiting.append(write)
            leads, self._has_leader = not self._has_leader, True
        if leads or write.wait():
            self._lead(write)
        return write.result()

    def _lead(self, own: _Write[Any]) -> None:
        """Write for all who wait, this thread among them; then wake them, and let another lead."""
        with self._lock:
            writes, self._waiting = self._waiting, []
        try:
            self._commit_together(writes)
        finally:
            self._pass_lead([write for write in writes if write is not own])

    def _commit_together(self, writes: Sequence[_Write[Any]]) -> None:
        if len(writes) > 1:
            try:
                with self._transaction() as connection:
                    results = [write.attempt(connection, write.repeated) for write in writes]
            except Exception as error:  # noqa: BLE001 - who was to blame is found out one by one
                for write in writes:
                    write.repeated = write.repeated or isinstance(error, exc.SQLAlchemyError)
            else:
                for write, result in zip(writes, results, strict=True):
                    write.settle(result)
                return
        for write in writes:
            self._commit_separately(write)

    def _commit_separately(self, write: _Write[Any]) -> None:
        try:
            with self._transaction() as connection:
                result = write.attempt(connection, write.repeated)
        except Exception as error:  # noqa: BLE001 - raised again in its owner's thread
            write.fail(error)
        else:
            write.settle(result)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            # A writer that began as a reader cannot wait for the lock: it fails (SQLITE_BUSY).
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def _pass_lead(self, others: Sequence[_Write[Any]]) -> None:
        """Wake the first who waits, to lead, and those who are done.

        Others are left over where this thread was interrupted; nobody knows how far it had come.
        """
        left = [write for write in others if not write.done]
        for write in left:
            write.repeated = True
        with self._lock:
            self._waiting[:0] = left
            self._has_leader = bool(self._waiting)
            following = self._waiting[:1]
        for write in following:
            write.wake(leads=True)
        for write in others:
            if write.done:
                write.wake(leads=False)


class _Write(Generic[Result]):
    """One thread's work, and what came of it. ``done``: it was committed, or it failed."""

    __slots__ = ("_error", "_leads", "_results", "_wakeup", "attempt", "done", "repeated")

    def __init__(self, attempt: Attempt[Result], repeated: bool) -> None:
        self.attempt = attempt
        self.repeated = repeated
        self.done = False
        self._leads = False
        self._results: list[Result] = []
        self._error: Exception | None = None
        self._wakeup = threading.Lock()
        self._wakeup.acquire()

    def wait(self) -> bool:
        """Block until it is done, or until this thread is to lead: then return True."""
        self._wakeup.acquire()
        return self._leads

    def wake(self, *, leads: bool) -> None:
        """End ``wait``."""
        self._leads = leads
        self._wakeup.release()

    def settle(self, result: Result) -> None:
        """Keep what the work returned: it has been committed."""
        self._results.append(result)
        self.done = True

    def fail(self, error: Exception) -> None:
        """Keep what the work raised: it has been taken back, as far as anybody knows."""
        self._error = error
        self.done = True

    def result(self) -> Result:
        """Return what the work returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[-1]
