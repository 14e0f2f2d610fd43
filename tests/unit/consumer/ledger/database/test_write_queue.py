"""Threads that write to SQLite at once: one commit for several, and nobody's trouble another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc

from consumer.ledger.database.engine import Database
from consumer.ledger.database.write_queue import WriteQueue

WRITERS = 12


class Together:
    """A database with one table, and a writer that holds the turn until the others wait."""

    def __init__(self, path: Path) -> None:
        self.database = Database(f"sqlite:///{path}")
        self.commits = 0
        self.database.write(lambda c: c.exec_driver_sql("CREATE TABLE t (i INTEGER PRIMARY KEY)"))
        event.listen(self.database.engine, "commit", self._count)

    @property
    def queue(self) -> WriteQueue:
        """The database's own."""
        assert self.database._write_queue is not None
        return self.database._write_queue

    def _count(self, _: sa.Connection) -> None:
        self.commits += 1

    def insert(self, number: int) -> int:
        """Insert one row in a transaction."""
        return self.database.write(lambda c: insert(c, number))

    def rows(self) -> set[int]:
        """Return what has been committed."""
        return self.database.read(lambda c: set(c.exec_driver_sql("SELECT i FROM t").scalars()))

    def at_once(self, *works: Callable[[], int]) -> list[Future[int]]:
        """Let them all come while somebody else writes, so that they are written together."""
        writing, go_on = threading.Event(), threading.Event()

        def hold(_: sa.Connection) -> int:
            writing.set()
            assert go_on.wait(60)
            return 0

        with ThreadPoolExecutor(len(works) + 1) as pool:
            first = pool.submit(self.database.write, hold)
            assert writing.wait(60)
            found = [pool.submit(work) for work in works]
            ends_at = time.monotonic() + 10
            while len(self.queue._waiting) < len(works):
                assert time.monotonic() < ends_at
                time.sleep(0.01)
            go_on.set()
            first.result()
        return found


def insert(connection: sa.Connection, number: int) -> int:
    """Insert one row and return its number."""
    connection.exec_driver_sql("INSERT INTO t VALUES (?)", (number,))
    return number


@pytest.fixture
def together(tmp_path: Path) -> Iterator[Together]:
    """Give an empty database."""
    made = Together(tmp_path / "one.sqlite")
    yield made
    made.database.close()


def test_those_who_wait_share_one_commit(together: Together) -> None:
    """Twelve writers come while one writes -> all durable by one commit, each told its own."""
    works = [lambda i=i: together.insert(i) for i in range(WRITERS)]
    found = together.at_once(*works)
    assert [f.result() for f in found] == list(range(WRITERS))
    assert together.rows() == set(range(WRITERS))
    assert together.commits == 2


def test_refusal_takes_back_its_own_rows_only(together: Together) -> None:
    """One of three changes its mind after writing -> its row is gone, the others' stay."""

    def refuse(connection: sa.Connection) -> int:
        insert(connection, 99)
        raise KeyError("changed my mind")

    found = together.at_once(
        lambda: together.insert(1),
        lambda: together.database.write(refuse),
        lambda: together.insert(2),
    )
    with pytest.raises(KeyError, match="changed my mind"):
        found[1].result()
    assert (found[0].result(), found[2].result()) == (1, 2)
    assert together.rows() == {1, 2}


def test_error_of_the_database_hits_its_own_writer_only(together: Together) -> None:
    """One of three breaks a constraint -> it alone gets the error, the others are written."""
    together.insert(7)
    found = together.at_once(
        lambda: together.insert(1), lambda: together.insert(7), lambda: together.insert(2)
    )
    with pytest.raises(exc.IntegrityError):
        found[1].result()
    assert (found[0].result(), found[2].result()) == (1, 2)
    assert together.rows() == {1, 2, 7}


def test_after_a_failed_commit_done_is_asked(together: Together) -> None:
    """The shared commit fails, nobody knows whether it held -> each asks before it writes again."""
    fails = iter([True])

    def fail(_: sa.Connection) -> None:
        if together.commits == 1 and next(fails, False):  # the first after the one that held
            raise exc.OperationalError("COMMIT", {}, Exception("disk I/O error"))

    asked: list[int] = []

    def work(number: int) -> int:
        def done(_: sa.Connection) -> int | None:
            asked.append(number)
            return None

        return together.database.write(lambda c: insert(c, number), done=done)

    event.listen(together.database.engine, "commit", fail)
    together.commits = -1
    found = together.at_once(lambda: work(1), lambda: work(2))
    assert {f.result() for f in found} == {1, 2}
    assert together.rows() == {1, 2}
    assert sorted(asked) == [1, 2]


def test_who_is_done_does_not_wait_for_who_comes_later(together: Together) -> None:
    """A writer comes while two are written, and takes long -> the two are told before it ends."""
    came, go_on = threading.Event(), threading.Event()

    def slow(connection: sa.Connection) -> int:
        assert go_on.wait(60)
        return insert(connection, 3)

    with ThreadPoolExecutor(1) as later:
        pending: list[Future[int]] = []

        def bring_another(connection: sa.Connection) -> int:
            if not came.is_set():
                came.set()
                pending.append(later.submit(together.database.write, slow))
                while not together.queue._waiting:
                    time.sleep(0.001)
            return insert(connection, 1)

        found = together.at_once(
            lambda: together.database.write(bring_another), lambda: together.insert(2)
        )
        assert [f.result(10) for f in found] == [1, 2]
        assert not pending[0].done()
        go_on.set()
        assert pending[0].result(10) == 3
    assert together.rows() == {1, 2, 3}


def test_interrupted_leader_leaves_nobody_behind(together: Together) -> None:
    """The thread that writes for three is interrupted -> the others are written all the same."""
    interrupted = iter([True])

    def interrupt(connection: sa.Connection) -> int:
        if next(interrupted, False):
            raise KeyboardInterrupt
        return insert(connection, 2)

    found = together.at_once(
        lambda: together.insert(1),
        lambda: together.database.write(interrupt),
        lambda: together.insert(3),
    )
    ends = [type(f.exception(10)) for f in found]
    assert sorted(end.__name__ for end in ends) == ["KeyboardInterrupt", "NoneType", "NoneType"]
    lost = {number for number, end in zip((1, 2, 3), ends, strict=True) if end is KeyboardInterrupt}
    assert together.rows() == {1, 2, 3} - lost
    assert together.insert(4) == 4
