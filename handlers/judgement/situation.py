"""What the evidence comes to for the one attachment that a case is about: facts, no judgement.

Which of the volume's rows that is, and who else is on the volume or on its host, is decided here
too. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from drivers.base import ClientInstance, Connection, Connector
from drivers.control_plane import BlockDevice, CinderAttachment, Server, Volume
from handlers import intents
from handlers.case import Case, OffWord
from handlers.judgement.evidence import (
    Absent,
    BackendEvidence,
    Blind,
    Evidence,
    Fact,
    Holding,
    ProtocolEvidence,
    ReachEvidence,
    ServerEvidence,
    SwapEvidence,
    holder,
    left_behind,
)
from handlers.judgement.policy import LateAttach
from handlers.notification import Operation

ATTACHED, RESERVED = "attached", "reserved"


def subject_of(
    case: Case, volume: Volume, servers: Mapping[str, ServerEvidence]
) -> tuple[CinderAttachment | None, bool]:
    """Return the row of the case's attachment, None where it has none; and whether several may be.

    A case whose messages named an attachment is about that row and no other. Else an attach is
    about the row that is not attached. A detach is about one that is more than reserved: what is
    only reserved is deleted by Cinder's API, whose message names it (cinder/volume/api.py
    ``attachment_delete``); of two of one server, about the one that the server has left; and of
    several servers', about that of the only one that is deleted.
    """
    if case.attachment_id is not None:
        # A row that is gone leaves the case without a row: it is not about one of the others then.
        own = (
            attachment
            for attachment in volume.attachments
            if attachment.attachment_id == case.attachment_id
        )
        return next(own, None), False
    candidates = [
        attachment
        for attachment in volume.attachments
        if case.instance_id in (None, attachment.instance_id)
    ]
    match case.operation:
        case Operation.ATTACH:
            candidates = [
                attachment for attachment in candidates if attachment.status != ATTACHED
            ] or candidates
        case Operation.DETACH:
            candidates = [
                attachment for attachment in candidates if attachment.status != RESERVED
            ] or candidates
            # In transition the request may be for the other row.
            at_rest = volume.status == "in-use"
            left = _on_the_source(candidates, servers) or _of_a_deleted_server(candidates, servers)
            candidates = (left if at_rest else []) or candidates
    return (candidates[0] if len(candidates) == 1 else None), len(candidates) > 1


def _on_the_source(
    attachments: Sequence[CinderAttachment], servers: Mapping[str, ServerEvidence]
) -> list[CinderAttachment]:
    """Return the row of a live migration's source, where the server is on the destination.

    Cinder's ``volume.detach.start`` lists both rows and does not say which of them goes. Nova names
    the one that stays, on a host other than that of the one that goes.
    """
    unnamed = [attachment for attachment in attachments if holder(attachment, servers) is None]
    attached = all(attachment.status == ATTACHED for attachment in attachments)
    one_server = len({attachment.instance_id for attachment in attachments}) == 1
    moved = attached and one_server and len(unnamed) == 1
    return unnamed if moved and left_behind(unnamed[0], servers) else []


def _of_a_deleted_server(
    attachments: Sequence[CinderAttachment], servers: Mapping[str, ServerEvidence]
) -> list[CinderAttachment]:
    """Return the row whose server is deleted, where all others are attached and named by Nova.

    Cinder's ``volume.detach.start`` of a multiattach volume lists all rows, whichever goes.
    """
    named = [r for r in attachments if r.status == ATTACHED and holder(r, servers) is not None]
    rest = [r for r in attachments if r not in named]
    gone = [r for r in rest if isinstance(servers.get(r.instance_id or ""), Absent)]
    return gone if len(gone) == len(rest) == 1 else []


def has_ended(
    attachment: CinderAttachment,
    servers: Mapping[str, ServerEvidence],
    guests_ended: Mapping[str, str],
) -> bool:
    """Tell whether Nova says that the guest of a row's deleted server was ended on its host."""
    gone = isinstance(servers.get(attachment.instance_id or ""), Absent)
    host = guests_ended.get(attachment.instance_id or "")
    return gone and host is not None and host == attachment.host


