"""Losing the database at the worst moment."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc

from consumer.ledger import Ledger


@dataclasses.dataclass(slots=True)
class Loss:
    """How many commits lost their answer."""

    times: int = 0


def lose_next_commit(ledger: Ledger, times: int = 1) -> Loss:
    """Let the next commits hold and their answers be lost, as when the network breaks then."""
    loss = Loss()
    dialect = ledger._database.engine.dialect
    real = dialect.do_commit

    def commit_and_lose(connection: object) -> None:
        real(connection)
        loss.times += 1
        if loss.times == times:
            dialect.do_commit = real
        raise exc.DBAPIError("COMMIT", None, ConnectionError("lost"), connection_invalidated=True)

    dialect.do_commit = commit_and_lose
    return loss


class CrashError(Exception):
    """The process dies here."""


@contextlib.contextmanager
def crashing(ledger: Ledger) -> Iterator[None]:
    """Let the process die, as far as the database can tell, just before each commit."""

    def die(connection: sa.Connection) -> None:
        raise CrashError

    event.listen(ledger._database.engine, "commit", die)
    try:
        with pytest.raises(CrashError):
            yield
    finally:
        event.remove(ledger._database.engine, "commit", die)


def slow_down(*ledgers: Ledger) -> None:
    """Let each statement take up to 4 ms longer, so that what can get between two does."""
    dice = random.Random(7)

    def dawdle(*_: object) -> None:
        time.sleep(dice.random() * 0.004)

    for ledger in ledgers:
        event.listen(ledger._database.engine, "after_cursor_execute", dawdle)
