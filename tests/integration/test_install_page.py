"""The rights that docs/install.md gives to the broker's user: the whole service runs with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import wheel
from tests.bus import until
from tests.integration.site import REPEATABLE, Broker, Site, open_site
from tests.services.rabbitmq import RabbitMQ

PAGE = (wheel.ROOT / "docs" / "install.md").read_text()
pytestmark = pytest.mark.integration


@pytest.fixture
def narrow(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Site]:
    """Give a site whose service has the rights of the page; the others have every right."""
    url = rabbitmq.fresh_vhost()
    found = re.search(
        r"R='(\S+)'\n.*set_permissions --vhost / detachd \"\$R\" \"\$R\" \"\$R\"", PAGE
    )
    assert found is not None
    rabbitmq.ctl("add_user", "installed", "a-password-worth-hiding")
    vhost = url.rpartition("/")[2]
    rabbitmq.ctl("set_permissions", "--vhost", vhost, "installed", *[found[1]] * 3)
    with open_site(Broker(rabbitmq, url, "a-password-worth-hiding"), tmp_path) as site:
        own = url.replace("amqp://guest:guest@", "rabbit://installed:a-password-worth-hiding@")
        site.detachd.configure(DEFAULT={"transport_url": own})
        yield site
        site.check_logs()


def test_the_whole_service_runs_with_the_rights_of_the_page(narrow: Site) -> None:
    """A volume is mended, a body goes to quarantine, a case is replayed -> nothing is refused."""
    with narrow.detachd.serve() as service:
        service.ready()
        (act,) = narrow.arrange(REPEATABLE[:1])
        narrow.publish([act])
        narrow.peer.put(b'{"volume.attach.start": nonsense', "nova", "notifications.info")
        until(lambda: narrow.announced(act.volume_id) == START_END, 60)
        until(lambda: "held" in narrow.detachd.run("quarantine", "list", "-f", "json").stdout, 60)
        case = narrow.cases(act.volume_id)[0].case.case_id
        narrow.detachd.run("replay", "case", case, "--reason", "a trial of the rights")
        until(lambda: narrow.cases(act.volume_id)[0].case.attempts > 1, 60)
        assert service.readiness()[0] == 200
    assert "ACCESS_REFUSED" not in narrow.detachd.logs()


START_END = ["volume.force_detach.start", "volume.force_detach.end"]
