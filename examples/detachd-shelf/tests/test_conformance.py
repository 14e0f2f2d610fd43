"""The shelf's driver keeps the contract."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ground import Shelf, ShelfGround

from drivers.conformance import Ground, StorageDriverConformance


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shelf, Shelf]]:
    """Start two daemons for all clauses: volumes have ids of their own, so they share well."""
    places: list[Path] = [tmp_path_factory.mktemp("shelf") for _ in range(2)]
    with closing(Shelf(places[0])) as one, closing(Shelf(places[1])) as other:
        yield one, other


class TestShelfDriver(StorageDriverConformance):
    """Every clause that a shelf can show."""

    timeout_seconds = 1.0
    settle_seconds = 0.1

    @pytest.fixture
    def ground(self, shelves: tuple[Shelf, Shelf]) -> Iterator[Ground]:
        """Hang up for every host when a clause is over."""
        with closing(ShelfGround(*shelves)) as ground:
            yield ground