def belongs(connection: Connection, connectors: tuple[Connector, ...]) -> bool:
    """Tell whether a connection is of one of these hosts."""
    return any(connection.belongs_to(connector) for connector in connectors)


def shares(
    connector: Connector,
    attachments: tuple[CinderAttachment, ...],
    servers: Mapping[str, ServerEvidence],
    learned: Mapping[str, Connector],
) -> bool:
    """Tell whether one of these rows or its server is on that host, or may be."""
    if any(
        attachment.host is not None and attachment.host == connector.host
        for attachment in attachments
    ):
        return True
    return any(
        _may_be_on(answer.value.host, connector, learned)
        if isinstance(answer := servers.get(attachment.instance_id or ""), Fact)
        else not (isinstance(answer, Absent) and _was_elsewhere(attachment, connector, learned))
        for attachment in attachments
    )


def _was_elsewhere(
    attachment: CinderAttachment, connector: Connector, learned: Mapping[str, Connector]
) -> bool:
    """Tell whether the row of a deleted server names another host, and had followed its server."""
    return has_followed(attachment) and not _may_be_on(attachment.host, connector, learned)


def has_followed(attachment: CinderAttachment) -> bool:
    """Tell whether a row is on the last host that its server had it on.

    Only a row of the old way, which has no connection info, stays behind where a server is moved.
    """
    return attachment.host is not None and attachment.has_connection_info


def _may_be_on(host: str | None, connector: Connector, learned: Mapping[str, Connector]) -> bool:
    if host is None or host == connector.host:
        # Nova says of a server at rest that it is on no host, and then it shares none.
        return host is not None
    if host in learned:
        return bool(connector.names() & learned[host].names())
    return connector.host is None


def explained_by(
    attachments: tuple[CinderAttachment, ...],
    servers: Mapping[str, ServerEvidence],
    learned: Mapping[str, Connector],
) -> tuple[Connector, ...]:
    """Return the connectors of the hosts on which the servers of these rows are.

    Of a host whose connector was never seen only the name is known; some backends report it too.
    """
    answers = (servers.get(attachment.instance_id or "") for attachment in attachments)
    hosts = (a.value.host for a in answers if isinstance(a, Fact) and a.value.host)
    return tuple(learned.get(host, Connector(host=host)) for host in hosts)


def left_by(
    attachments: tuple[CinderAttachment, ...],
    servers: Mapping[str, ServerEvidence],
    learned: Mapping[str, Connector],
) -> tuple[Connector, ...]:
    """Return the connectors of the hosts of these rows that their servers left, or were deleted on.

    Of a server that was moved the row says so itself, as each move makes a new one.
    """
    left = (r for r in attachments if left_behind(r, servers) or _is_of_a_deleted(r, servers))
    hosts = (row.host for row in left if row.host is not None and has_followed(row))
    return tuple(learned.get(host, Connector(host=host)) for host in hosts)


def _is_of_a_deleted(attachment: CinderAttachment, servers: Mapping[str, ServerEvidence]) -> bool:
    return isinstance(servers.get(attachment.instance_id or ""), Absent)


