"""A second region in the lab's Keystone: a Nova that has the same hosts and none of the servers.

Its nova-api is real, with a database of its own. Its compute hosts have the names of the lab's, as
in clouds that number their hosts alike everywhere. They are up, and records alone: no nova-compute
is behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.lab.daemons import NovaApi
from tests.lab.databases import LabDatabase
from tests.lab.openstack import OpenStack
from tests.lab.rest import Rest

OTHER_REGION = "RegionTwo"
HOSTS = ("services", "compute_nodes")
HEARTBEAT = (
    "CREATE EVENT nova.heartbeat ON SCHEDULE EVERY 5 SECOND "
    "DO UPDATE nova.services SET last_seen_up = UTC_TIMESTAMP()"
)


@contextmanager
def other_region(lab: OpenStack) -> Iterator[None]:
    """Have it in the catalogue within; blocks for some ten seconds until it is there."""
    with ExitStack() as stack:
        database = stack.enter_context(LabDatabase())
        lab.load(database)
        database.load(lab.mariadb.rows("nova_api", "host_mappings"), database="nova_api")
        database.load(lab.mariadb.rows("nova", *HOSTS), database="nova")
        database.execute("SET GLOBAL event_scheduler = ON", HEARTBEAT)
        places = {f"{name}_database": database.address(name) for name in ("nova", "nova_api")}
        api = stack.enter_context(NovaApi(lab.daemons["nova-api"].values | places))
        stack.enter_context(_in_the_catalogue(lab.rest(), f"{api.url}/v2.1"))
        yield


@contextmanager
def _in_the_catalogue(admin: Rest, url: str) -> Iterator[None]:
    (nova,) = admin.do("identity", "GET", "/services?type=compute")["services"]
    admin.do("identity", "POST", "/regions", {"region": {"id": OTHER_REGION}})
    made = [_endpoint(admin, nova["id"], way, url) for way in ("public", "internal")]
    try:
        yield
    finally:
        for endpoint in made:
            admin.do("identity", "DELETE", f"/endpoints/{endpoint['id']}")
        admin.do("identity", "DELETE", f"/regions/{OTHER_REGION}")


def _endpoint(admin: Rest, service_id: str, interface: str, url: str) -> dict[str, Any]:
    wanted = {"service_id": service_id, "interface": interface, "url": url}
    body = {"endpoint": wanted | {"region_id": OTHER_REGION}}
    made: dict[str, Any] = admin.do("identity", "POST", "/endpoints", body)["endpoint"]
    return made
