"""Who is on the volume, and which record says why: every party is explained, or it is not. Pure.

The answer rests on the whole volume, whichever attachment a case is about.

1. An access or a session is explained by an attachment that has, or may have, that host. One
   whose server is at rest on no host, or deleted, has none unless its record or a message names it.
2. An attachment is explained by a block device of its own server, or by what has none in Nova: a
   client that is no server, or a resize to another cell that may be reverted.
3. A block device is explained by the row that it names; one that names none, by a row of its
   server that no other block device names.
4. A guest is explained by a row of its server, where Nova says that the server is on that host or
   does not say where it is: one that was evacuated off it may be running there twice.
5. Unknown is not unexplained: an attachment whose host cannot be told may explain one connection,
   and one whose server Nova did not answer for, or is at work on, is nobody's fault yet.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from drivers.base import Connection, Connector
from drivers.control_plane import BlockDevice, CinderAttachment, Server
from handlers.judgement.evidence import Absent, Fact, Holding, left_behind
from handlers.judgement.situation import Situation

HOST_NAME = re.compile(r"(?!(?:iqn|nqn|eui|naa)\.|[0-9.]+$)[a-z0-9._-]+", re.IGNORECASE)
ATTACHED, RESERVED, RESIZED = "attached", "reserved", "resized"
NO_HOST = "a host that no record names"
WWPN = re.compile("([0-9a-f]{2}:?){7}[0-9a-f]{2}", re.IGNORECASE)
"""The name of a Fibre Channel port, as arrays write it."""


class Kind(enum.Enum):
    """What a party is."""

    ACCESS = "access"
    SESSION = "live session"
    ATTACHMENT = "attachment"
    BLOCK_DEVICE = "block device"
    GUEST = "guest"


@dataclasses.dataclass(frozen=True, slots=True)
class Party:
    """One that holds or claims a part of the volume; ``words`` name it for a person."""

    kind: Kind
    words: str


def unexplained(s: Situation) -> tuple[Party, ...]:
    """Return every party of the volume that no record explains."""
    return (
        *_connections(s),
        *_block_devices(s),
        *_guests(s, asked_hosts(s)),
        *_attachments(s),
    )


def may_hold(s: Situation) -> tuple[Party, ...]:
    """Return those that hold the volume, or may: all but the attachments, which are records."""
    return tuple(party for party in unexplained(s) if party.kind is not Kind.ATTACHMENT)


def other_users(s: Situation) -> tuple[Party, ...]:
    """Return the servers that use the volume, or may, in a way that no row of theirs explains.

    The subject's own server is one where it was evacuated off a host that it may still be using.
    """
    return (
        *_block_devices(s, besides=s.instance_id),
        *_guests(s, asked_hosts(s) if s.instance_id else s.elsewhere, besides=s.instance_id),
    )


# -- accesses and sessions -------------------------------------------------------------------------


def seen(s: Situation) -> tuple[Connection, ...]:
    """Return every connection that the backend is seen to have."""
    return s.backend.value.connections if isinstance(s.backend, Fact) else ()


def unexplained_connections(
    s: Situation, attachments: Iterable[CinderAttachment], connections: Iterable[Connection]
) -> tuple[Connection, ...]:
    """Return those of the connections that none of these attachments explains.

    An attachment explains all connections of its host. A host whose connector was never seen, and
    which the backend does not name, may be that of one host's connections; and any host may be,
    where the driver cannot tell hosts. Of what is left, the sessions count first as too much.
    """
    connections = tuple(connections)
    expected = [
        connectors
        for attachment in attachments
        if (connectors := connectors_of(s, attachment)) or _may_be_anywhere(s, attachment)
    ]
    known = [] if s.nameless else [c for connectors in expected for c in connectors]
    left = [c for c in connections if not any(c.belongs_to(connector) for connector in known)]
    missing = _hosts_not_found(s, expected, connections)
    ports = [c for c in left if _names_a_port(s, c)]
    if missing and ports:  # they may all be those of one host
        left, missing = [c for c in left if c not in ports], missing[1:]
    # The last ones are spared first, so an access is spared before a session, which a guest may
    # use.
    left.sort(key=lambda connection: not connection.sessions)
    spared = _spared(s, left, missing)
    return tuple(c for c in left if host_of(s, c) not in spared)


def _may_be_anywhere(s: Situation, attachment: CinderAttachment) -> bool:
    """Tell whether an attachment of which no host is known may have one all the same.

    One of a server at rest has the host of its server, and none where that is on none; so has one
    of a deleted server. A task of Nova's may be giving it a host, and of other clients nothing is
    known.
    """
    answer = s.servers.get(attachment.instance_id or "")
    if isinstance(answer, Fact):
        return answer.value.task_state is not None
    return not isinstance(answer, Absent)


def _hosts_not_found(
    s: Situation, expected: Iterable[tuple[Connector, ...]], connections: tuple[Connection, ...]
) -> list[tuple[str, ...]]:
    """Return the hosts of attachments whose connector was never seen and that no connection names.

    Each is given by its names, of which any may be right, or by none where none is known. The
    attachments of one host are one. Where the driver cannot tell hosts, no host is found.
    """
    unseen = [
        connectors
        for connectors in expected
        if s.nameless or not any(connector.names() for connector in connectors)
    ]
    missing = [
        tuple(connector.host or "" for connector in connectors)
        for connectors in unseen
        if s.nameless
        or not any(connection.belongs_to(c) for connection in connections for c in connectors)
    ]
    return [*dict.fromkeys(names for names in missing if names), *(m for m in missing if not m)]


def _spared(
    s: Situation, left: Sequence[Connection], missing: Iterable[tuple[str, ...]]
) -> set[str]:
    """Return the hosts of these connections that may be those of attachments, the last ones first.

    A host that the backend tells by name is not that of an attachment on another one.
    """
    spared: set[str] = set()
    for names in missing:
        may_be = (c for c in reversed(left) if s.nameless or _may_be_named(c.host, names))
        hosts = (host for c in may_be if (host := host_of(s, c)) not in spared)
        spared.update(itertools.islice(hosts, 1))
    return spared


def _may_be_named(told: str | None, names: tuple[str, ...]) -> bool:
    """Tell whether what the backend tells of a host may mean one of these.

    It may tell the short name or the full one, in any case, with words of its own beside it; and
    what has not the form of a host's name (an initiator, an address) says nothing of it.
    """
    is_name = told is not None and HOST_NAME.fullmatch(told) and not WWPN.fullmatch(told)
    if told is None or not names or not is_name:
        return True
    # Whole words only: "compute1" is not found in "compute10".
    short = (re.escape(name.partition(".")[0]) for name in names)
    return any(re.search(rf"(?<![a-z0-9]){n}(?![a-z0-9])", told, re.IGNORECASE) for n in short)


def _names_a_port(s: Situation, connection: Connection) -> bool:
    """Tell whether nothing but a Fibre Channel port is known of it, of which a host has several."""
    return connection.host is None and bool(WWPN.fullmatch(host_of(s, connection)))


def host_of(s: Situation, connection: Connection) -> str:
    """Return the host of a connection, as its connector names it or the backend does."""
    own = [(c.host or s.host, c) for c in (s.case.connector, s.connector) if c is not None]
    connectors = [*s.connectors.items(), *own]
    hosts = (host for host, c in connectors if host and connection.belongs_to(c))
    return next(hosts, None) or connection.host or connection.name


def row_of(s: Situation, connection: Connection) -> str | None:
    """Return the attachment of whose host this connection is, where the driver can tell hosts."""
    own = (
        row.attachment_id
        for row in s.volume.attachments
        if any(connection.belongs_to(c) for c in connectors_of(s, row))
    )
    return None if s.nameless else next(own, None)


def hosts_let_in(s: Situation) -> tuple[str, ...]:
    """Return every host that has a connection."""
    return tuple(dict.fromkeys(host_of(s, connection) for connection in seen(s)))


def servers_that_hold(s: Situation) -> tuple[str, ...]:
    """Return in words each server that has a block device for the volume, or may be using it."""
    holding = (
        f"server {server.instance_id}" for server in servers_found(s) if server.block_devices
    )
    guests = (party.words for party in _guests(s, asked_hosts(s)))
    return tuple(dict.fromkeys((*holding, *guests)))


def unexplained_hosts(s: Situation) -> tuple[str, ...]:
    """Return the hosts that no attachment explains and that can be told by a name Nova may know."""
    left = unexplained_connections(s, s.volume.attachments, seen(s))
    hosts = (host_of(s, c) for c in left)
    return tuple(dict.fromkeys(host for host in hosts if host not in {c.name for c in left}))


def hosts_let_go(s: Situation) -> tuple[str, ...]:
    """Return the hosts whose access ends where the attachment is released.

    Where the backend cannot be seen, the host of the attachment; its own name where none is known,
    none where none was ever let in.
    """
    if s.blind:
        return () if s.never_let_in else (s.attached_host or NO_HOST,)
    every = seen(s) if s.connector is None and s.sole else ()
    return tuple(dict.fromkeys(host_of(s, connection) for connection in (*s.own, *every)))


def asked_of_hosts_let_go(s: Situation) -> tuple[Holding, ...]:
    """Return what Nova said of the hosts whose access ends where the attachment is released."""
    going = {*hosts_let_go(s), s.attached_host}
    elsewhere = (asked for asked in s.elsewhere if asked.host in going)
    return (*((s.holding,) if s.holding else ()), *elsewhere)


def let_go_unproven(s: Situation) -> tuple[str, ...]:
    """Return the hosts that lose access by a release and of which Nova did not list the users.

    Of a compute that is down Nova lists them only where a person says that its host is off.
    """
    listed = {h.host for h in asked_of_hosts_let_go(s) if _is_listed(h)}
    return tuple(host for host in hosts_let_go(s) if host not in listed)


def _is_listed(asked: Holding) -> bool:
    return isinstance(asked.holders, Fact)


def has_unexplained_connection(s: Situation) -> bool:
    """Tell whether the backend has a connection that no attachment explains."""
    return bool(unexplained_connections(s, s.volume.attachments, seen(s)))


def _connections(s: Situation) -> Iterator[Party]:
    for connection in unexplained_connections(s, s.volume.attachments, seen(s)):
        kind = Kind.SESSION if connection.sessions else Kind.ACCESS
        yield Party(kind, f"{kind.value} of {host_of(s, connection)}")


def connectors_of(s: Situation, attachment: CinderAttachment) -> tuple[Connector, ...]:
    """Return the connectors of the hosts that a row is for, or its guest is on, if any is known.

    Of a host whose connector was never seen only its name is known, which some backends have too.

    A row of the old way stays on the host that it was made for when its server is migrated. Of
    several rows of one server at most one is on the server's host, and nothing says which.
    """
    server = _server(s, attachment)
    if kept_for_a_revert(s, attachment):
        return ()
    if server is not None and attachment.host is None and _is_at_rest_on_no_host(server):
        return ()
    subject = attachment is s.attachment
    own = (s.case.connector,) if subject and s.case.connector else ()
    hosts = [] if own else [attachment.host or _host_without_record(s, attachment) or ""]
    if left_behind(attachment, s.servers) and explains_attachment(s, attachment):
        hosts.append((server.host if server else None) or "")
    return (*own, *(s.connectors.get(host, Connector(host=host)) for host in hosts if host))


def _is_at_rest_on_no_host(server: Server) -> bool:
    return server.task_state is None and server.host is None


def _host_without_record(s: Situation, attachment: CinderAttachment) -> str | None:
    """Return the host of an attachment whose record names none: its server's, or as heard.

    Of several of one server the messages tell best; at rest the server is on one host alone.
    """
    server = _server(s, attachment)
    heard = s.case.host if attachment is s.attachment else None
    if server is None:
        return heard
    alone = [r.instance_id for r in s.volume.attachments].count(attachment.instance_id) == 1
    if alone:
        return server.host or heard
    return heard or (server.host if server.task_state is None else None)


# -- attachments -----------------------------------------------------------------------------------


def _attachments(s: Situation) -> Iterator[Party]:
    for attachment in s.volume.attachments:
        if is_unexplained(s, attachment):
            yield Party(Kind.ATTACHMENT, in_words(attachment))


def attachments(s: Situation) -> tuple[str, ...]:
    """Return in words each row of the volume, whether something explains it or not."""
    return tuple(in_words(attachment) for attachment in s.volume.attachments)


def in_words(attachment: CinderAttachment) -> str:
    """Name an attachment for a person."""
    owner = f"server {attachment.instance_id}" if attachment.instance_id else "no server"
    return f"attachment {attachment.attachment_id} of {owner}"


def is_unexplained(s: Situation, attachment: CinderAttachment | None) -> bool:
    """Tell whether there is such a row, and nothing of Nova's explains it."""
    if attachment is None:
        return False
    answer = s.servers.get(attachment.instance_id or "")
    if isinstance(answer, Absent):
        return True
    at_rest = isinstance(answer, Fact) and answer.value.task_state is None
    explained = explains_attachment(s, attachment) or kept_for_a_revert(s, attachment)
    return at_rest and not explained


