"""The contract of a storage driver, and the types that it uses.

Nothing here asks a backend: a driver's author reads this page, ``drivers/errors.py`` and the guide
in ``drivers/__init__.py``, and subclasses ``StorageDriver``.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, TypeGuard

from oslo_config import cfg

from drivers.errors import IndeterminateError, PermanentError, TransientError

# An allow-list and no deny-list: what a driver of Cinder adds to a connector tomorrow may be a
# secret, and then it is left out by itself.
CONNECTOR_TEXTS = ("host", "initiator", "ip", "nqn", "nvme_hostid", "mountpoint", "sdc_guid")
CONNECTOR_LISTS = ("wwpns", "wwnns", "host_ips")
CONNECTOR_EXTRAS = (
    "do_local_attach", "enforce_multipath", "found_dsc", "mode", "multipath",
    "nvme_native_multipath", "os_type", "platform", "system uuid", "uuid",
)  # fmt: skip
# Longer than any name of a host or an initiator (an IQN has at most 223 characters).
LONGEST_VALUE = 255
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# A DH-HMAC-CHAP key of NVMe, a password in a URL, a private key: none is kept, whatever its name.
SECRET_SHAPES = re.compile(r"DHHC-1:|://[^/]*@|-----BEGIN", re.IGNORECASE)

NEEDED_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "iscsi": ("initiator",),
    "iser": ("initiator",),
    "fibre_channel": ("wwpns",),
    "nvmeof": ("nqn",),
    "nvme": ("nqn",),
    "lightos": ("nqn", "host_ips"),
    "scaleio": ("sdc_guid",),
})  # fmt: skip
"""What a connector must have for its connection to be ended, by Cinder's ``driver_volume_type``.

Without it Cinder's driver ends nothing and may still report success: PowerFlex returns where
``sdc_guid`` is missing, LightOS keeps the access where ``host_ips`` is. docs/connectors.md lists
which driver of Cinder reads what.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Connector:
    """How one compute host presents itself to storage (os-brick's connector properties).

    Only the keys of an allow-list are taken, which are all that a driver of Cinder reads to end a
    connection (docs/connectors.md). A secret beside them is left out, and so is a value that looks
    like one.
    """

    host: str | None = None
    initiator: str | None = None
    ip: str | None = None
    nqn: str | None = None
    nvme_hostid: str | None = None
    mountpoint: str | None = None
    sdc_guid: str | None = None
    wwpns: tuple[str, ...] = ()
    wwnns: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    extras: tuple[tuple[str, str | bool | int], ...] = ()

    @classmethod
    def from_mapping(cls, properties: Mapping[str, Any]) -> Connector:
        """Take the keys of the allow-list; values of the wrong type are left out."""
        texts: dict[str, Any] = {k: v for k in CONNECTOR_TEXTS if _is_text(v := properties.get(k))}
        # Tuples, so that the dataclass can be hashed and compared.
        texts |= {k: _texts(properties.get(k)) for k in CONNECTOR_LISTS}
        extras = tuple(
            (k, v)
            for k in CONNECTOR_EXTRAS
            # os-brick sends ``multipath`` and ``do_local_attach`` as booleans.
            if _is_text(v := properties.get(k)) or isinstance(v, bool | int)
        )
        return cls(**texts, extras=extras)

    def to_mapping(self) -> dict[str, Any]:
        """Return the dictionary that Cinder's API takes for ``connector``; absent keys stay out."""
        # Absent and not null, as os-brick leaves out what a host does not have.
        texts = {k: getattr(self, k) for k in CONNECTOR_TEXTS if getattr(self, k)}
        lists = {k: list(getattr(self, k)) for k in CONNECTOR_LISTS if getattr(self, k)}
        return texts | lists | dict(self.extras)

    def to_json(self) -> str:
        """Return the same as canonical JSON text: equal connectors give equal text."""
        # Sorted, because the fingerprint of a plan that a person approves is made over this text.
        return json.dumps(self.to_mapping(), sort_keys=True)

    def names(self) -> frozenset[str]:
        """Return the names by which a backend may know this host: initiator, NQN, WWPNs, SDC."""
        return frozenset(n for n in (self.initiator, self.nqn, self.sdc_guid, *self.wwpns) if n)

    def addresses(self) -> frozenset[str]:
        """Return the IP addresses that this host has told of, each in its usual form."""
        # Compared with what a backend tells, which may write the same IPv6 address in another way.
        return frozenset(in_usual_form(ip) for ip in (self.ip, *self.host_ips) if ip)

    def missing(self, protocol: str | None) -> tuple[str, ...]:
        """Return the keys without which a connection of this protocol cannot be ended.

        ``protocol`` is Cinder's ``driver_volume_type``. Where it is not known, nobody can say what
        else than the host is needed.
        """
        # ``host`` in any case: docs/connectors.md lists what Cinder's drivers read, and nearly all
        # read it.
        needed = NEEDED_KEYS.get(protocol.lower(), ()) if protocol is not None else ()
        return tuple(key for key in ("host", *needed) if not getattr(self, key))


