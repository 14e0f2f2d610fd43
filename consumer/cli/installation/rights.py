"""Whether Cinder and Nova let detachd read what a look reads, and call what a plan calls.

Each read is made once. Of the writes only Nova's detach can be tried without effect, and is where a
person asks for it: Nova looks for the server, asks its policy, and only then looks for the volume
(``delete`` of nova/api/openstack/compute/volume_attachments.py), so that it is asked for a volume
that nobody has.
Cinder looks for the volume or the attachment before it asks its policy (cinder/volume/api.py,
cinder/api/v3/attachments.py): one that does not exist is 404 to everybody, and of one that exists
the call would be made. Its compare-and-swaps find nothing to change on a volume in another status,
but one that is in use may come to that status between our look and the call. So they are tried on a
volume alone that a person made for it. The other calls of a plan end a connection, or need an
attachment: they are not tried.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator, Sequence

from consumer.cloud import ControlPlane
from consumer.findings import Finding, Level, error, good, note, warning
from drivers.control_plane import Cinder, Nova
from drivers.errors import ConflictError, NotFoundError, OutsideError, PermanentError
from drivers.openstack.place import Place

LOOK_SECONDS = 20.0
PERMIT = "the user needs the role admin, or a policy that permits it (docs/openstack.md)"
ADMIN, SERVICE = "admin", "service"
WRITES = "by the default policies admin is enough for what a plan calls"
UNKNOWN_WRITES = (
    "whether it permits os-terminate_connection, os-force_detach, os-complete and the DELETE of an "
    "attachment is not known: it would tell only by doing it"
)
NOT_TRIED_WRITES = (
    "whether it permits os-reserve, os-unreserve and os-roll_detaching was not asked; `detachd "
    "doctor --try-writes VOLUME` asks it on a volume that you made for that"
)
TRIAL_MARK = "detachd_trial"
TO_MAKE_ONE = (
    f"make one: openstack volume create --size 1 --property {TRIAL_MARK}=true detachd-trial"
)
NOT_GIVEN_BACK = (
    "whether it permits os-unreserve is not known: it is tried only on a volume that detachd has "
    "surely reserved itself"
)

NOT_TRIED = (
    "whether it permits a detach was not asked; `detachd doctor --try-detach` asks it to detach a "
    "volume that nobody has"
)

Read = Callable[[], object]


def reads(
    clouds: ControlPlane, *, try_detach: bool = False, try_writes: str | None = None
) -> Iterator[Finding]:
    """Yield what is found of each read that a look makes. Blocks for each of them.

    With ``try_detach`` Nova is asked to detach a volume that nobody has, too. ``try_writes`` is a
    volume that a person made for it, which is reserved and given back.
    """
    volume_id = yield from _of_cinder(clouds.cinder)
    if try_writes is not None:
        yield from _writes(clouds.cinder, try_writes)
    else:
        yield note("cinder", NOT_TRIED_WRITES)
    yield note("cinder", UNKNOWN_WRITES)
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


def of_service_user(clouds: ControlPlane) -> Iterator[Finding]:
    """Yield whether the user of the service token gets one, and its roles. Blocks for Keystone."""
    try:
        named = clouds.service_roles and clouds.service_roles(LOOK_SECONDS)
    except OutsideError as away:
        yield error("service_user", f"it gets no service token: {away}")
        return
    if not named:
        return
    told = f"its user has the roles {', '.join(sorted(named))}"
    if SERVICE in named:
        yield good("service_user", f"{told}; by default Cinder takes a token of the role {SERVICE}")
        return
    yield warning(
        "service_user",
        f"{told}, and not {SERVICE}, which is the default of Cinder's service_token_roles",
        f"give it the role {SERVICE}, or see which roles [keystone_authtoken] of cinder.conf names",
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
    # One that is in use first: only it has attachments to be read.
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


def _writes(cinder: Cinder, volume_id: str) -> Iterator[Finding]:
    """Reserve a volume that was made for it, and give it back; each call tells its policy."""
    if (unfit := _unfit(cinder, volume_id)) is not None:
        why, todo = unfit
        yield warning("cinder", f"nothing was written to {volume_id}: {why}", todo)
        return
    # Harmless on a volume that is available: it changes one that is detaching alone.
    yield _written("os-roll_detaching", cinder.roll_detaching, volume_id)
    yield from _reserved_and_given_back(cinder, volume_id)
    if (unfit := _unfit(cinder, volume_id)) is not None:
        why, todo = unfit
        yield error("cinder", f"volume {volume_id} is not as it was before: {why}", todo)


def _reserved_and_given_back(cinder: Cinder, volume_id: str) -> Sequence[Finding]:
    """Make both calls before anything is told of them.

    The second only where surely we have reserved it: it may be somebody else who has by now, an
    attach of Nova or another doctor.
    """
    reserved = _written("os-reserve", cinder.reserve, volume_id)
    if reserved.level is not Level.GOOD:
        return reserved, note("cinder", NOT_GIVEN_BACK)
    return reserved, _written("os-unreserve", cinder.unreserve, volume_id)


def _unfit(cinder: Cinder, volume_id: str) -> tuple[str, str] | None:
    """Return why the volume is not one to be tried on, and what to do; None where it is."""
    try:
        volume = cinder.volume(volume_id, timeout_seconds=LOOK_SECONDS)
    except OutsideError as away:
        return str(away), ""
    if volume is None:
        return "there is no such volume", TO_MAKE_ONE
    # A mark that a person has set, so that nobody's volume is reserved by a wrong id.
    if TRIAL_MARK not in volume.marks:
        return f"its metadata has no {TRIAL_MARK}=true, so it may be somebody's", TO_MAKE_ONE
    number = len(volume.attachments)
    if volume.status == "attaching" and not number:
        # As a doctor leaves it that was killed in the middle, or an answer that got lost.
        why = "it is attaching with 0 attachments, as while it is tried, or where that was stopped"
        return why, f"if nobody uses it: openstack volume set --state available {volume_id}"
    if volume.status != "available" or number:
        return f"it is {volume.status} with {number} attachments", TO_MAKE_ONE
    return None


def _written(name: str, call: Callable[..., None], volume_id: str) -> Finding:
    """Make the call: 403 is a refusal, and so it is known only where it is that or a success."""
    request_id = f"req-{uuid.uuid4()}"
    try:
        call(volume_id, request_id=request_id, timeout_seconds=LOOK_SECONDS)
    except (ConflictError, NotFoundError) as changed:  # by somebody else since we looked
        return note("cinder", f"whether it permits {name} is not known: {changed}")
    except PermanentError as refused:
        return error("cinder", f"it refuses detachd {name}: {refused}", PERMIT)
    except OutsideError as away:
        return note("cinder", f"whether it permits {name} is not known: {away}")
    return good("cinder", f"it permits {name}: it was tried on volume {volume_id}")


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
        # Nova asks its policy before it looks for the volume: a 404 means that the policy let it
        # pass.
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
