"""What a server left behind: Cinder is asked once, and only what is left becomes a case."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.ledger import Ledger
from consumer.periodic.server_looks import ServerLooker
from drivers.errors import TransientError
from drivers.simulator import Cloud
from handlers.correlation.matching import Timing
from handlers.notification import Phase, Source
from tests.unit.consumer.ledger.making import accept, told


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Give a simulated cloud."""
    with Cloud() as one:
        yield one


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give a ledger in which a server is due at once, with a budget of two looks."""
    timing = Timing(second_look_seconds=0.0)
    one = Ledger(f"sqlite:///{tmp_path}/l.sqlite", timing=timing, second_looks_per_minute=2)
    one.upgrade()
    yield one
    one.close()


def look(cloud: Cloud, ledger: Ledger) -> int:
    """Look at what is due."""
    looker = ServerLooker(cloud.cinder, ledger, count=lambda _: None)
    return looker.look_once(threading.Event())


def tell(ledger: Ledger, *instance_ids: str) -> None:
    """Have Nova tell that these are deleted."""
    for instance_id in instance_ids:
        accept(
            ledger,
            told(None, Phase.SIGNAL, event_type="instance.delete.end", source=Source.NOVA_LEGACY,
                 volume_id=None, instance_id=instance_id),
        )  # fmt: skip


def attached(cloud: Cloud) -> tuple[str, str, str]:
    """Attach a volume; return it, its server and its row."""
    volume_id, instance_id = cloud.create_volume(), cloud.boot_server()
    return volume_id, instance_id, cloud.attach(volume_id, instance_id)


def test_a_row_that_still_names_the_server(cloud: Cloud, ledger: Ledger) -> None:
    """A server is deleted and its row stays -> a case of that row; one request was made."""
    volume_id, instance_id, row = attached(cloud)
    attached(cloud)
    tell(ledger, instance_id)
    assert look(cloud, ledger) == 1
    (case,) = ledger.cases()
    assert (case.volume_id, case.attachment_id, case.instance_id) == (volume_id, row, instance_id)
    assert len(cloud.calls("cinder.attachments_of")) == 1
    assert look(cloud, ledger) == 0


def test_a_server_that_left_nothing(cloud: Cloud, ledger: Ledger) -> None:
    """Its rows are gone -> no case, and it is not asked about again."""
    tell(ledger, cloud.boot_server())
    assert look(cloud, ledger) == 1
    assert (ledger.cases(), look(cloud, ledger)) == ((), 0)


def test_the_looks_have_a_budget(cloud: Cloud, ledger: Ledger) -> None:
    """Three servers left rows, two looks are to spare -> two cases; the third server stays due."""
    tell(ledger, *(attached(cloud)[1] for _ in range(3)))
    look(cloud, ledger)
    assert len(ledger.cases()) == 2
    assert look(cloud, ledger) == 0


def test_an_outage_loses_no_server(cloud: Cloud, ledger: Ledger) -> None:
    """Cinder does not answer -> the error is the caller's, and the server is not forgotten."""
    _, instance_id, _ = attached(cloud)
    tell(ledger, instance_id)
    cloud.set_apis(cinder_up=False)
    with pytest.raises(TransientError):
        look(cloud, ledger)
    with ledger._database.engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT instance_id FROM server_looks").all()
    assert rows == [(instance_id,)]
