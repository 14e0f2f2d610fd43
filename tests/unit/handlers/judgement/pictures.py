"""Situations as the tests of the judgement paint them: one volume, one case, a fact at a time."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from drivers.base import (
    Capabilities,
    ClientInstance,
    Connection,
    Connector,
    Observation,
    Reach,
    VolumeRef,
)
from drivers.control_plane import BlockDevice, CinderAttachment, Server, Swap, Volume
from handlers.case import (
    Case,
    CaseState,
    Grounds,
    Intent,
    OffWord,
    OtherCase,
    StepKind,
    StepResult,
    Trigger,
)
from handlers.judgement.diagnosis import (
    client_to_ask_of,
    diagnose,
    hosts_to_ask_of,
    server_to_ask_of,
    volume_to_ask_of,
)
from handlers.judgement.evidence import (
    Absent,
    BackendEvidence,
    Blind,
    Evidence,
    Fact,
    Holding,
    NoControl,
    ProtocolEvidence,
    ReachEvidence,
    ServerEvidence,
    SwapEvidence,
    Unknown,
    VolumeEvidence,
)
from handlers.judgement.policy import LateAttach
from handlers.judgement.rule import Diagnosis
from handlers.judgement.situation import Situation
from handlers.notification import Operation

VOLUME = "volume-1"
BACKEND = "storage-1@tgt"
A, B = "attachment-a", "attachment-b"
X, Y = "instance-x", "instance-y"
H1, H2, H3 = "compute-1", "compute-2", "compute-3"
OPENED_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW = OPENED_AT + timedelta(minutes=20)

SEEING = Capabilities(
    sees_connections=True, sees_hosts=True, sees_sessions=True, revokes_access=True,
    ends_sessions=True,
)  # fmt: skip
THROUGH_CINDER = Capabilities(sees_connections=False, acts_through_cinder=True)


def connector(host: str) -> Connector:
    """Return the connector of a compute host."""
    return Connector(host=host, initiator=f"iqn.2026-01.test:{host}")


def ip(host: str) -> str:
    """Return the address of a compute host."""
    return f"192.0.2.{host.rpartition('-')[2]}"


def client(host: str, number: int = 1, *cookies: int, **facts: Any) -> Connection:
    """Return one client of a host, as a backend tells it that knows hosts by their address."""
    return Connection(
        name=f"client.{number}",
        address=f"{ip(host)}:0/{1000 + number}",
        sessions=len(cookies),
        host_ip=ip(host),
        cookies=cookies,
        **facts,
    )


def access(host: str, *, sessions: int = 0) -> Connection:
    """Return one host's access, as a backend that knows initiators by name tells it."""
    return Connection(name=f"iqn.2026-01.test:{host}", sessions=sessions)


def attachment(
    attachment_id: str = A,
    status: str = "attached",
    instance_id: str | None = X,
    *,
    info: bool | None = None,
    host: str | None = None,
) -> CinderAttachment:
    """Return an attachment row; it has connection info unless it is only reserved."""
    has_info = status != "reserved" if info is None else info
    return CinderAttachment(attachment_id, status, instance_id, has_info, host)


def server(instance_id: str = X, *names: str | None, **facts: Any) -> Server:
    """Return a running server on H1 whose block devices name these attachments."""
    known: dict[str, Any] = {
        "vm_state": "active", "task_state": None, "host": H1, "compute_up": True, "launched": True,
    }  # fmt: skip
    devices = tuple(BlockDevice(name, "/dev/vdb") for name in names)
    return Server(instance_id=instance_id, block_devices=devices, **(known | facts))


def intent(
    kind: StepKind,
    result: StepResult = StepResult.DONE,
    attempt: int = 1,
    attachment_id: str | None = A,
    intended_at: datetime | None = None,
    *,
    grounds: Grounds | None = None,
) -> Intent:
    """Return one of our own writes."""
    return Intent(kind, result, f"req-{kind.value}", attempt, attachment_id, intended_at, grounds)


