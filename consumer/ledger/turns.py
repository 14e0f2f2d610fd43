"""SQLite has one writer: threads that wait for their turn are written together, by one commit.

A commit waits for the disk, and everybody else waits meanwhile. So whoever comes to write, writes
for all who have come by then: one transaction, one sync. Where anything goes wrong in it, all of it
is taken back, and each writes alone. Nobody is told that it is done before the commit.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

Result = TypeVar("Result")
Attempt = Callable[[sa.Connection, bool], Result]
"""Does the work; the flag says that it may have been committed before."""


class Turns:
    """The writers of one SQLite file in this process. Thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._writing = threading.Lock()
        self._waiting: collections.deque[_Turn[object]] = collections.deque()

    def write(self, attempt: Attempt[Result], *, again: bool) -> Result:
        """Do it in a transaction that has committed when this returns, perhaps with others'.

        Blocks for those who write. Raises what ``attempt`` raises, and what the database does.
        """
        turn = _Turn(attempt, again)
        self._waiting.append(turn)  # type: ignore[arg-type] # what comes out goes to its owner only
        with self._writing:
            if not turn.tried:
                self._write_all()
            if not turn.done:
                return self._write_alone(turn)
        return turn.result()

    def _write_all(self) -> None:
        """Write for all who wait, this thread among them; where that fails each does it alone."""
        turns = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for turn in turns:
            turn.tried = True
        if len(turns) == 1:
            return
        try:
            with self._transaction() as connection:
                for turn in turns:
                    turn.work(connection)
        except Exception as error:  # noqa: BLE001 - who was to blame is found out one by one
            for turn in turns:
                turn.again = turn.again or isinstance(error, exc.SQLAlchemyError)
            return
        for turn in turns:
            turn.done = True

    def _write_alone(self, turn: _Turn[Result]) -> Result:
        with self._transaction() as connection:
            return turn.work(connection)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            # A writer that began as a reader cannot wait for the lock: it fails (SQLITE_BUSY).
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection


class _Turn(Generic[Result]):
    """One thread's work. ``tried``: somebody took it from the queue; ``done``: it has committed."""

    __slots__ = ("_results", "again", "attempt", "done", "tried")

    def __init__(self, attempt: Attempt[Result], again: bool) -> None:
        self.attempt = attempt
        self.again = again
        self.tried = False
        self.done = False
        self._results: list[Result] = []

    def work(self, connection: sa.Connection) -> Result:
        """Do the work and keep what it returned; raises what it raises."""
        self._results.append(self.attempt(connection, self.again))
        return self._results[-1]

    def result(self) -> Result:
        """Return what the work returned."""
        return self._results[-1]
