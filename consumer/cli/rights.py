"""Whether Cinder and Nova let detachd read what a look reads, and call what a plan calls.

Each read is made once. Of the writes only Nova's detach can be tried without effect, and is where a
person asks for it: Nova looks for the server, asks its policy, and only then looks for the volume
(``delete`` of nova/api/openstack/compute/volume_attachments.py), so that it is asked for a volume
that nobody has.
Cinder looks for the volume or the attachment before it asks its policy: one that does not exist is
404 to everybody, and of one that exists the call would be made.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator

from consumer.cloud import ControlPlane
from consumer.findings import Finding, error, good, note, warning
from drivers.control_plane import Cinder, Nova
from drivers.errors import NotFoundError, OutsideError, PermanentError
from drivers.openstack.place import Place

LOOK_SECONDS = 20.0
PERMIT = "the user needs the role admin, or a policy that permits it (docs/openstack.md)"
ADMIN = "admin"
WRITES = "by the default policies admin is enough for what a plan calls"
UNKNOWN_WRITES = (
    "whether it permits os-reserve, os-unreserve, os-roll_detaching, os-terminate_connection, "
    "os-force_detach, os-complete and the DELETE of an attachment is not known: it would tell only "
    "by doing it"
)

NOT_TRIED = (
    "whether it permits a detach was not asked; `detachd doctor --try-detach` asks it to detach a "
    "volume that nobody has"
)

Read = Callable[[], object]


def reads(clouds: ControlPlane, *, try_detach: bool = False) -> Iterator[Finding]:
    """Yield what is found of each read that a look makes. Blocks for each of them.

    With ``try_detach`` Nova is asked to detach a volume that nobody has, too.
    """
    volume_id = yield from _of_cinder(clouds.cinder)
    server_id = yield from _of_nova(clouds.nova, volume_id or str(uuid.uuid4()))
    if server_id is not None:
        yield _detach(clouds.nova, server_id) if try_detach else note("nova", NOT_TRIED)


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
    yield note("cinder", UNKNOWN_WRITES)
    return found


def _of_nova(nova: Nova, volume_id: str) -> Generator[Finding, None, str | None]:
    limit = LOOK_SECONDS
    try:
        page = nova.servers(after=None, limit=1, timeout_seconds=limit)
    except OutsideError as away:
        yield _refused("nova", "the servers of all projects", away)
        return None
    asked: dict[str, Read] = {
        "what is on record of a deleted server": lambda: nova.deleted_server(
            str(uuid.uuid4()), timeout_seconds=limit
        )
    }
    if not page.servers:
        yield note("nova", "it shows no server, so what a look reads of one was not tried")
        yield from _tried("nova", asked)
        return None
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
    return server_id


def _detach(nova: Nova, server_id: str) -> Finding:
    """Ask Nova to detach a volume that nobody has: 403 where it is forbidden, else 404.

    The server is looked at afterwards: without it Nova answers 404 too.
    """
    request_id, nobodys, limit = f"req-{uuid.uuid4()}", str(uuid.uuid4()), LOOK_SECONDS
    why = "Nova accepted the detach of a volume that does not exist"
    try:
        nova.detach(server_id, nobodys, request_id=request_id, timeout_seconds=limit)
    except NotFoundError:
        return _denied(nova, server_id, nobodys)
    except PermanentError as refused:
        return error("nova", f"it refuses detachd a detach: {refused}", PERMIT)
    except OutsideError as away:
        why = str(away)
    return note("nova", f"whether it permits a detach is not known: {why}")


def _denied(nova: Nova, server_id: str, volume_id: str) -> Finding:
    """Return what a 404 means, by whether the server is still there."""
    unknown = "whether it permits a detach is not known: "
    try:
        server = nova.server(server_id, volume_id, timeout_seconds=LOOK_SECONDS)
    except OutsideError as away:
        return note("nova", f"{unknown}{away}")
    if server is None:
        return note("nova", f"{unknown}server {server_id} was deleted meanwhile")
    return good("nova", "it permits a detach: it was asked to detach a volume that nobody has")


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
        PERMIT,
    )
