"""Which hosts may be writing to a volume, and which of its guests have lost their access. Pure.

The answer rests on the whole volume, whichever attachment a case is about: a second writer often
has no row at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from drivers.base import Connector
from drivers.control_plane import CinderAttachment, Server
from handlers.judgement.accounting import host_of, seen, unexplained_connections
from handlers.judgement.evidence import Absent, Fact, NoControl, Unknown, left_behind
from handlers.judgement.situation import ATTACHED, RESERVED, Situation, has_followed

MIGRATING = "migrating"
RUNS = frozenset({"active", "paused", "resized"})
"""The states in which a guest is there: it has its disks open, and writes when it goes on."""
MAY_RUN = RUNS | {"rescued", "error"}
"""A rescue gives the guest its volumes only where it keeps the devices, which no API shows; else
the guest runs from the disk for the rescue alone (Nova, nova/virt/libvirt/driver.py ``rescue``). A
server comes to ``error`` with its guest running as well as without one."""


def writers(s: Situation) -> tuple[str, ...]:
    """Return the hosts that may be writing: a live session, or access that a running guest has.

    A host is named as its connector, or the backend, names it; else by the name of its connection.
    The several initiator names of one connector are one host. A session does not count where Nova
    says that its guest was ended there.
    """
    guests = set(_hosts_of_guests(s))
    idle = s.own if s.guest_ended else ()
    using = (
        host
        for connection in seen(s)
        if connection not in idle and (host := host_of(s, connection))
        if connection.sessions or (connection.access and host in guests)
    )
    return tuple(dict.fromkeys(using))


def too_many(s: Situation) -> bool:
    """Tell whether two hosts may be writing although nothing permits that.

    A multiattach volume may have as many as it has rows; a live migration has its server on two.
    """
    return _excess(s) > 0


def beside_cinder(s: Situation) -> bool:
    """Tell whether only one host is too many, and may be Cinder's own: no server is on it."""
    return _excess(s) <= 1 and not set(writers(s)) <= _hosts_of_servers(s)


def beside_a_dead_host(s: Situation) -> bool:
    """Tell whether the excess is on hosts that a server has left and whose compute is not up.

    After an evacuation the row of a host that is dead may be left, and its session be listed.
    """
    left = {
        attachment.host for attachment in s.volume.attachments if left_behind(attachment, s.servers)
    }
    dead = {host for host in left if s.computes.get(host or "") is not True}
    return bool(dead.intersection(writers(s))) and _excess(s, dead) <= 0


def _excess(s: Situation, excluded: Set[str | None] = frozenset()) -> int:
    """Count the hosts that may be writing beyond those that are permitted, without ``excluded``.

    A move explains a second host of one server, not the host that another server is on.
    """
    using = set(writers(s)) - excluded
    if len(using) <= 1:
        return 0
    # Any number of hosts may write there, but each only with a row of its own.
    if s.volume.ref.multiattach:
        return _unexplained(s, excluded) - _moving(s)
    # The second count has no allowance: two hosts that each have a server of the volume are two
    # guests.
    return max(len(using) - _moving(s), len(using & _hosts_of_servers(s))) - 1


def _unexplained(s: Situation, excluded: Set[str | None]) -> int:
    """Count the hosts with a live session that no row explains, each row explaining one.

    A row whose host's connector was never seen may be that of any host. One that is only reserved
    has none, and one whose server has left its host explains no session there: multiattach lets two
    servers write, never one guest twice.
    """
    attachments = [
        r for r in s.volume.attachments if r.status != RESERVED and not left_behind(r, s.servers)
    ]
    in_session = [c for c in seen(s) if c.sessions and host_of(s, c) not in excluded]
    unexplained = unexplained_connections(s, attachments, in_session)
    return len({host_of(s, connection) for connection in unexplained})


def _moving(s: Situation) -> int:
    """Count the servers of the volume that are being moved, or may be, where Nova does not say."""
    attachments = [attachment.instance_id for attachment in s.volume.attachments]
    return sum(
        _is_moving(answer, attachments.count(instance_id))
        for instance_id, answer in s.servers.items()
    )