def kept_for_a_revert(s: Situation, attachment: CinderAttachment) -> bool:
    """Tell whether this may be the row that Nova keeps until a resize to another cell is confirmed.

    It has replaced the source's row, is only reserved, and only a block device in the source's cell
    names it, which Nova's API does not show; a revert needs it (nova/compute/manager.py
    ``prep_snapshot_based_resize_at_source``). The server has another row on its new host.
    """
    server = _server(s, attachment)
    if (
        server is None
        or server.vm_state != RESIZED
        or attachment.attachment_id in {device.attachment_id for device in server.block_devices}
    ):
        return False
    beside = [r for r in s.volume.attachments if r is not attachment]
    in_use = any(r.instance_id == attachment.instance_id and r.status == ATTACHED for r in beside)
    only_reserved = attachment.status == RESERVED and not attachment.has_connection_info
    return in_use and only_reserved


def explains_attachment(s: Situation, attachment: CinderAttachment) -> bool:
    """Tell whether a block device of its server names the row, or names none and is the row's."""
    server = _server(s, attachment)
    if server is None:
        return False
    named = {device.attachment_id for device in server.block_devices}
    of_old = None in named and attachment.attachment_id in unnamed(s, server)
    return attachment.attachment_id in named or of_old


def unnamed(s: Situation, server: Server) -> tuple[str, ...]:
    """Return the rows of a server that none of its block devices names."""
    named = {device.attachment_id for device in server.block_devices}
    mine = (r for r in s.volume.attachments if r.instance_id == server.instance_id)
    return tuple(r.attachment_id for r in mine if r.attachment_id not in named)