def in_usual_form(ip: str) -> str:
    """Return an IP address as everybody writes it (``FD00:0::1`` is ``fd00::1``), else the text."""
    try:
        return str(ipaddress.ip_address(ip))
    except ValueError:
        return ip


def _is_text(value: object) -> TypeGuard[str]:
    """Tell whether it is a text that may be kept: short, and of no known shape of a secret."""
    is_short = isinstance(value, str) and 0 < len(value) <= LONGEST_VALUE
    return is_short and SECRET_SHAPES.search(str(value)) is None


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return ()
    return tuple(item for item in value if _is_text(item))


@dataclasses.dataclass(frozen=True, slots=True)
class VolumeRef:
    """A volume as a backend has to look for it.

    After a migration the backend knows the volume by ``name_id``, not by ``volume_id``
    (Cinder, ``os-vol-mig-status-attr:name_id``).
    """

    volume_id: str
    backend: str
    name_id: str | None = None
    provider_location: str | None = None
    multiattach: bool = False
    shared_targets: bool = False

    def ids(self) -> tuple[str, ...]:
        """Return every id that the backend may use for it, the likeliest first."""
        # Both, because a migration that is under way or that failed has left the volume under
        # either.
        return (self.name_id, self.volume_id) if self.name_id else (self.volume_id,)

    def names(self, template: str = "volume-%s") -> tuple[str, ...]:
        """Return every name that the backend may use for it, the likeliest first.

        ``template`` is Cinder's ``volume_name_template`` as that backend has it. A driver looks
        under each of these, and under what ``provider_location`` says where its backend fills that.
        """
        return tuple(template % name for name in self.ids())


def check_template(option: str, template: str) -> None:
    """Raise ValueError, in an operator's words, for what ``VolumeRef.names`` could not use."""
    # Anything else would fail at the first volume, by a TypeError of Python.
    if template.count("%") != 1 or "%s" not in template:
        raise ValueError(
            f"the option {option} must have %s once, where the volume's id goes, and no other %: "
            f"not {template!r}"
        )


def id_in(name: str, template: str) -> str | None:
    """Return the volume's id in a name that was made by this template, None for any other name.

    The opposite of ``VolumeRef.names``, for ``Export.volume_id``.
    """
    match = _form(template).fullmatch(name)
    return match[1] if match else None


@functools.cache
def _form(template: str) -> re.Pattern[str]:
    before, _, after = template.partition("%s")
    return re.compile(f"{re.escape(before)}({UUID}){re.escape(after)}")