def beside(
    attachment_id: str | None,
    operation: Operation = Operation.DETACH,
    state: CaseState = CaseState.DUE,
    **fields: Any,
) -> OtherCase:
    """Return another open case of the volume: a detach whose end was not heard."""
    return OtherCase("case-2", state, operation, attachment_id, **fields)


def holding(*holders: str, host: str = H1, up: bool | None = True) -> Holding:
    """Return what Nova says of a host: these servers may be using the volume there."""
    return Holding(host, up, Fact(holders) if up else None)


def said_off(host: str) -> OffWord:
    """Return a person's word that a host is powered off."""
    return OffWord(host, "anna", OPENED_AT, NOW + timedelta(hours=8), "unplugged")


@dataclasses.dataclass(frozen=True)
class Picture:
    """What the three sides and the case say. The default: a volume at rest, its attach failed.

    ``servers`` are those that Nova answered for; ``gone`` and ``unseen`` those that it does not
    have or did not answer for, ``stranger`` those that it does not have and may never have had.
    ``backend`` holds connections, or one of the other answers.
    ``ended`` are the deleted servers whose guest Nova says was ended, with the host; ``deleted_by``
    the requests that deleted them, ``never_built`` those that never came to a compute; ``computes``
    the services of hosts that rows were left on. ``known`` are the hosts whose connectors were
    learned. ``hosts_known`` is False where the driver cannot say whose connection is whose.
    ``holding`` is what Nova said of the only host, where no instance is known, ``elsewhere`` of
    other hosts, ``swapping`` of the swaps of the server's volumes; ``protocol`` is what Cinder says
    of the backend's pools. Of what else a look asks, Nova says that nobody uses the volume there
    and nothing is swapped, and Cinder that it is iSCSI, unless ``asked`` is False. ``addressed``:
    the connectors have the addresses of their hosts, by which clients are known. ``learned`` are
    the clients that were learned for rows, ``reach`` what else the subject's has open: nothing,
    where that is asked for.
    """

    status: str = "available"
    migration: str | None = None
    attachments: tuple[CinderAttachment, ...] = ()
    servers: tuple[Server, ...] = (server(),)
    gone: tuple[str, ...] = ()
    stranger: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    backend: tuple[Connection, ...] | BackendEvidence = ()
    ended: tuple[tuple[str, str], ...] = ()
    deleted_by: tuple[tuple[str, tuple[str, ...]], ...] = ()
    never_built: tuple[str, ...] = ()
    computes: tuple[tuple[str, bool], ...] = ()
    known: tuple[str, ...] = (H1, H2, H3)
    place: str = BACKEND
    multiattach: bool = False
    shared_targets: bool = False
    hosts_known: bool = True
    holding: Holding | None = None
    elsewhere: tuple[Holding, ...] = ()
    asked: bool = True
    swapping: SwapEvidence | None = None
    protocol: ProtocolEvidence | None = None
    off: tuple[str, ...] = ()
    addressed: bool = False
    learned: tuple[tuple[str, ClientInstance], ...] = ()
    reach: ReachEvidence | None = None
    service_up: bool = True
    display_name: str | None = None
    replication: str | None = None
    operation: Operation = Operation.ATTACH
    attachment_id: str | None = A
    instance_id: str | None = X
    host: str | None = H1
    attempts: int = 1
    late_attach: LateAttach = LateAttach.KEEP
    case_facts: tuple[tuple[str, Any], ...] = ()

    def but(self, **changes: Any) -> Picture:
        """Return the same picture with some facts changed; unknown names are the case's."""
        own = {field.name for field in dataclasses.fields(self)}
        case_facts = {k: changes.pop(k) for k in set(changes) - own}
        together = dict(self.case_facts) | case_facts
        return dataclasses.replace(self, case_facts=tuple(together.items()), **changes)

    @property
    def case(self) -> Case:
        """The case."""
        facts: dict[str, Any] = {
            "case_id": "case-1", "cloud": "test", "volume_id": VOLUME, "operation": self.operation,
            "attachment_id": self.attachment_id, "instance_id": self.instance_id,
            "host": self.host, "backend": BACKEND, "trigger": Trigger.DEADLINE,
            "state": CaseState.DUE, "opened_at": OPENED_AT, "attempts": self.attempts,
            "failures": 0, "signal_seq": 1, "starts": 1, "end_seen": False,
            "released_unasked": False, "mended_at": None, "first_clean_at": None, "connector": None,
            "request_ids": ("req-1",), "intents": (), "updated_at": OPENED_AT,
        }  # fmt: skip
        return Case(**(facts | dict(self.case_facts)))

    @property
    def volume(self) -> Volume:
        """The volume as Cinder shows it."""
        ref = VolumeRef(
            VOLUME, self.place, multiattach=self.multiattach, shared_targets=self.shared_targets
        )
        return Volume(
            ref, self.status, self.migration, self.attachments, self.service_up,
            display_name=self.display_name, replication_status=self.replication,
        )  # fmt: skip

    @property
    def evidence(self) -> Evidence:
        """What a look would give."""
        seen = self._seen
        if not self.asked:
            return seen
        told = {holding.host for holding in self.elsewhere}
        first = diagnose(self.case, seen, self.late_attach)
        more = tuple(
            Holding(host, False, Fact(())) if host in self.off else holding(host=host)
            for host in hosts_to_ask_of(first)
            if host not in told
        )
        asked = self.swapping is None and server_to_ask_of(first) is not None
        swapping = Fact(Swap.NONE) if asked else self.swapping
        pools = self.protocol is None and volume_to_ask_of(first) is not None
        reach = self.reach is None and client_to_ask_of(first) is not None
        return dataclasses.replace(
            seen,
            elsewhere=(*self.elsewhere, *more),
            swapping=swapping,
            protocol=Fact("iscsi") if pools else self.protocol,
            reach=Fact(Reach((), 0)) if reach else self.reach,
        )

    @property
    def _seen(self) -> Evidence:
        answers: dict[str, ServerEvidence] = {s.instance_id: Fact(s) for s in self.servers}
        answers |= {i: Absent("Nova has its deletion on record") for i in self.gone}
        answers |= {i: NoControl("Nova has nothing on record of it") for i in self.stranger}
        answers |= {i: Unknown("Nova: no answer") for i in self.unseen}
        volume: VolumeEvidence = Fact(self.volume)
        return Evidence(
            volume=volume,
            servers=tuple(answers.items()),
            backend=self._backend(),
            ended_on=self.ended,
            deleted_by=self.deleted_by,
            never_built=self.never_built,
            computes=self.computes,
            connectors=tuple((host, self._connector(host)) for host in self.known),
            hosts_known=self.hosts_known,
            holding=self.holding,
            elsewhere=self.elsewhere,
            swapping=self.swapping,
            protocol=self.protocol,
            off=tuple(said_off(host) for host in self.off),
            learned=self.learned,
            reach=self.reach,
        )

    def _connector(self, host: str) -> Connector:
        address = ip(host) if self.addressed else None
        return dataclasses.replace(connector(host), ip=address)

    @property
    def diagnosis(self) -> Diagnosis:
        """What the table says."""
        return diagnose(self.case, self.evidence, self.late_attach)

    @property
    def situation(self) -> Situation:
        """What the evidence comes to."""
        situation = self.diagnosis.situation
        assert situation is not None
        return situation

    def _backend(self) -> BackendEvidence:
        if not isinstance(self.backend, tuple):
            return self.backend
        control = "the daemon answered and has the volume"
        return Fact(Observation(self.backend, control)) if self.backend else Absent(control)


UNSEEN = Unknown("backend storage-1@tgt: no answer")
BLIND = Blind("CinderManagedDriver")