# -- block devices and guests ----------------------------------------------------------------------


def _block_devices(s: Situation, besides: str | None = None) -> Iterator[Party]:
    for server in servers_found(s):
        for device in server.block_devices:
            if server.instance_id != besides and not explains_device(s, server, device):
                yield Party(Kind.BLOCK_DEVICE, f"block device of server {server.instance_id}")


def explains_device(s: Situation, server: Server, device: BlockDevice) -> bool:
    """Tell whether a row explains a block device of this server."""
    if device.attachment_id is None:
        return bool(unnamed(s, server))
    rows = {attachment.attachment_id for attachment in s.volume.attachments}
    return device.attachment_id in rows


def asked_hosts(s: Situation) -> tuple[Holding, ...]:
    """Return what Nova said of each host that it was asked about."""
    return (*((s.holding,) if s.holding else ()), *s.elsewhere)


def _guests(s: Situation, hosts: Iterable[Holding], besides: str | None = None) -> Iterator[Party]:
    mine = {besides, *(attachment.instance_id for attachment in s.volume.attachments)}
    for host in hosts:
        found = host.holders.value if isinstance(host.holders, Fact) else ()
        for instance_id in found:
            if instance_id not in mine or not may_be_on(s, instance_id, host.host):
                yield Party(Kind.GUEST, f"server {instance_id} on {host.host}")


def may_be_on(s: Situation, instance_id: str, host: str) -> bool:
    """Tell whether a server is on this host by Nova's record, or Nova did not say where it is."""
    answer = s.servers.get(instance_id)
    if isinstance(answer, Fact):
        return answer.value.host == host
    return not isinstance(answer, Absent)


def servers_found(s: Situation) -> Iterator[Server]:
    """Yield the servers that Nova showed."""
    yield from (answer.value for answer in s.servers.values() if isinstance(answer, Fact))


def _server(s: Situation, attachment: CinderAttachment) -> Server | None:
    answer = s.servers.get(attachment.instance_id or "")
    return answer.value if isinstance(answer, Fact) else None