@dataclasses.dataclass(frozen=True, slots=True)
class ClientInstance:
    """One client of a storage cluster, learned while the attachment that it serves was healthy.

    ``address`` is the whole of it, with the nonce by which this process is told from others of its
    host; ``client`` the cluster's own number for it, ``cookie`` that of its session. At a failure
    it is the one that may be fenced, and only while it still has all three: whoever has the volume
    open then may be the guest's new host.
    """

    address: str
    client: str
    cookie: int
    seen_at: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """What one client has beside a volume, and would lose with it if it were ended.

    ``others`` are the storage's own names of the other volumes that it has open, of whichever
    backend; ``allowed`` is how many of these the operator lets it lose. ``whole_host``: it is the
    one client of its host for everything there, so that no count says what it would lose.
    ``unseen``: where it may have more, and the driver's user may not look.
    """

    others: tuple[str, ...]
    allowed: int
    whole_host: bool = False
    unseen: tuple[str, ...] = ()

    @property
    def goes_too_far(self) -> bool:
        """Tell whether more would be lost than the operator allows."""
        # A whole host never fits a number: what it has mapped cannot be counted
        # (docs/decisions/0025).
        return self.whole_host or len(self.others) > self.allowed


@dataclasses.dataclass(frozen=True, slots=True)
class Fences:
    """Which clients a cluster refuses now, each by its full address, and until when.

    ``as_of`` is a time of the cluster's own clock, by which the last entry was taken out that is
    not there any more, and which is not in its future. None where the cluster tells none.
    """

    cluster: str
    until: Mapping[str, datetime]
    as_of: datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Attachment:
    """The one recorded attachment that a call is about; never "all of the volume's".

    ``learned`` is the client that has the volume open for it, where that was ever learned.
    """

    volume_id: str
    attachment_id: str | None
    instance_id: str | None
    connector: Connector | None
    learned: ClientInstance | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """One host's access to a volume, as the backend shows it.

    ``access`` says that the host may connect (an ACL entry, a mapping, a client key),
    ``sessions`` how many live sessions, watchers or nexuses it holds, None where the driver does
    not declare ``sees_sessions``. Either means "not clean".
    ``host_ip`` is set by a backend that knows a host by nothing but the IP address that it comes
    from, in the form of ``in_usual_form``; ``name`` is then the client's and no host's, and
    ``cookies`` are the numbers of its sessions.
    """

    name: str
    host: str | None = None
    address: str | None = None
    access: bool = True
    sessions: int | None = 0
    host_ip: str | None = None
    cookies: tuple[int, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """Return it as plain JSON values, without what this backend does not tell."""
        mapping = dataclasses.asdict(self) | {"cookies": list(self.cookies)}
        # The plan that a person approves has a fingerprint over this text. A key that is new for a
        # driver that does not fill it would make each approval void.
        unset = {name for name in ("host_ip", "cookies") if not mapping[name]}
        return {name: value for name, value in mapping.items() if name not in unset}

    def is_of(self, client: ClientInstance) -> bool:
        """Tell whether this is that very client: its number, its address, and its session.

        One whose session has ended may have left access, a lock for instance; it is the same.
        """
        # Both: another process of the host has another nonce, and each new client another number.
        same = (self.name, self.address) == (client.client, client.address)
        return same and (client.cookie in self.cookies or not self.cookies)

    def belongs_to(self, connector: Connector) -> bool:
        """Tell whether this is that host's connection.

        By initiator name or, failing that, host; where ``host_ip`` is set, by that alone.
        """
        if self.host_ip is not None:
            # No second way: a name that a client gives itself must not make it a host's.
            return self.host_ip in connector.addresses()
        if self.name in connector.names():
            return True
        # By the host only where the connector has no name at all: with one, a connection of another
        # name is of another initiator, even if it says that it is of this host.
        return not connector.names() and self.host is not None and self.host == connector.host


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """What a backend holds for one volume now.

    ``control`` is the positive control in words, without which an empty ``connections`` would prove
    nothing: that the right daemon answered and that the volume, or its kind, was seen there.
    """

    connections: tuple[Connection, ...]
    control: str

    def of(self, connector: Connector) -> tuple[Connection, ...]:
        """Return the connections that belong to the host of ``connector``."""
        return tuple(c for c in self.connections if c.belongs_to(connector))

    def client_of(self, connector: Connector, seen_at: datetime) -> ClientInstance | None:
        """Return the client that has the volume open for a host, if there is exactly one.

        ``seen_at`` is when the observation was made, of an attachment that was healthy then.
        """
        match self.of(connector):
            # One connection with one session. Of two nobody can say which is the guest's, and a
            # wrong one would be fenced.
            case (Connection(address=str(address), cookies=(cookie,)) as only,):
                return ClientInstance(address, only.name, cookie, seen_at)
            case _:
                return None


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One volume that a backend exports now, by the backend's own name for it.

    ``name`` is what the backend's administrator would look for: a target's IQN, an image, a path.
    ``volume_id`` is the id in that name by the backend's template, None where the name is not of
    that form; after a migration it is the volume's ``name_id``. ``connections`` are those that
    ``observe`` would return.
    """

    name: str
    volume_id: str | None
    connections: tuple[Connection, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver declares that it can do; the service takes its shape from it.

    ``sees_connections``: ``observe`` shows who is connected. Without it the driver is blind, and
    nothing verifies its success: the operator has to set ``trust_blind``.
    ``sees_hosts``: the host of a connection can be recognised by its connector. Without it any
    connection parks a release; no connection is still proof.
    ``sees_sessions``: the sessions of a connection are those that the backend has, so that 0 says
    that nobody uses it. Without it none are believed: whether the host uses its access is unknown,
    and only an operator who has set ``trust_blind`` lets such an access be ended. The backend then
    has to refuse every read and write of a host without access (LUN masking does): a session that
    goes on without access would not be seen at all.
    ``lists_exports``: ``list_exports`` answers, and the backend is searched for ghosts.
    ``revokes_access``: a released host cannot connect again. Without it the driver is never called,
    unless it declares ``by_learned_client``: Cinder's own calls release, and are made only where
    the probe says that nothing is left.
    ``ends_sessions``: a release ends the host's sessions; so it is not made where Cinder says that
    other volumes may be behind the same one (``shared_targets``).
    ``acts_through_cinder``: a release is a call of Cinder's API, not of the backend's; it is made
    only where Cinder's delete of the attachment would leave the backend as it is.
    ``accepts_no_connector``: a release without a connector ends every connection. It is asked for
    only where the operator has set ``allow_no_connector`` and the volume has a single one.
    ``by_learned_client``: a release ends the one client of ``Attachment.learned``, and is refused
    where none was learned and somebody has the volume open. Its host may open the volume again with
    another client, so such a driver does not declare ``revokes_access``.
    """

    sees_connections: bool
    sees_hosts: bool = False
    sees_sessions: bool = False
    lists_exports: bool = False
    revokes_access: bool = False
    ends_sessions: bool = False
    acts_through_cinder: bool = False
    accepts_no_connector: bool = False
    by_learned_client: bool = False

    def __post_init__(self) -> None:
        # Refused when the class is made, so that such a driver is reported as broken at the start.
        if self.sees_hosts and not self.sees_connections:
            raise ValueError("a driver that sees hosts declares that it sees connections too")
        if self.sees_sessions and not self.sees_connections:
            raise ValueError("a driver that sees sessions declares that it sees connections too")
        if self.by_learned_client and self.revokes_access:
            raise ValueError(
                "a driver that ends one client does not keep its host from coming back"
            )


class StorageDriver(ABC):
    """What looks at one Cinder backend and acts on it (``host@backend``).

    Rules for every method: bounded by ``timeout_seconds`` (a call that is not is given up, and its
    thread is lost, or its process is killed: docs/decisions/0018, 0034); never retries by itself;
    raises ``TransientError``, ``IndeterminateError`` or ``PermanentError`` and nothing else;
    thread-safe.
    """

    capabilities: ClassVar[Capabilities]
    opts: ClassVar[tuple[cfg.Opt, ...]] = ()
    """The driver's own options, each with a help; those that hold a secret say ``secret=True``."""

    def __init__(self, backend: str, options: Mapping[str, Any]) -> None:
        """Take the backend's name (``host@backend``) and a value for each of ``opts``.

        The values have been checked against the options' types. Opens nothing that could block.
        What cannot be used all the same is a ValueError whose text an operator can act on and that
        shows no secret.
        """
        self.backend = backend
        self.options = options

    @property
    def kind(self) -> str:
        """The name of the driver's class, for the evidence. Not to be overridden by a driver."""
        return type(self).__name__

    def how_reached(self, *, timeout_seconds: float) -> str | None:
        """Return in words by what the backend is reached, and which one it is. Read-only.

        For a person: which library, which version, which array. None where there is nothing to say.
        """
        del timeout_seconds
        return None

    @abstractmethod
    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Return who is connected to the volume now. Read-only; a blind driver is never asked.

        Look under every name that the volume may have (``VolumeRef.names``, ``provider_location``).
        One that is found under none raises ``NotFoundError``, as does a look in the wrong place: a
        wrong port, pool or directory. That is "unknown", never "clean". A backend that drops a
        volume's export with its last connection may still return no connection where its
        ``control`` shows in another way that it asked in the right place, for instance by another
        known volume that it sees there.
        """

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """Return at least every volume that a host has access to or a session with. Read-only.

        It serves the search for exports that Cinder does not know of. It shows where to look and
        proves nothing: what it leaves out is not clean, and ``observe`` decides about what it
        names. A list that could only be had in part raises. The default is for drivers that do not
        declare ``lists_exports``, and refuses.
        """
        raise PermanentError(
            f"The storage driver of {self.backend} cannot list what the backend exports (asked to "
            f"within {timeout_seconds:g} s)."
        )

    def reach_of(
        self, volume: VolumeRef, client: ClientInstance, *, timeout_seconds: float
    ) -> Reach:
        """Return what this client has open beside the volume. Read-only.

        It serves the person or the rule that decides whether the client may be ended. The default
        is for drivers that do not declare ``by_learned_client``, and refuses.
        """
        raise PermanentError(
            f"{self._ends_no_clients} (asked about {client.client} of volume {volume.volume_id} "
            f"within {timeout_seconds:g} s)."
        )

    def fences(self, *, timeout_seconds: float) -> Fences:
        """Return every client that the cluster refuses now, whoever asked for it. Read-only.

        Of a driver that ends single clients, which stay ended only for a time. The default, as that
        of the two methods below, is for drivers that do not declare ``by_learned_client``.
        """
        raise PermanentError(f"{self._ends_no_clients} (asked within {timeout_seconds:g} s).")

    def renew_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Have the cluster refuse this one client again; return whom it refuses then.

        ``address`` is that of one client with its nonce: PermanentError for one that means more,
        with nothing done. Of one that is refused still, the cluster may keep the time: it is called
        for one whose fence has ended.
        """
        raise PermanentError(
            f"{self._ends_no_clients} (asked to renew {address} within {timeout_seconds:g} s)."
        )

    def lift_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Let this one client in again, and no other; return whom the cluster refuses then.

        Already lifted is success. Only on a person's word.
        """
        raise PermanentError(
            f"{self._ends_no_clients} (asked to lift {address} within {timeout_seconds:g} s)."
        )

    @property
    def _ends_no_clients(self) -> str:
        return f"The storage driver of {self.backend} ends no single clients"

    @abstractmethod
    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Revoke the access of the attachment's host, then end its sessions.

        Already released is success. Other hosts are left alone. ``attachment.connector`` is None
        only where the driver declares ``accepts_no_connector``.
        """

    @abstractmethod
    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Remove what is left of the attachment on the backend once its connection is gone."""

    def force_detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Release the attachment whatever state it is in; calling it twice does no harm.

        The default is terminate, then detach, as the base class of the 2015 Cinder specification
        "implement force_detach for safe cleanup" has it. Each of the two gets the whole time limit.
        A detach that did nothing, or was refused, is IndeterminateError here: the connection is
        gone already, and a release that is on record as refused is one that never happened.
        """
        self.terminate_connection(
            volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds
        )
        try:
            self.detach(volume, attachment, request_id=request_id, timeout_seconds=timeout_seconds)
        # Of an IndeterminateError nothing has to be said anew.
        except (TransientError, PermanentError) as error:
            raise IndeterminateError(f"Terminated, then: {error}") from error
