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


class Turns:
    """The writers of one SQLite file in this process. Thread-safe."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: list[_Turn[Any]] = []
        self._somebody_leads = False

    def write(self, attempt: Attempt[Result], *, again: bool) -> Result:
        """Do it in a transaction that has committed when this returns, perhaps with others'.

        Blocks for those who write. Raises what ``attempt`` raises, and what the database does.
        """
        turn = _Turn(attempt, again)
        with self._lock:
            self._waiting.append(turn)
            leads, self._somebody_leads = not self._somebody_leads, True
        if leads or turn.wait():
            self._lead(turn)
        return turn.result()

    def _lead(self, own: _Turn[Any]) -> None:
        """Write for all who wait, this thread among them; then wake them, and let another lead."""
        with self._lock:
            turns, self._waiting = self._waiting, []
        try:
            self._write_together(turns)
        finally:
            self._hand_on([turn for turn in turns if turn is not own])

    def _write_together(self, turns: Sequence[_Turn[Any]]) -> None:
        if len(turns) > 1:
            try:
                with self._transaction() as connection:
                    results = [turn.attempt(connection, turn.again) for turn in turns]
            except Exception as error:  # noqa: BLE001 - who was to blame is found out one by one
                for turn in turns:
                    turn.again = turn.again or isinstance(error, exc.SQLAlchemyError)
            else:
                for turn, result in zip(turns, results, strict=True):
                    turn.settle(result)
                return
        for turn in turns:
            self._write_alone(turn)

    def _write_alone(self, turn: _Turn[Any]) -> None:
        try:
            with self._transaction() as connection:
                result = turn.attempt(connection, turn.again)
        except Exception as error:  # noqa: BLE001 - raised again in its owner's thread
            turn.fail(error)
        else:
            turn.settle(result)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            # A writer that began as a reader cannot wait for the lock: it fails (SQLITE_BUSY).
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def _hand_on(self, others: Sequence[_Turn[Any]]) -> None:
        """Wake the first who waits, to lead, and those who are done.

        Others are left over where this thread was interrupted; nobody knows how far it had come.
        """
        left = [turn for turn in others if not turn.done]
        for turn in left:
            turn.again = True
        with self._lock:
            self._waiting[:0] = left
            self._somebody_leads = bool(self._waiting)
            following = self._waiting[:1]
        for turn in following:
            turn.wake(leads=True)
        for turn in others:
            if turn.done:
                turn.wake(leads=False)


class _Turn(Generic[Result]):
    """One thread's work, and what came of it. ``done``: it was committed, or it failed."""

    __slots__ = ("_error", "_leads", "_results", "_sleeps", "again", "attempt", "done")

    def __init__(self, attempt: Attempt[Result], again: bool) -> None:
        self.attempt = attempt
        self.again = again
        self.done = False
        self._leads = False
        self._results: list[Result] = []
        self._error: Exception | None = None
        self._sleeps = threading.Lock()
        self._sleeps.acquire()

    def wait(self) -> bool:
        """Block until it is done, or until this thread is to lead: then return True."""
        self._sleeps.acquire()
        return self._leads

    def wake(self, *, leads: bool) -> None:
        """End ``wait``."""
        self._leads = leads
        self._sleeps.release()

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
