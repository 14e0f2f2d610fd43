"""What the tests of the running service share: one virtual host, and a site for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.site import Broker, Site, new_broker, open_site
from tests.iscsi import Iscsi
from tests.services.initiator import Initiators
from tests.services.rabbitmq import RabbitMQ
from tests.services.tgtd import Tgtd

pytest.register_assert_rewrite("tests.integration.oracle")


@pytest.fixture(scope="session")
def broker(rabbitmq: RabbitMQ) -> Broker:
    """Share one virtual host; each site clears it first."""
    return new_broker(rabbitmq)


@pytest.fixture
def iscsi(tgtd: Tgtd, initiators: Initiators, tmp_path: Path) -> Iscsi:
    """Give a backend of real iSCSI without volumes."""
    return Iscsi(tgtd, initiators, tmp_path)


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Iterator[Site]:
    """Give a site whose ledger is SQLite."""
    with open_site(broker, tmp_path) as made:
        yield made
        made.check_logs()