@dataclasses.dataclass(frozen=True, slots=True)
class Situation:
    """One volume seen from one attachment, the *subject*.

    ``attachment`` is the subject's row in Cinder; None where there is none. ``ambiguous`` says that
    several rows might be it. ``others`` are the volume's remaining rows. ``instance_id`` is the
    subject's instance: that of the row where there is one, even if the row has none, else the
    case's. ``guests_ended`` has, for each deleted server, the host whose nova-compute ended its
    guest, as far as Nova says; of the subject's, ``deleted_by`` are the requests that deleted it,
    ``never_built`` whether it never came to a compute. ``computes`` are the compute services that
    were asked for beside those of the servers' hosts.

    ``connector`` is the recorded identity of the subject's host, ``connectors`` those that were
    learned of every host in question, and ``shared_host`` says that another row or its server is on
    that same host, or may be, but for one whose guest was ended there. Connections that the hosts
    of the other rows explain are left out. Of the rest, ``own`` are those of the subject's host and
    ``foreign`` those that no record explains, be it one that its server has left behind. Where the
    driver cannot tell hosts, all connections are ``nameless`` instead.

    ``holding`` is what Nova says of the subject's host where no instance is known, ``elsewhere`` of
    other hosts; ``swapping`` of swaps of a volume of the subject's server for another one.
    ``pools`` is the protocol of the backend's pools, where Cinder was asked. ``late_attach`` is the
    operator's choice for what is rolled forward, or a person's order for this one. ``off`` are
    persons' words that hosts are powered off, whether they count here or not. ``learned`` is the
    client that was learned for the subject while it was healthy, ``reach`` what that one has open
    beside the volume.
    """

    case: Case
    volume: Volume
    attachment: CinderAttachment | None
    ambiguous: bool
    others: tuple[CinderAttachment, ...]
    instance_id: str | None
    servers: Mapping[str, ServerEvidence]
    deleted_by: tuple[str, ...]
    never_built: bool
    computes: Mapping[str, bool]
    connector: Connector | None
    connectors: Mapping[str, Connector]
    shared_host: bool
    backend: BackendEvidence
    own: tuple[Connection, ...]
    foreign: tuple[Connection, ...]
    nameless: tuple[Connection, ...] = ()
    holding: Holding | None = None
    elsewhere: tuple[Holding, ...] = ()
    swapping: SwapEvidence | None = None
    pools: ProtocolEvidence | None = None
    late_attach: LateAttach = LateAttach.KEEP
    off: tuple[OffWord, ...] = ()
    learned: ClientInstance | None = None
    reach: ReachEvidence | None = None
    guests_ended: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def status(self) -> str:
        """The volume's status in Cinder."""
        return self.volume.status

    @property
    def server(self) -> Server | None:
        """The subject's server, where Nova has it."""
        answer = self.servers.get(self.instance_id or "")
        return answer.value if isinstance(answer, Fact) else None

    @property
    def server_gone(self) -> bool:
        """Tell whether Nova says that the subject's server does not exist."""
        return isinstance(self.servers.get(self.instance_id or ""), Absent)

    @property
    def ended_on(self) -> str | None:
        """The host on which Nova says that the guest of the subject's deleted server was ended."""
        return self.guests_ended.get(self.instance_id or "")

    @property
    def devices(self) -> tuple[BlockDevice, ...]:
        """Nova's block devices for this volume on the subject's server."""
        return self.server.block_devices if self.server else ()

    @property
    def attachment_status(self) -> str | None:
        """The attach_status of the subject's row, None without one."""
        return self.attachment.status if self.attachment else None

    @property
    def named_by_device(self) -> bool:
        """Tell whether a block device of the subject's server names the subject's row."""
        return self.attachment is not None and self.names(self.attachment)

    @property
    def devices_without_attachment(self) -> tuple[BlockDevice, ...]:
        """Block devices of the subject's server that name no row which Cinder has."""
        rows = {attachment.attachment_id for attachment in self.volume.attachments}
        return tuple(d for d in self.devices if d.attachment_id not in rows)

    @property
    def others_named_by_devices(self) -> tuple[CinderAttachment, ...]:
        """Those other rows that a block device of their own server names."""
        return tuple(
            attachment for attachment in self.others if self.holder(attachment) is not None
        )

    @property
    def siblings(self) -> tuple[CinderAttachment, ...]:
        """The other rows of the subject's own instance, as a live migration makes them."""
        return tuple(
            attachment for attachment in self.others if attachment.instance_id == self.instance_id
        )

    @property
    def host(self) -> str | None:
        """The host that the subject is on: by Cinder's row, its connector, or its messages."""
        if self.attachment is not None and self.attachment.host is not None:
            return self.attachment.host
        own = self.case.connector
        return own.host if own is not None and own.host is not None else self.case.host

    @property
    def protocol(self) -> str | None:
        """How hosts reach the volume (Cinder's ``driver_volume_type``): its own row says it first.

        All of one volume's connections are of one backend, so any row of the volume will do. Where
        no row has connection info, it is that of the backend's pools, or None.
        """
        rows = (self.attachment, *self.volume.attachments)
        told = next((row.protocol for row in rows if row is not None and row.protocol), None)
        return told or (self.pools.value if isinstance(self.pools, Fact) else None)

    @property
    def attached_host(self) -> str | None:
        """The host that the subject is on by its connector, where that names one, else ``host``."""
        return (self.connector.host if self.connector else None) or self.host

    @property
    def guest_ended(self) -> bool:
        """Tell whether Nova says that the guest of the deleted server was ended on this host.

        Only of a server of which a row is left: the row kept others out. Where it is gone, another
        guest of that host may have opened the session since.
        """
        ended_here = self.ended_on is not None and self.ended_on == self.host
        return self.attachment is not None and self.server_gone and ended_here

    @property
    def never_let_in(self) -> bool:
        """Tell whether no host was ever let in for the row, so that there is nothing to release.

        It is only reserved, nothing names a host for it, no attach of it was heard of, and its
        deleted server never came to a compute, which alone asks for a connection.
        """
        row = self.attachment
        bare = row is not None and row.status == RESERVED and not row.has_connection_info
        unheard = self.host is None and self.connector is None and self.case.starts == 0
        return bare and unheard and self.server_gone and self.never_built

    @property
    def on_host_of_its_server(self) -> bool:
        """Tell whether the subject's recorded host is the one that its server is on."""
        here = self.server.host if self.server else None
        recorded = self.attachment.host if self.attachment else None
        if recorded is None and self.connector is not None:
            recorded = self.connector.host
        return here is not None and recorded == here

    @property
    def live_sessions(self) -> bool:
        """Tell whether the subject's host holds, or may hold, a live session: a guest's maybe."""
        return any(connection.sessions for connection in (*self.own, *self.nameless))

    @property
    def sessions_unseen(self) -> bool:
        """Tell whether the subject's host has access, and its driver does not show if it uses it.

        Where Nova's record says that its compute ended the guest on this very host, no guest does.
        """
        there = (*self.own, *self.nameless)
        return any(c.sessions is None for c in there) and not self.guest_ended

    @property
    def guest_may_write(self) -> bool:
        """Tell whether a guest may be using the disk: a live session, and no proof of its end.

        Where Nova's record says that its compute ended the guest on this very host, what is left is
        a login of the host itself, which no guest uses.
        """
        return self.live_sessions and not self.guest_ended

    @property
    def learned_there(self) -> bool:
        """Tell whether the backend has the very client that was learned for the subject."""
        learned = self.learned
        return learned is not None and any(connection.is_of(learned) for connection in self.own)

    @property
    def another_client(self) -> bool:
        """Tell whether a client was learned, and another one has the volume that no row explains.

        Then the volume may have moved.
        """
        there, learned = (*self.own, *self.foreign), self.learned
        return learned is not None and not all(connection.is_of(learned) for connection in there)

    @property
    def sole(self) -> bool:
        """Tell whether the subject's row is the only one, and the only connection an idle one.

        Then "every connection of the volume" is the subject's, whichever host it is.
        """
        connections = _connections(self.backend)
        one = len(connections) == 1 and connections[0].sessions == 0
        return one and self.attachment is not None and not self.others

    @property
    def blind(self) -> bool:
        """Tell whether the backend's driver cannot see."""
        return isinstance(self.backend, Blind)

    @property
    def clean(self) -> bool:
        """Tell whether the probe proved that the subject's host has no connection.

        Where no other row remains, the backend may have no connection at all; where others do, none
        but those that their hosts explain.
        """
        if isinstance(self.backend, Absent):
            return True
        if not isinstance(self.backend, Fact):
            return False
        return not (self.own or self.foreign or self.nameless) and bool(self.others)

    def names(self, attachment: CinderAttachment) -> bool:
        """Tell whether a block device of the subject's server names this row."""
        return attachment.attachment_id in {d.attachment_id for d in self.devices}

    def holder(self, attachment: CinderAttachment) -> Server | None:
        """Return the row's own server where one of its block devices names the row."""
        return holder(attachment, self.servers)


