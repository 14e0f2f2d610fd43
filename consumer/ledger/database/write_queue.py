"""Group commit for SQLite, which has one writer: waiting threads share one transaction.

A commit waits for the disk, and all other writers wait meanwhile. So they are grouped:

1. A thread that arrives while no thread writes becomes the leader. The leader writes for all
   threads that wait, in one transaction with one sync to disk. Then the first thread that has
   arrived meanwhile becomes the leader.
2. If anything in that transaction fails, it is rolled back as a whole, and each write gets its own
   transaction.
3. No thread gets its result before the commit.
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
"""Does the work. The flag is True if the work may have been committed before."""


class WriteQueue:
    """The writers of one SQLite file in this process. Thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: list[_Write[Any]] = []
        self._has_leader = False

    def write(self, attempt: Attempt[Result], *, repeated: bool) -> Result:
        """Run ``attempt`` in a transaction, perhaps with others; it is committed on return.

        Blocks while other threads write. Raises what ``attempt`` and the database raise.
        """
        write = _Write(attempt, repeated)
        with self._lock:
            self._waiting.append(write)
            # Whoever finds no leader is the leader: no thread of its own, and no pause for a writer
            # that is alone.
            leads, self._has_leader = not self._has_leader, True
        if leads or write.wait():
            self._lead(write)
        return write.result()

    def _lead(self, own: _Write[Any]) -> None:
        """Write for all waiting threads and this one; then wake them, and pass the lead on."""
        with self._lock:
            writes, self._waiting = self._waiting, []
        try:
            self._commit_together(writes)
        finally:
            self._pass_lead([write for write in writes if write is not own])

    def _commit_together(self, writes: Sequence[_Write[Any]]) -> None:
        # A single write needs no second try: its error is its own.
        if len(writes) > 1:
            try:
                with self._transaction() as connection:
                    results = [write.attempt(connection, write.repeated) for write in writes]
            except Exception as error:  # noqa: BLE001 - each write is repeated alone
                for write in writes:
                    # An error of the database may have come in the commit; any other came before
                    # it, with nothing committed.
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
            # Without IMMEDIATE a write after a read cannot wait for the lock: SQLITE_BUSY.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def _pass_lead(self, others: Sequence[_Write[Any]]) -> None:
        """Wake the next leader, and the threads whose writes are done."""
        # Some are not done if this thread was interrupted, and they may have been committed.
        left = [write for write in others if not write.done]
        for write in left:
            write.repeated = True
        with self._lock:
            # In front: they came before those who have queued meanwhile.
            self._waiting[:0] = left
            self._has_leader = bool(self._waiting)
            following = self._waiting[:1]
        # The leader first: it begins to write while the others wake up.
        for write in following:
            write.wake(leads=True)
        for write in others:
            if write.done:
                write.wake(leads=False)


class _Write(Generic[Result]):
    """The write of one thread, and its result. ``done``: it was committed, or it failed."""

    __slots__ = ("_error", "_leads", "_results", "_wakeup", "attempt", "done", "repeated")

    def __init__(self, attempt: Attempt[Result], repeated: bool) -> None:
        self.attempt = attempt
        self.repeated = repeated
        self.done = False
        self._leads = False
        self._results: list[Result] = []
        self._error: Exception | None = None
        # A lock that is taken: an Event or a Condition takes several locks, and there is one for
        # each write.
        self._wakeup = threading.Lock()
        self._wakeup.acquire()

    def wait(self) -> bool:
        """Block until it is done; return True if instead this thread becomes the leader."""
        self._wakeup.acquire()
        return self._leads

    def wake(self, *, leads: bool) -> None:
        """End ``wait``."""
        self._leads = leads
        self._wakeup.release()

    def settle(self, result: Result) -> None:
        """Set the result after the commit."""
        self._results.append(result)
        self.done = True

    def fail(self, error: Exception) -> None:
        """Set the error after the rollback."""
        self._error = error
        self.done = True

    def result(self) -> Result:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._results[-1]
