"""The fixtures: a fresh ledger for each test, and what happens where a service is missing."""

import shutil

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from tests.services.ceph import Ceph
from tests.services.fixtures import installed
from tests.services.fuse_disk import FuseDisk
from tests.services.mariadb import MariaDB
from tests.services.postgresql import PostgreSQL
from tests.services.rabbitmq import RabbitMQ
from tests.services.service import PrivateService
from tests.services.tgtd import Tgtd

SERVICES = [
    pytest.param(RabbitMQ, "rabbitmq-server", id="rabbitmq"),
    pytest.param(PostgreSQL, "Debian: postgresql", id="postgresql"),
    pytest.param(MariaDB, "mariadb-server", id="mariadb"),
    pytest.param(Tgtd, "Debian: tgt", id="tgtd"),
    pytest.param(Ceph, "ceph-mon ceph-osd ceph-common", id="ceph"),
    pytest.param(FuseDisk, "qemu-system-common", id="fuse-disk"),
]


@pytest.mark.parametrize("turn", ["first", "second"])
def test_database_is_fresh_each_time(database_url: str, turn: str) -> None:
    """A table that the turn before made -> not there in this one."""
    engine = create_engine(database_url, poolclass=NullPool)
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    assert inspect(engine).get_table_names() == ["t"]


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no program be found, as where nothing is installed."""
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(("kind", "package"), SERVICES)
def test_missing_service_skips_on_a_laptop(
    kind: type[PrivateService], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not installed, no CI -> skipped, naming the Debian package."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=package):
        installed(kind)


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(("kind", "package"), SERVICES)
def test_missing_service_fails_in_ci(
    kind: type[PrivateService], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not installed where CI=true -> failed, naming the Debian package."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=package):
        installed(kind)