def situate(
    case: Case, volume: Volume, evidence: Evidence, late_attach: LateAttach = LateAttach.KEEP
) -> Situation:
    """Work out the subject's row, server, connector and connections. Pure."""
    servers, learned = dict(evidence.servers), dict(evidence.connectors)
    attachment, ambiguous = subject_of(case, volume, servers)
    instance_id = attachment.instance_id if attachment else case.instance_id
    others = tuple(r for r in volume.attachments if r is not attachment)
    ended = dict(evidence.ended_on)
    lasting = tuple(r for r in others if not has_ended(r, servers, ended))
    connector = _connector(case, attachment, others, evidence)
    client = _client(case, attachment, evidence)
    left = _unexplained(evidence, explained_by(others, servers, learned), client)
    own = tuple(c for c in left if connector and c.belongs_to(connector))
    of_left = left_by(others, servers, learned) if connector else ()
    return Situation(
        case=case,
        volume=volume,
        attachment=attachment,
        ambiguous=ambiguous,
        others=others,
        instance_id=instance_id,
        servers=servers,
        deleted_by=dict(evidence.deleted_by).get(instance_id or "", ()),
        never_built=instance_id in evidence.never_built,
        computes=dict(evidence.computes),
        connector=connector,
        connectors=learned,
        shared_host=connector is not None and shares(connector, lasting, servers, learned),
        backend=evidence.backend,
        own=own,
        # What a server left behind is nobody's protection: first it is the subject's.
        foreign=tuple(c for c in left if c not in own and not belongs(c, of_left)),
        nameless=() if evidence.hosts_known else _connections(evidence.backend),
        holding=evidence.holding,
        elsewhere=evidence.elsewhere,
        swapping=evidence.swapping,
        pools=evidence.protocol,
        off=evidence.off,
        learned=client,
        reach=evidence.reach,
        guests_ended=ended,
        late_attach=LateAttach.DETACH if intents.detach_ordered(case) else late_attach,
    )