def _is_moving(answer: object, attachments: int) -> bool:
    match answer:
        case Fact(Server(task_state=task)):
            return task == MIGRATING or (task is not None and attachments > 1)
        case Unknown():
            return attachments > 1 and not isinstance(answer, NoControl)
        case _:
            return False


def lost_access(s: Situation) -> tuple[str, ...]:
    """Return the hosts whose guest runs with the volume, but which have no access on the backend.

    Where the backend has no connection at all, each of them; else those whose connector is known,
    if the driver can tell whose connection is whose.
    """
    lost = (
        attachment
        for attachment in s.volume.attachments
        if attachment.status == ATTACHED and _has_lost_access(s, attachment)
    )
    return tuple(dict.fromkeys(_guest_host(s, attachment) for attachment in lost))


def _has_lost_access(s: Situation, attachment: CinderAttachment) -> bool:
    server = _guest(s, attachment)
    if server is None or server.vm_state not in RUNS or server.compute_up is not True:
        return False
    # It is off by itself, or was off when it was resized. And of a client that only reads, Ceph
    # shows nothing.
    if server.powered_off or attachment.read_only:
        return False
    # The backend was seen and lets nobody in, so no name is needed to know that this host is not
    # in.
    if isinstance(s.backend, Absent):
        return True
    connector = _connector_of_guest(s, attachment, server)
    told_apart = isinstance(s.backend, Fact) and not s.nameless
    if not told_apart or connector is None or not connector.names():
        return False
    # A session whose access was revoked does not count: once it breaks, it does not come back.
    return not any(c.access and c.belongs_to(connector) for c in seen(s))


def _connector_of_guest(
    s: Situation, attachment: CinderAttachment, server: Server
) -> Connector | None:
    """Return the connector of the host that the guest is on, which its row may not have followed.

    Of bare metal and of vCenter the row has the host that is let in, which is no compute of Nova's.
    """
    if left_behind(attachment, s.servers) and _is_of_a_compute(s, attachment):
        return s.connectors.get(server.host or "")
    return _connector_of(s, attachment)


def _is_of_a_compute(s: Situation, attachment: CinderAttachment) -> bool:
    """Tell whether the row of a server that left its host names a compute of Nova's.

    One of the old way does, and stays on the host that it was made for.
    """
    return attachment.host in s.computes or not has_followed(attachment)


def _guest(s: Situation, attachment: CinderAttachment) -> Server | None:
    """Return the row's server: by its block device, or by the old one that names no row."""
    old = (
        attachment is s.attachment
        and not s.others
        and tuple(d.attachment_id for d in s.devices) == (None,)
    )
    return s.server if old else s.holder(attachment)


def _guest_host(s: Situation, attachment: CinderAttachment) -> str:
    server = _guest(s, attachment)
    here = (server.host if server else None) or attachment.host
    elsewhere = left_behind(attachment, s.servers) and not _is_of_a_compute(s, attachment)
    return (attachment.host if elsewhere else here) or "a host that no record names"


def _hosts_of_guests(s: Situation) -> Iterator[str]:
    for server in (answer.value for answer in s.servers.values() if isinstance(answer, Fact)):
        if server.block_devices and server.vm_state in MAY_RUN and server.host is not None:
            yield server.host


def _hosts_of_servers(s: Situation) -> set[str | None]:
    """Return the hosts of the servers that have the volume, whatever they are doing."""
    answers = (answer.value for answer in s.servers.values() if isinstance(answer, Fact))
    return {server.host for server in answers if server.block_devices}


def _connector_of(s: Situation, attachment: CinderAttachment) -> Connector | None:
    """Return the connector of the host that a row is for: by its own record, then its server's."""
    if attachment is s.attachment and s.case.connector is not None:
        return s.case.connector
    answer = s.servers.get(attachment.instance_id or "")
    here = answer.value.host if isinstance(answer, Fact) else None
    return s.connectors.get(attachment.host or here or "")
