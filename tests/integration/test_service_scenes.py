"""The running service on a real broker: every scene of the demo comes out as in the demo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.demo.scenes import SCENES
from tests.announcing import stock_listener
from tests.bus import configured, until
from tests.integration import oracle
from tests.integration.service_process import UNHURRIED
from tests.integration.site import Act, Broker, Site, open_site

pytestmark = pytest.mark.integration


@pytest.fixture
def site_on_each(broker: Broker, tmp_path: Path, ledger_url: str) -> Iterator[Site]:
    """Give a site on each kind of ledger in turn."""
    with open_site(broker, tmp_path, ledger_url) as made:
        yield made
        made.check_logs()


def test_scenes_end_as_in_the_demo_and_a_stock_listener_is_told(site_on_each: Site) -> None:
    """Use cases and look-alikes on the bus -> mended or left alone, announced in order."""
    site, acts = site_on_each, site_on_each.arrange()
    site.detachd.configure(UNHURRIED)
    with stock_listener(configured(site.broker.url)) as told, site.detachd.serve() as service:
        service.ready()
        site.publish(acts)
        oracle.wait_until_over(site, acts)
        until(lambda: len(told.messages) == len(site.outbox()))
        assert service.terminate() == 0
    assert len(acts) == len(SCENES)
    for act in acts:
        oracle.as_in_the_demo(site, act)
        heard = [m for m in told.messages if m["payload"]["volume_id"] == act.volume_id]
        assert tuple(m["event_type"] for m in heard) == act.scene.expected.announced
        assert [m["payload"] for m in heard] == payloads(site, act)
    assert {m["publisher_id"].partition(".")[0] for m in told.messages} == {"detachd"}
    oracle.all_is_well(site, acts)


def payloads(site: Site, act: Act) -> list[dict[str, object]]:
    """Return what the ledger holds to be told of a volume, in order."""
    return [dict(sent.payload) for case in site.cases(act.volume_id) for sent in case.outbox]
