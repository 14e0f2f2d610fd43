"""The private services as pytest fixtures, one of each for a test session.

A test that asks for a service is an integration test and is marked as one. Where the service is
not installed the test is skipped, with the reason; where CI=true it fails.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from tests.services import ledgers
from tests.services.ceph import Ceph
from tests.services.chromium import Chromium
from tests.services.database import PrivateDatabase
from tests.services.fuse_disk import FuseDisk
from tests.services.galera import Galera
from tests.services.initiator import Initiators, require_library
from tests.services.ledgers import LEDGERS
from tests.services.mariadb import MariaDB
from tests.services.postgresql import PostgreSQL
from tests.services.rabbitmq import RabbitMQ
from tests.services.rbd_clients import RbdClients, require_bindings
from tests.services.service import PrivateService, ServiceMissingError
from tests.services.tgtd import Tgtd

Kind = TypeVar("Kind", bound=PrivateService | Galera | Chromium)

NAMES = {
    "rabbitmq", "postgresql", "mariadb", "galera", "tgtd", "fuse_disk", "initiators",
    "ceph", "rbd_clients", "chromium",
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for a service, before -m looks at the marks."""
    for item in items:
        if not NAMES.isdisjoint([*getattr(item, "fixturenames", ()), *_words(item)]):
            item.add_marker(pytest.mark.integration)


def _words(item: pytest.Item) -> list[str]:
    """Return the test's parameters that may name a service, which it gets by its name then."""
    callspec = getattr(item, "callspec", None)
    return [value for value in callspec.params.values() if type(value) is str] if callspec else []


def installed(kind: type[Kind]) -> Kind:
    """Make an instance, not yet started; skip the test, or fail it where CI=true, without it."""
    try:
        return kind()
    except ServiceMissingError as missing:
        _without(missing)


def _without(missing: ServiceMissingError) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(str(missing))
    pytest.skip(str(missing))


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """Share one RabbitMQ. A test that kills or pauses it starts it again before it ends."""
    with installed(RabbitMQ) as service:
        yield service


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Share one PostgreSQL. A test that kills or pauses it starts it again before it ends."""
    with installed(PostgreSQL) as service:
        yield service


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """Share one MariaDB. A test that kills or pauses it starts it again before it ends."""
    with installed(MariaDB) as service:
        yield service


@pytest.fixture(scope="session")
def galera() -> Iterator[Galera]:
    """Share one cluster of three nodes. A test that harms a node mends it before it ends."""
    with installed(Galera) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Share one browser; a test sets the size and the taste that it needs."""
    with installed(Chromium) as browser:
        yield browser


@pytest.fixture
def tgtd() -> Iterator[Tgtd]:
    """Give each test a tgtd of its own: it starts in a tenth of a second, and keeps nothing."""
    with installed(Tgtd) as service:
        yield service


@pytest.fixture
def fuse_disk() -> Iterator[FuseDisk]:
    """Give a disk that can be frozen; ask for it before the tgtd that has it open."""
    with installed(FuseDisk) as service:
        yield service


@pytest.fixture
def initiators(tmp_path: Path) -> Iterator[Initiators]:
    """Give what logs hosts in to targets; each is ended with the test."""
    try:
        require_library()
    except ServiceMissingError as missing:
        _without(missing)
    with Initiators(tmp_path) as hosts:
        yield hosts


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """Share one Ceph. A test that freezes a part of it thaws it before it ends."""
    with installed(Ceph) as service:
        yield service


@pytest.fixture
def rbd_clients(ceph: Ceph, tmp_path: Path) -> Iterator[RbdClients]:
    """Give what opens images; each client is ended with the test."""
    try:
        require_bindings()
        made = RbdClients(ceph, tmp_path)
    except ServiceMissingError as missing:
        _without(missing)
    with made as clients:
        yield clients


@pytest.fixture(params=LEDGERS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give each test the URL of a fresh, empty database, on each of the three in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.sqlite'}"
        return
    server: PrivateDatabase = request.getfixturevalue(request.param)
    url = server.fresh_database()
    yield url
    server.drop_database(url)


@pytest.fixture(params=LEDGERS)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give each test the URL of an upgraded, empty ledger, on each of the three in turn."""
    with ledgers.each(request, tmp_path) as url:
        yield url