def _unexplained(
    evidence: Evidence, by_others: tuple[Connector, ...], client: ClientInstance | None
) -> tuple[Connection, ...]:
    """Return the connections that no other row explains; the subject's own client is none's."""
    seen = _connections(evidence.backend) if evidence.hosts_known else ()
    return tuple(c for c in seen if (client and c.is_of(client)) or not belongs(c, by_others))


def _client(
    case: Case, attachment: CinderAttachment | None, evidence: Evidence
) -> ClientInstance | None:
    """Return the client that was learned for the subject, also where its row is gone."""
    row = attachment.attachment_id if attachment else case.attachment_id
    return dict(evidence.learned).get(row or "")


def _connector(
    case: Case,
    attachment: CinderAttachment | None,
    others: tuple[CinderAttachment, ...],
    evidence: Evidence,
) -> Connector | None:
    """Take the recorded identity first: the attachment's own, its host's, its server's host's.

    Of a deleted server it is that of the host where Nova ended its guest. Of two rows of one server
    at most one is on the host that the server is on, and nothing says that it is this one.
    """
    learned = dict(evidence.connectors)
    if case.connector is not None:
        return case.connector
    if attachment is not None and attachment.host is not None:
        return learned.get(attachment.host)
    if case.host is not None:
        return learned.get(case.host)
    instance_id = attachment.instance_id if attachment else case.instance_id
    if any(other.instance_id == instance_id for other in others):
        return None
    server = dict(evidence.servers).get(instance_id or "")
    ended_on = dict(evidence.ended_on).get(instance_id or "")
    host = server.value.host if isinstance(server, Fact) else ended_on
    return learned.get(host) if host else None


def _connections(backend: BackendEvidence) -> tuple[Connection, ...]:
    return backend.value.connections if isinstance(backend, Fact) else ()
