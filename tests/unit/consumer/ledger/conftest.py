"""A ledger on each of the three databases in turn."""

from collections.abc import Iterator

import pytest

from consumer.ledger import Ledger


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """Return an empty ledger, closed after the test."""
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def second(ledger: Ledger, ledger_url: str) -> Iterator[Ledger]:
    """Return another process's view of the same ledger: an engine of its own."""
    second = Ledger(ledger_url)
    yield second
    second.close()
