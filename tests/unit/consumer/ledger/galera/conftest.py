"""A ledger on a cluster of three nodes: each Ledger object writes through a node of its own."""

from collections.abc import Iterator

import pytest

from consumer.ledger import Ledger
from tests.services import ledgers
from tests.services.galera import Galera


@pytest.fixture
def urls(galera: Galera) -> Iterator[list[str]]:
    """Return the URLs of an upgraded, empty ledger on each of the nodes."""
    url = ledgers.on(galera.nodes[0])
    yield galera.urls(url)
    galera.nodes[0].drop_database(url)


@pytest.fixture
def through(urls: list[str]) -> Iterator[list[Ledger]]:
    """Return the same ledger three times, each written through another node."""
    opened = [Ledger(url) for url in urls]
    yield opened
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger_url(urls: list[str]) -> str:
    """Give the tests that run on each database the cluster instead."""
    return urls[0]


@pytest.fixture
def ledger(through: list[Ledger]) -> Ledger:
    """Return the ledger through the first node."""
    return through[0]


@pytest.fixture
def second(through: list[Ledger]) -> Ledger:
    """Return the ledger through the second node."""
    return through[1]
