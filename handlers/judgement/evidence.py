"""What each source says right now: a fact, absent, unknown or blind.

1. The four answers are never mixed up. An error, a timeout or a volume that was not found is
   ``Unknown``, never ``Absent``.
2. ``Absent`` needs a control: something that shows that the source would have said yes.
3. What is gathered here is only read. Nothing outside is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from drivers.base import (
    ClientInstance,
    Connector,
    Observation,
    Reach,
    StorageDriver,
    VolumeRef,
)
from drivers.control_plane import (
    Cinder,
    CinderAttachment,
    DeletedServer,
    Nova,
    Server,
    Swap,
    Volume,
)
from drivers.errors import OutsideError, PermanentError
from handlers import intents
from handlers.case import Case, OffWord

T = TypeVar("T")
MOST_HOSTS = 2
"""Of how many hosts a look asks Nova who uses the volume there: a look has to end."""
DELETED = "Nova says that the server does not exist, and has the actions of it on record"
SEEN = "Cinder says that the volume does not exist, and an earlier look saw it there"
DELETION_TOLD = (
    "Cinder says that the volume does not exist, and told that it was deleted or unmanaged"
)
NEVER_SEEN = (
    "Cinder says that the volume {} does not exist, and this Cinder was never known to have it: no "
    "look saw it there, and no message told that it was deleted or unmanaged; check the region, "
    "the endpoint and the project that detachd asks ([cinder] region_name, endpoint_override), and "
    "whether the bus is another cloud's"
)
FAILED_OVER = frozenset({"failing-over", "failed-over", "failover-error"})
"""Cinder, cinder/objects/fields.py ``ReplicationStatus``: a host of Cinder's was failed over."""
ELSEWHERE = (
    "backend {}: Cinder says that the volume is {}, so it may be on the replica, and the driver "
    "looks at the primary"
)
NOT_ON_RECORD = (
    "Nova says that the server {} does not exist, and has nothing on record of it, so it may never "
    "have had it: check the region and endpoint that detachd asks, its cells, and whether it is "
    "bare metal (Ironic), of a client that is not Nova, or a deleted server whose record was "
    "archived"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """The source was asked and answered."""

    value: T


@dataclasses.dataclass(frozen=True, slots=True)
class Absent:
    """We asked in the right place, a positive control answered, and it is not there."""

    control: str


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """The source should have seen and could not: an error, a timeout, not found under any name."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Outage(Unknown):
    """An API of OpenStack gave no answer. That is not about this volume, and it passes."""


@dataclasses.dataclass(frozen=True, slots=True)
class NoControl(Unknown):
    """The source says that it is not there, and nothing shows that it ever had it.

    So it may be the wrong source to ask.
    """


@dataclasses.dataclass(frozen=True, slots=True)
class Blind:
    """The driver of this backend declares that it cannot see."""

    driver: str


VolumeEvidence = Fact[Volume] | Absent | Unknown
ServerEvidence = Fact[Server] | Absent | Unknown
BackendEvidence = Fact[Observation] | Absent | Unknown | Blind
SwapEvidence = Fact[Swap] | Unknown
HoldersEvidence = Fact[tuple[str, ...]] | Unknown
ProtocolEvidence = Fact[str] | Unknown
ReachEvidence = Fact[Reach] | Unknown
NO_POOL = (
    "Cinder's scheduler lists no pool of backend {} that names its protocol, or pools of several; "
    "it knows them again when cinder-volume has reported"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """What Nova says of a host that has access: who may be using the volume there.

    ``compute_up`` is None where the host has no nova-compute, or Nova did not say. ``holders`` are
    the servers that may be using the volume there; None where Nova was not asked for them, because
    the host is no compute that is up.
    """

    host: str
    compute_up: bool | None
    holders: HoldersEvidence | None


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """One look at all three sides.

    ``servers`` holds an answer for each instance that the case or a row names. ``ended_on`` has,
    for a deleted server, the host whose nova-compute ended its guest, where Nova says so,
    ``deleted_by`` the requests that deleted it; ``never_built`` are the deleted ones that never
    came to a compute.
    ``computes`` has the compute service of each host that a row is on while its
    server is on another. ``connectors`` holds the last known connector of each compute host in
    question: recorded identity, not evidence.
    ``hosts_known`` is False where the driver cannot say whose connection is whose. ``holding`` is
    asked for only where neither a row nor a message names an instance. ``elsewhere`` is what Nova
    says of the hosts whose access would be ended, and of those that are let in and that no
    attachment explains. ``swapping`` is what Nova has on record of the swaps of
    the subject's server; None where Nova was not asked. ``protocol`` is what Cinder's scheduler
    says of the backend; None where it was not asked, because a row tells it or nothing depends on
    it.
    ``off`` are the words of persons that hosts in question are powered off, where the operator
    lets such a word count on this backend. ``learned`` are the clients that were learned for
    attachments of the volume, where the driver ends single clients: recorded identity, no evidence;
    ``reach`` is what the subject's has open beside the volume, None where nothing asks for its end.
    """

    volume: VolumeEvidence
    servers: tuple[tuple[str, ServerEvidence], ...] = ()
    backend: BackendEvidence = Unknown("not looked at")
    ended_on: tuple[tuple[str, str], ...] = ()
    deleted_by: tuple[tuple[str, tuple[str, ...]], ...] = ()
    never_built: tuple[str, ...] = ()
    computes: tuple[tuple[str, bool], ...] = ()
    connectors: tuple[tuple[str, Connector], ...] = ()
    hosts_known: bool = True
    holding: Holding | None = None
    elsewhere: tuple[Holding, ...] = ()
    swapping: SwapEvidence | None = None
    protocol: ProtocolEvidence | None = None
    off: tuple[OffWord, ...] = ()
    learned: tuple[tuple[str, ClientInstance], ...] = ()
    reach: ReachEvidence | None = None


class Retry(Protocol):
    """Makes a call, repeating it while it fails with TransientError, within its own bounds."""

    def __call__(self, system: str, method: str, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, or raise the last OutsideError."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """Which systems to ask, how to repeat a question, and how long each answer may take.

    ``located`` is called with the volume's backend before that backend is asked, which may hang.
    ``off_word`` returns what a person says of a host, where that may count on this backend.
    ``learned_clients`` returns those that were learned for the volume, by attachment.
    """

    cinder: Cinder
    nova: Nova
    driver_of: Callable[[str], StorageDriver]
    connector_of: Callable[[str], Connector | None]
    located: Callable[[str], None]
    retry: Retry
    timeout_seconds: float
    off_word: Callable[[str, str], OffWord | None] = lambda _host, _backend: None
    learned_clients: Callable[[], Mapping[str, ClientInstance]] = dict


def gather(case: Case, sources: Sources) -> Evidence:
    """Look at Cinder, then at Nova for every instance concerned, then at the backend.

    Read-only. Blocks for at most ``timeout_seconds`` a question and repetition. Raises nothing for
    an outside failure: that is Unknown.
    """
    volume = look_at_volume(case, sources)
    if not isinstance(volume, Fact):
        return Evidence(volume)
    # Before that backend is asked, which may hang: the room of a backend is counted by this.
    sources.located(volume.value.ref.backend)
    # A dict, not a set: the order of the questions is the same in every run.
    instances = dict.fromkeys(
        [case.instance_id, *(attachment.instance_id for attachment in volume.value.attachments)],
    )
    answers = {i: _server(i, case.volume_id, sources) for i in instances if i is not None}
    servers = tuple((instance_id, answer) for instance_id, (answer, _) in answers.items())
    backend, hosts_known = _backend(volume.value, sources)
    deleted = [record for _, record in answers.values() if record is not None]
    ended_on = tuple((r.instance_id, r.ended_on) for r in deleted if r.ended_on is not None)
    connectors = _connectors(case, volume.value.attachments, servers, ended_on, sources)
    only_host = _only_host(case, volume.value, backend, dict(connectors)) if hosts_known else None
    return Evidence(
        volume=volume,
        servers=servers,
        backend=backend,
        ended_on=ended_on,
        deleted_by=tuple((r.instance_id, r.deleted_by) for r in deleted if r.deleted_by),
        never_built=tuple(r.instance_id for r in deleted if r.never_built),
        computes=tuple(_computes(volume.value.attachments, dict(servers), sources)),
        connectors=connectors,
        hosts_known=hosts_known,
        holding=_holding(case.volume_id, only_host, sources) if only_host is not None else None,
        off=_off(case, volume.value, servers, sources),
        learned=_learned(volume.value.ref, sources),
    )


def _learned(ref: VolumeRef, sources: Sources) -> tuple[tuple[str, ClientInstance], ...]:
    """Return the clients that were learned, where the driver ends single clients."""
    try:
        needed = sources.driver_of(ref.backend).capabilities.by_learned_client
    except OutsideError:
        return ()  # the look at the backend says why
    return tuple(sorted(sources.learned_clients().items())) if needed else ()


def _off(
    case: Case,
    volume: Volume,
    servers: tuple[tuple[str, ServerEvidence], ...],
    sources: Sources,
) -> tuple[OffWord, ...]:
    """Return the words for the hosts that the volume's rows, its servers and the case name."""
    own = case.connector.host if case.connector else None
    of_servers = (answer.value.host for _, answer in servers if isinstance(answer, Fact))
    rows = (attachment.host for attachment in volume.attachments)
    hosts = dict.fromkeys(host for host in (own, case.host, *rows, *of_servers) if host is not None)
    words = (sources.off_word(host, volume.ref.backend) for host in hosts)
    return tuple(word for word in words if word is not None)


def ask_of_hosts(
    case: Case, hosts: Sequence[str], sources: Sources, off: frozenset[str] = frozenset()
) -> tuple[Holding, ...]:
    """Ask Nova who may be using the volume on each of these hosts, the first ``MOST_HOSTS``.

    Of a compute that is down only where the host is among ``off``: then its list is all there is to
    know, as the host carries out nothing any more.
    """
    asked = hosts[:MOST_HOSTS]
    return tuple(_holding(case.volume_id, h, sources, down=h in off) for h in asked)


def ask_of_swaps(instance_id: str, sources: Sources) -> SwapEvidence:
    """Ask Nova whether a volume of this server is being swapped, or the last swap failed."""

    def ask() -> Swap:
        return sources.nova.swapping(instance_id, timeout_seconds=sources.timeout_seconds)

    try:
        return Fact(sources.retry("nova", "swapping", ask))
    except OutsideError as error:
        return Unknown(f"Nova: {error}")


def ask_of_reach(ref: VolumeRef, client: ClientInstance, sources: Sources) -> ReachEvidence:
    """Ask the backend what this client has open beside the volume."""

    def ask() -> Reach:
        limit = sources.timeout_seconds
        return sources.driver_of(ref.backend).reach_of(ref, client, timeout_seconds=limit)

    try:
        return Fact(sources.retry("backend", "reach_of", ask))
    except OutsideError as error:
        return Unknown(f"backend {ref.backend}: {error}")


def ask_of_protocol(volume: Volume, sources: Sources) -> ProtocolEvidence | None:
    """Ask Cinder for the backend's protocol, which a driver that acts through Cinder depends on."""

    def ask() -> str | None:
        return sources.cinder.protocol_of(volume, timeout_seconds=sources.timeout_seconds)

    try:
        if not sources.driver_of(volume.ref.backend).capabilities.acts_through_cinder:
            return None
        protocol = sources.retry("cinder", "protocol_of", ask)
    except OutsideError as error:
        return _no_answer(f"Cinder: {error}", error)
    return Fact(protocol) if protocol else Unknown(NO_POOL.format(volume.ref.backend))


def look_at_volume(case: Case, sources: Sources) -> VolumeEvidence:
    """Look at Cinder alone. Read-only; an outside failure is Unknown."""

    def ask() -> Volume | None:
        return sources.cinder.volume(case.volume_id, timeout_seconds=sources.timeout_seconds)

    try:
        volume = sources.retry("cinder", "volume", ask)
    except OutsideError as error:
        return _no_answer(f"Cinder: {error}", error)
    return Fact(volume) if volume else _denied(case)


def _denied(case: Case) -> Absent | NoControl:
    """Tell a volume that is gone from one that this Cinder may never have had."""
    if case.volume_seen:
        return Absent(SEEN)
    if case.deletion_told:
        return Absent(DELETION_TOLD)
    return NoControl(NEVER_SEEN.format(case.volume_id))


def _no_answer(words: str, error: OutsideError) -> Unknown:
    """Return what a failed question to Cinder or Nova leaves: what is refused is no outage."""
    return Unknown(words) if isinstance(error, PermanentError) else Outage(words)


def _server(
    instance_id: str, volume_id: str, sources: Sources
) -> tuple[ServerEvidence, DeletedServer | None]:
    """Ask Nova for a server; of a deleted one say too what Nova has on record of it."""

    def ask() -> Server | None:
        return sources.nova.server(instance_id, volume_id, timeout_seconds=sources.timeout_seconds)

    try:
        server = sources.retry("nova", "server", ask)
    except OutsideError as error:
        return _no_answer(f"Nova: {error}", error), None
    return (Fact(server), None) if server else _deleted(instance_id, sources)


def _deleted(instance_id: str, sources: Sources) -> tuple[ServerEvidence, DeletedServer | None]:
    """Ask for the control of a server that Nova denies: its record of what was done to it.

    A notification of the server is none: the Nova that sent it need not be the one that is asked.
    """

    def ask() -> DeletedServer | None:
        limit = sources.timeout_seconds
        return sources.nova.deleted_server(instance_id, timeout_seconds=limit)

    try:
        record = sources.retry("nova", "deleted_server", ask)
    except OutsideError as error:
        words = f"Nova: no server {instance_id}; whether it had one is unknown: {error}"
        return _no_answer(words, error), None
    if record is None:
        return NoControl(NOT_ON_RECORD.format(instance_id)), None
    return Absent(DELETED), record


def _computes(
    attachments: tuple[CinderAttachment, ...],
    servers: Mapping[str, ServerEvidence],
    sources: Sources,
) -> Iterator[tuple[str, bool]]:
    """Ask for the compute of each host that a row, but not its server, is on."""
    for host in dict.fromkeys(
        attachment.host for attachment in attachments if left_behind(attachment, servers)
    ):

        def ask(host: str = host or "") -> bool | None:
            return sources.nova.compute_up(host, timeout_seconds=sources.timeout_seconds)

        # A host of which Nova did not say is left out: who reads it takes it for not known to be
        # up.
        with contextlib.suppress(OutsideError):
            if (up := sources.retry("nova", "compute_up", ask)) is not None:
                yield host or "", up


def holder(attachment: CinderAttachment, servers: Mapping[str, ServerEvidence]) -> Server | None:
    """Return the row's own server where one of its block devices names the row."""
    answer = servers.get(attachment.instance_id or "")
    if not isinstance(answer, Fact):
        return None
    names = {device.attachment_id for device in answer.value.block_devices}
    return answer.value if attachment.attachment_id in names else None


def left_behind(attachment: CinderAttachment, servers: Mapping[str, ServerEvidence]) -> bool:
    """Tell whether a row is on a host and its server, as far as Nova says, on another one."""
    answer = servers.get(attachment.instance_id or "")
    here = answer.value.host if isinstance(answer, Fact) else None
    return None not in (here, attachment.host) and here != attachment.host


def _backend(volume: Volume, sources: Sources) -> tuple[BackendEvidence, bool]:
    """Look at the backend; return too whether the driver can tell the host of a connection.

    What was failed over is on another array: of the one that the driver looks at, nothing counts.
    """
    ref = volume.ref

    def ask() -> Observation:
        return driver.observe(ref, timeout_seconds=sources.timeout_seconds)

    try:
        driver = sources.driver_of(ref.backend)
        if not driver.capabilities.sees_connections:
            return Blind(driver.kind), False
        if volume.replication_status in FAILED_OVER:
            return Unknown(ELSEWHERE.format(ref.backend, volume.replication_status)), False
        observation = sources.retry("backend", "observe", ask)
    except OutsideError as error:
        return Unknown(f"backend {ref.backend}: {error}"), False
    able = driver.capabilities
    shown = observation if able.sees_sessions else _without_sessions(observation)
    return _seen(shown, ref.backend), able.sees_hosts


def _without_sessions(observation: Observation) -> Observation:
    """Leave out sessions that the driver does not declare to see: its 0 would be no proof."""
    connections = (dataclasses.replace(c, sessions=None) for c in observation.connections)
    return dataclasses.replace(observation, connections=tuple(connections))


def _seen(observation: Observation, backend: str) -> BackendEvidence:
    if observation.connections:
        return Fact(observation)
    # A driver that lists nothing may have listed the wrong place: without a control it proves
    # nothing.
    if not observation.control:
        return Unknown(
            f"backend {backend}: the driver reported no connection and no positive control"
        )
    return Absent(observation.control)


def _only_host(
    case: Case, volume: Volume, backend: BackendEvidence, connectors: Mapping[str, Connector]
) -> str | None:
    """Return the host that Nova is to be asked about where no record names an instance.

    The host of the case, where its connector is known and the backend has no connection of another
    host. None where the volume has rows, is neither available nor kept by our own reserve, or has
    no connection: a volume that is free and clean needs no question.
    """
    connector = case.connector or connectors.get(case.host or "")
    if case.instance_id is not None or volume.attachments or connector is None:
        return None
    connections = backend.value.connections if isinstance(backend, Fact) else ()
    only = all(connection.belongs_to(connector) for connection in connections)
    ours = volume.status == "attaching" and intents.holds_reserve(case)
    free = volume.status == "available" and bool(connections)
    return (connector.host or case.host) if only and (ours or free) else None


def _holding(volume_id: str, host: str, sources: Sources, *, down: bool = False) -> Holding:
    """Ask whether the host is a compute that is up, and if so who may be using the volume there.

    ``down``: also where it is down.
    """

    def ask_host() -> bool | None:
        return sources.nova.compute_up(host, timeout_seconds=sources.timeout_seconds)

    def ask_holders() -> tuple[str, ...]:
        return sources.nova.holders(volume_id, host, timeout_seconds=sources.timeout_seconds)

    try:
        up = sources.retry("nova", "compute_up", ask_host)
        asks = up or (down and up is False)
        holders = sources.retry("nova", "holders", ask_holders) if asks else None
    except OutsideError as error:
        # Whether the compute answered or not: a list that is missing makes the whole answer
        # unknown.
        return Holding(host, None, _no_answer(f"Nova: {error}", error))
    return Holding(host, up, None if holders is None else Fact(holders))


def _connectors(
    case: Case,
    attachments: tuple[CinderAttachment, ...],
    servers: tuple[tuple[str, ServerEvidence], ...],
    ended_on: tuple[tuple[str, str], ...],
    sources: Sources,
) -> tuple[tuple[str, Connector], ...]:
    of_servers = (answer.value.host for _, answer in servers if isinstance(answer, Fact))
    hosts = dict.fromkeys(
        [
            case.host,
            *(attachment.host for attachment in attachments),
            *of_servers,
            *(host for _, host in ended_on),
        ]
    )
    learned = ((host, sources.connector_of(host)) for host in hosts if host is not None)
    return tuple((host, connector) for host, connector in learned if connector is not None)
