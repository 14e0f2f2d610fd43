"""Whether Cinder and Nova let detachd read what a look reads: each read is made once.

All of these are GET: nothing is changed. What a plan calls (os-reserve, os-force_detach, the DELETE
of an attachment ...) cannot be tried so: Cinder looks for the volume before it asks its policy, and
of a volume that exists the call would be made. For those the roles of the user tell.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator

from consumer.cloud import ControlPlane
from consumer.findings import Finding, error, good, note, warning
from drivers.control_plane import Cinder, Nova
from drivers.errors import OutsideError
from drivers.openstack.place import Place

LOOK_SECONDS = 20.0
ADMIN = "admin"
WRITES = (
    "what a plan calls is not tried, as it would change something: by the default policies the "
    "role admin is enough"
)

Read = Callable[[], object]


def reads(clouds: ControlPlane) -> Iterator[Finding]:
    """Yield what is found of each read that a look makes. Blocks for each of them."""
    volume_id = yield from _of_cinder(clouds.cinder)
    yield from _of_nova(clouds.nova, volume_id or str(uuid.uuid4()))


def roles(places: tuple[Place, Place]) -> Iterator[Finding]:
    """Yield which roles the user has by its token, where the token says that."""
    for place in places:
        named = ", ".join(sorted(place.roles))
        if ADMIN in place.roles:
            yield good(place.section, f"its user has the roles {named}; {WRITES}")
        elif place.roles:
            yield warning(
                place.section,
                f"its user has the roles {named}, and not {ADMIN}: what a plan calls may be "
                "refused, and what a look reads may be left out",
                f"give it the role {ADMIN}, or see to it that the policies of {place.section} "
                "permit it all that docs/openstack.md lists",
            )


def _of_cinder(cinder: Cinder) -> Generator[Finding, None, str | None]:
    """Yield what Cinder lets us read; return a volume of its, if it shows one."""
    limit = LOOK_SECONDS
    asked: dict[str, Read] = {
        "a volume that does not exist": lambda: cinder.volume(
            str(uuid.uuid4()), timeout_seconds=limit
        ),
        "the attachments of all projects": lambda: cinder.attachments_in(
            "attached", after=None, limit=1, timeout_seconds=limit
        ),
    }
    found = None
    for status in ("in-use", "available"):
        try:
            listed = cinder.volumes_in(status, after=None, limit=1, timeout_seconds=limit)
        except OutsideError as away:
            yield _refused("cinder", "the volumes of all projects", away)
            return None
        found = found or (listed[0].volume_id if listed else None)
    if found is not None:
        volume_id = found
        asked["a volume with its attachments and its service"] = lambda: cinder.volume(
            volume_id, timeout_seconds=limit
        )
    yield from _tried("cinder", asked)
    return found


def _of_nova(nova: Nova, volume_id: str) -> Iterator[Finding]:
    limit = LOOK_SECONDS
    try:
        page = nova.servers(after=None, limit=1, timeout_seconds=limit)
    except OutsideError as away:
        yield _refused("nova", "the servers of all projects", away)
        return
    asked: dict[str, Read] = {
        "what is on record of a deleted server": lambda: nova.deleted_server(
            str(uuid.uuid4()), timeout_seconds=limit
        )
    }
    if not page.servers:
        yield note("nova", "it shows no server, so what a look reads of one was not tried")
        yield from _tried("nova", asked)
        return
    server_id = page.servers[0].instance_id
    host: str | None = None
    try:
        server = nova.server(server_id, volume_id, timeout_seconds=limit)
        host = server.host if server else None
    except OutsideError as away:
        yield _refused("nova", "a server with its host and its block devices", away)
    asked["the actions of a server"] = lambda: nova.swapping(server_id, timeout_seconds=limit)
    if host is not None:
        on = host
        asked["who uses a volume on a host"] = lambda: nova.holders(
            volume_id, on, timeout_seconds=limit
        )
    yield from _tried("nova", asked)


def _tried(area: str, asked: dict[str, Read]) -> Iterator[Finding]:
    """Make each read; yield those that were refused, and in one line those that were not."""
    refused = 0
    for what, read in asked.items():
        try:
            read()
        except OutsideError as away:
            refused += 1
            yield _refused(area, what, away)
    if refused < len(asked):
        done = len(asked) - refused
        yield good(area, f"it lets detachd read what a look reads: {done} of {len(asked)} kinds")


def _refused(area: str, what: str, away: OutsideError) -> Finding:
    return error(
        area,
        f"{what} cannot be read: {away}",
        "the user needs the role admin, or a policy that permits it (docs/openstack.md)",
    )
