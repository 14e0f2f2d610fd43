"""May we act now? Named reasons not to, each saying what then becomes of the case. Pure.

The guards are data: their sentences, what becomes of the case, and the question that each asks.

1. They are asked in the order of ``Guard``, and the first that holds is the one reported.
2. What only a person can lift comes first, then what passes by itself, then what the operator's
   mode asks for: so observe and approve never hide a deeper reason.
3. A guard never says how to act, only that we do not act yet.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from drivers.base import Capabilities
from handlers import intents
from handlers.case import ORDERED_OF_PARKED, Action, StepKind
from handlers.judgement import accounting, approval, facts
from handlers.judgement.diagnosis import holds
from handlers.judgement.evidence import FAILED_OVER, Fact
from handlers.judgement.plan import (
    Step,
    action_of,
    cinder_skips_backend,
    is_ordered_detach,
    nova_let_go,
)
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.judgement.situation import Situation
from handlers.notification import Operation

BACKEND = StepKind.BACKEND_FORCE_DETACH
FREES_IN_CINDER = frozenset(
    {
        StepKind.CINDER_DELETE_ATTACHMENT,
        StepKind.CINDER_FORCE_DETACH,
        StepKind.CINDER_UNRESERVE,
    }
)
LETS_OTHERS_ATTACH = FREES_IN_CINDER | {StepKind.NOVA_DETACH}
"""After these another server can get the volume, at once or when Nova's own detach ends."""
WAITS_FOR_DETACHES = LETS_OTHERS_ATTACH | {StepKind.CINDER_COMPLETE}
"""Before these no try to detach may be under way. What it ends must not be called attached."""
UNDOES_ATTACH = FREES_IN_CINDER | {BACKEND}


class Becomes(enum.Enum):
    """What becomes of a case that a guard holds back."""

    PARKED = "parked"
    LATER = "tried again later"
    ASKED = "waits for a person's approval"


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """What a guard says: in one sentence to a person, what follows, and why, for the page."""

    sentence: str
    becomes: Becomes
    why: str


class Guard(enum.Enum):
    """A reason not to act, in the order in which they are asked."""

    PROTECTED = Reason(
        "the volume is protected (its metadata, its type or its project): nothing is written to it",
        Becomes.PARKED,
        "The operator or the owner has put the volume out of bounds: `protected_metadata_key`, "
        "`protected_volume_types`, `protected_projects`. It is diagnosed and nothing more. An "
        "approval does not change that.",
    )
    BLIND_NOT_TRUSTED = Reason(
        "this backend cannot be seen; set trust_blind for it, so that detachd acts on what its "
        "driver reports",
        Becomes.PARKED,
        "The driver of the backend cannot see connections, and the operator has not set "
        "`trust_blind` for it.",
    )
    FAILED_OVER = Reason(
        "the volume was failed over to a replica, and nobody can see what is let in where: its "
        "driver would end the connection on the replica, and not the one that was made before",
        Becomes.PARKED,
        "Cinder says that the volume is failed over, or is being failed over, and the backend "
        "cannot be seen. Cinder's driver acts on the replica from then on; the attachment was made "
        "on the primary, where a guest may be writing still. With `trust_blind` the driver's word "
        "would be taken for an array that it did not speak to. After a failback it is lifted.",
    )
    NO_CONNECTOR = Reason(
        "no connector of the attachment's host was ever seen on the bus, so the one connection to "
        "end cannot be named",
        Becomes.PARKED,
        "A connection has to be ended, or the backend has one, and the connector of the "
        "attachment's host was never seen on the bus. Without a connector a driver would end "
        "every host's connection. There is none where the backend cannot be seen and the row is of "
        "a deleted server that never came to a compute, by Nova's record: no host was ever let in "
        "for it. Where the operator has set `allow_no_connector` and the driver "
        "takes that, it is called all the same if every host is the same one: a single "
        "connection without a session, for the only attachment that Cinder has.",
    )
    CONNECTOR_INCOMPLETE = Reason(
        "the connector of the attachment's host lacks what its protocol needs, so the backend's "
        "driver would end nothing, and could still report success",
        Becomes.PARKED,
        "The driver acts through Cinder's API, a call of its own ends the connection, and the "
        "connector that was learned of the host has no host name, or lacks the name by which the "
        "protocol knows a host: `initiator` (iSCSI), `wwpns` (Fibre Channel), `nqn` (NVMe-oF), "
        "`nqn` and `host_ips` (LightOS), `sdc_guid` (PowerFlex); docs/connectors.md.",
    )
    SEVERAL_ATTACHMENTS = Reason(
        "the volume has several attachments, and Cinder's API does not end the one connection that "
        "its delete would skip: it refuses, or ends those of the others too",
        Becomes.PARKED,
        "The driver acts through Cinder's API, the volume has other attachments, and the one "
        "connection is of the kind that Cinder's `DELETE /attachments/{id}` would skip: of a row "
        "that is still reserved, or that is gone. `os-terminate_connection` and `os-force_detach` "
        "refuse a volume with several attachments (409); with a service token `os-force_detach` "
        "would remove the export of all of them.",
    )
    NAMELESS_CONNECTION = Reason(
        "the backend has a connection, and its driver cannot tell of which host: a release could "
        "take the disk from another guest",
        Becomes.PARKED,
        "The backend has a connection, and its driver declares that it cannot tell hosts. The "
        "connection may be of the attachment's host or of another guest's. No connection at all "
        "is still proof, and Nova's own detach goes on as long as there are no more connections "
        "than hosts of attachments.",
    )
    ANOTHER_CLIENT = Reason(
        "another client has the volume than the one that was learned while its attachment was "
        "healthy: the volume may have moved, and only the learned client may be ended",
        Becomes.PARKED,
        "The driver ends single clients, and a client has the volume open that is not the one "
        "which was learned for this attachment while it was healthy: by its number, its address "
        "with the nonce of the process, and its session. It may be the guest's new process, or "
        "its new host. Whoever has the volume now is never ended for that alone.",
    )
    FOREIGN_CONNECTION = Reason(
        "the backend also has a connection that no record explains",
        Becomes.PARKED,
        "The backend has a connection that no record explains, beside that of the attachment's "
        "host or instead of it. A detach by Nova is held back too, because the volume would be "
        "available in the end.",
    )
    HOST_NOT_LISTED = Reason(
        "Nova did not list who uses the volume on the host whose access would be ended, so another "
        "server there could lose its disk",
        Becomes.PARKED,
        "The release would end the access of a host, and no answer of Nova says which servers may "
        "be using the volume there: the host has no nova-compute or no name that is known, or too "
        "many hosts are let in. The host's access is not the attachment's alone: another server "
        "of the same host may use it whose row was dropped.",
    )
    CANNOT_REVOKE = Reason(
        "the driver cannot revoke the host's access, and the backend is not known to be clean",
        Becomes.PARKED,
        "The attachment's host has access, and the driver declares that it can neither revoke "
        "access nor ask Cinder to. The host would connect again at once. Cinder's own delete may "
        "end its access or do nothing, and would free the volume either way. On a clean backend "
        "it is enough that such a driver can see, and Cinder's calls are made.",
    )
    NEVER_LEARNED = Reason(
        "a client has the volume, and it was never learned, while all was well, which client is "
        "the attachment's",
        Becomes.PARKED,
        "The driver ends single clients, a client has the volume open, and none was learned for "
        "this attachment: it was never found healthy by a look, or the connector of its host was "
        "not known then. Which client is meant cannot be told from who has the volume now. "
        "Where nobody has it, nothing needs to be ended.",
    )
    REACHES_OTHERS = Reason(
        "the client that would be ended has more other volumes open than the operator allows to "
        "be lost with it, or is the one client of its whole host",
        Becomes.PARKED,
        "The driver ends single clients, and this one has other volumes open too, more than the "
        "driver's option other_images allows (none by default). It would lose them all, whoever "
        "uses them. A kernel's client (`rbd map`) has everything that its host has "
        "mapped, in pools too that detachd does not know, so that no number can be told: it is "
        "never ended, not with an approval either.",
    )
    LIVE_SESSION = Reason(
        "the host holds a live session although Nova has no record of it: its guest may be using "
        "the disk",
        Becomes.PARKED,
        "The attachment's host holds a live session although Nova has no record of it. Where "
        "cinder-api fails in the very last call of an attach, Nova forgets the block device "
        "while the guest goes on using the disk. One thing lifts this guard: Nova's record that "
        "the compute of this very host ended the guest of the deleted server, of which a row is "
        "left. Then the session is a login of the host itself that no guest uses, and a driver "
        "that can end sessions ends it.",
    )
    SESSIONS_UNSEEN = Reason(
        "the host has access, and the driver does not show whether a guest uses it; set "
        "trust_blind for this backend, so that detachd ends an access that Nova has no record of",
        Becomes.PARKED,
        "The release would end an access, the driver does not declare that it sees sessions "
        "(`sees_sessions`), and the operator has not set `trust_blind` for the backend. Where "
        "cinder-api fails in the very last call of an attach, Nova forgets the block device while "
        "the guest goes on using the disk; a session would show that. Nova's record that the "
        "compute of this very host ended the guest lifts this guard, and so does a backend on "
        "which the host has no access.",
    )
    SHARED_TARGETS = Reason(
        "other volumes may be behind the same session, which the driver would end",
        Becomes.PARKED,
        "Cinder says that other volumes may be behind the same session, and the driver would end "
        "sessions.",
    )
    COMES_BACK = Reason(
        "the case was recovered before, its trouble came back, and it is older than "
        "patience_seconds",
        Becomes.PARKED,
        "The case was recovered before, its trouble came back, and it is older than "
        "`patience_seconds`.",
    )
    ORDERED_DETACH = Reason(
        "Nova cannot detach it as ordered: its server is in no state for that, the volume has "
        "other attachments, or the attach is known to have ended well",
        Becomes.PARKED,
        "A person may order that Nova detaches what would be rolled forward (`detachd case approve "
        "--action detach`). It is not offered, and an order that was given is not carried out, "
        "where Nova takes no detach of the server as it is now, where the volume has other "
        "attachments, and where a message said that the attach ended well: then its user has the "
        "volume, and may use it.",
    )
    NO_SERVICE_TOKEN = Reason(
        "no service token is configured: set auth_type and its options in [service_user], of a "
        "user with a role that Cinder's service_token_roles names",
        Becomes.PARKED,
        "A person may order that a call which Cinder refused is made with a service token "
        "(`detachd case approve --action service-token`). There is none without `auth_type` or "
        "`auth_section` in `[service_user]`. The order does not need `send_service_user_token`, "
        "which sends the token for every case.",
    )
    ORDERED_TOKEN = Reason(
        "a guest may hold the disk, or it is not known that none does: Nova's side is not proven "
        "gone, and a service token would end the check of Cinder that asks Nova",
        Becomes.PARKED,
        "A service token ends Cinder's own check of who uses the attachment (CVE-2023-2088), so "
        "detachd's own look is all that is left. The order is not offered, and one that was given "
        "is not carried out, where Nova has a block device of the attachment, or one that names no "
        "attachment; where Nova did not answer, or has no record that it ever had the server; "
        "where it did not list who uses the volume on the host; where the host holds a live "
        "session that a guest may be using; and where the backend should be seen and cannot be.",
    )
    SERVICE_DOWN = Reason(
        "cinder-volume of this backend is not up",
        Becomes.LATER,
        "Cinder's volume service of the backend is not up, and the plan needs it. The attempt does "
        "not count as failed.",
    )
    REACH_UNKNOWN = Reason(
        "it is not known what else the client has open that would be ended",
        Becomes.LATER,
        "The driver ends single clients, and could not tell in time what else this one has open.",
    )
    PROTOCOL_UNKNOWN = Reason(
        "no attachment tells the protocol of this backend, and Cinder's scheduler does not either, "
        "so it is not known what the connector needs",
        Becomes.LATER,
        "The driver acts through Cinder's API, a call of its own ends the connection, and nothing "
        "tells how hosts reach the volume: no attachment has connection info, and Cinder "
        "(`GET /scheduler-stats/get_pools`) does not answer, refuses, or lists no pool of the "
        "backend. Some drivers end nothing for a connector that lacks their key, and report "
        "success.",
    )
    OWN_CALL_UNANSWERED = Reason(
        "a call of our own gave no answer and may still act; until that time is over, no other "
        "server may get the volume",
        Becomes.LATER,
        "A call of our own that reaches the backend, an unreserve, or a detach that Nova was asked "
        "for, for whichever case of the volume, gave no answer less than `late_horizon_seconds` "
        "ago, or a crash left it open. It may still act, "
        "and would take the disk from the server that got the volume meanwhile, or give away what "
        "is being released. So no other "
        "server may get the volume, by its row or by our reserve, until the call cannot act any "
        "more.",
    )
    NOVA_AT_IT = Reason(
        "Nova was asked to detach it and may still be at it; a second detach could be of what is "
        "attached when the first one has ended",
        Becomes.LATER,
        "Nova took our request to detach this attachment less than `late_horizon_seconds` ago, and "
        "may be carrying it out. Nova's API is told a server and a volume, and no attachment: "
        "where the first detach ends and the volume is attached to the same server again before "
        "the second request arrives, that would be of the new attachment.",
    )
    LATE_DETACH = Reason(
        "a try to detach the volume began, no end of it was heard, and it may still act; until "
        "that time is over, no other server may get the volume, and it is not called attached",
        Becomes.LATER,
        "A try to detach the volume began less than `late_horizon_seconds` ago (Cinder's "
        "`volume.detach.start`: of Nova's tries, of an attach's clean-up, of any other client) "
        "and no end of it was heard. Cinder's call to the backend may still be under way after "
        "all callers gave up waiting for it, and revokes the access of the host by its name, "
        "whichever server uses the volume there by then. It does not matter whether the backend "
        "can be seen: the call acts after the look. Until the last such try cannot act any more "
        "the volume is neither released nor is Nova asked to detach it, nor is Cinder told that "
        "it is attached: Nova may be cleaning up an attach that it has given up, and forgets the "
        "block device last. There is no wait where Nova's five tries were heard and its own "
        "error came within two seconds of its own start, on the same host: each was then "
        "answered, and none is under way.",
    )
    LATE_ATTACH_UNSEEN = Reason(
        "the attach may still finish late, and this backend cannot be seen",
        Becomes.LATER,
        "The backend is blind, the case is about an attach, and its last try was heard less than "
        "`late_horizon_seconds` ago, or the case is younger than that. A release before the "
        "attach's last try has finished would be made for nothing, and it could not be seen.",
    )
    UNSEEN_FINDING = Reason(
        "the first sweep found this, it may be older than the installation, and nobody has seen "
        "the list yet: run `detachd sweep list`, then `detachd sweep acknowledge`",
        Becomes.ASKED,
        "The first sweep or the first round found it, it has not changed since, and no "
        "notification told of it: so it may be older than the installation, and what is right "
        "there, only the operators may know. Until a person has acknowledged the list once "
        "(`detachd sweep acknowledge`), such a case waits in mode `auto` as in mode `approve`. "
        "`detachd case approve` lets this one case act, and so does a replay.",
    )
    OBSERVE = Reason(
        "the mode is observe",
        Becomes.PARKED,
        "The mode is `observe`: diagnose and report. The case is parked with the plan.",
    )
    APPROVE = Reason(
        "the mode is approve, and this plan has no approval",
        Becomes.ASKED,
        "The mode is `approve` and this plan has no approval: `detachd case approve` gives it. An "
        "approval serves the plan and the evidence that were shown: after a change of either it "
        "takes a new one, and so it does after `approval_valid_seconds`, and after the plan was "
        "carried out. A plan that was approved and begun is carried on after a crash without a "
        "second approval.",
    )

    @property
    def sentence(self) -> str:
        """The sentence that a person reads."""
        return self.value.sentence

    @property
    def becomes(self) -> Becomes:
        """What becomes of the case."""
        return self.value.becomes

    @property
    def why(self) -> str:
        """Why there is such a guard, for the page."""
        return self.value.why


NEEDS_SIGHT = frozenset(
    {
        Guard.NAMELESS_CONNECTION,
        Guard.ANOTHER_CLIENT,
        Guard.FOREIGN_CONNECTION,
        Guard.NEVER_LEARNED,
        Guard.REACHES_OTHERS,
        Guard.LIVE_SESSION,
        Guard.SESSIONS_UNSEEN,
    }
)
"""These ask of what the backend was seen to have. Where it was not seen, a no means nothing."""
OF_THE_RECORD = frozenset(
    {
        Guard.COMES_BACK,
        Guard.OWN_CALL_UNANSWERED,
        Guard.NOVA_AT_IT,
        Guard.LATE_DETACH,
        Guard.LATE_ATTACH_UNSEEN,
        Guard.UNSEEN_FINDING,
    }
)
"""These ask of what the ledger holds of the volume. Without it, a no means nothing."""
OF_AN_ORDER = frozenset({Guard.ORDERED_DETACH, Guard.NO_SERVICE_TOKEN, Guard.ORDERED_TOKEN})
"""These stand against what a person ordered, and not against the plan as it is without that."""
ASKS = frozenset({Guard.APPROVE, Guard.UNSEEN_FINDING})
"""These stand only until a person has said yes to the plan."""
PASSES = frozenset(guard for guard in Guard if guard.becomes is Becomes.LATER)
_OF_PARKED = frozenset(action.value for action in ORDERED_OF_PARKED)
PARKS = frozenset(guard for guard in Guard if guard.becomes is Becomes.PARKED)


@dataclasses.dataclass(frozen=True, slots=True)
class Objection:
    """A guard that holds; ``wait_seconds`` is how long it will, where that is known."""

    guard: Guard
    wait_seconds: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Means:
    """What the plan would be carried out with: the driver, the operator's policy, the time.

    ``service_token`` tells whether there is one to send where a person orders it.
    """

    capabilities: Capabilities
    policy: BackendPolicy
    now: datetime
    fingerprint: str
    service_token: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What a guard is asked about: the situation, the steps that would be made, and the means."""

    s: Situation
    steps: tuple[Step, ...]
    means: Means

    @property
    def kinds(self) -> frozenset[StepKind]:
        """The kinds of the steps."""
        return frozenset(step.kind for step in self.steps)

    @property
    def releases(self) -> bool:
        """Tell whether a step releases the backend or frees the volume in Cinder."""
        return bool(self.kinds & UNDOES_ATTACH)


def bars(action: str, guard: str) -> bool:
    """Tell whether a guard that held at the last look stands against giving this order now.

    Both are the names that history keeps. An order waits for what passes by itself where it may be
    given of a parked case, as each look at that makes the call again; each guard is asked anew when
    the order is carried out.
    """
    waits = {one.name for one in PASSES} if action in _OF_PARKED else set()
    return guard not in waits | {one.name for one in ASKS}


def approved(s: Situation, steps: tuple[Step, ...], means: Means) -> bool:
    """Tell whether a person has approved these steps as they are now, and that still holds."""
    return _approved(Asked(s, steps, means))


def guard(s: Situation, steps: tuple[Step, ...], means: Means) -> Objection | None:
    """Return the first reason not to carry out ``steps`` now, or None."""
    return next(_objecting(Asked(s, steps, means)), None)


def objections(s: Situation, steps: tuple[Step, ...], means: Means) -> tuple[Objection, ...]:
    """Return every reason not to carry out ``steps`` now; the first one decides."""
    return tuple(_objecting(Asked(s, steps, means)))


def _objecting(asked: Asked) -> Iterator[Objection]:
    for reason in Guard:
        if (wait := QUESTIONS[reason](asked)) is not False:
            yield Objection(reason, None if wait is True else wait)


# -- the questions: False for no objection, else True or for how many seconds ----------------------


def _protected(a: Asked) -> bool:
    return a.means.policy.protects(a.s.volume)


def _blind_not_trusted(a: Asked) -> bool:
    return a.releases and a.s.blind and not a.means.policy.trust_blind


def _failed_over(a: Asked) -> bool:
    """Ask whether Cinder's driver speaks to another array than the attachment was made on."""
    return a.releases and a.s.blind and a.s.volume.replication_status in FAILED_OVER


def _no_connector(a: Asked) -> bool:
    return _one_host(a) and a.s.connector is None and _must_name_the_host(a)


def _connector_incomplete(a: Asked) -> bool:
    connector = a.s.connector
    return connector is not None and _hands_on(a) and bool(connector.missing(a.s.protocol))


def _protocol_unknown(a: Asked) -> bool:
    return _hands_on(a) and a.s.protocol is None


def _hands_on(a: Asked) -> bool:
    """Tell whether a call of ours hands a connector to Cinder's driver."""
    called = a.kinds & {BACKEND, StepKind.CINDER_FORCE_DETACH}
    return bool(called) and a.means.capabilities.acts_through_cinder


def _several_attachments(a: Asked) -> bool:
    through_cinder = a.means.capabilities.acts_through_cinder and bool(a.s.others)
    return _one_host(a) and through_cinder and bool(a.kinds & intents.TERMINATES)


def _nameless_connection(a: Asked) -> bool:
    return _one_host(a) and bool(a.s.nameless)


def _foreign_connection(a: Asked) -> bool:
    beside_ours = _one_host(a) and bool(a.s.foreign)
    return beside_ours or (
        StepKind.NOVA_DETACH in a.kinds and accounting.has_unexplained_connection(a.s)
    )


def _host_not_listed(a: Asked) -> bool:
    ends = bool(a.kinds & intents.REACHES_BACKEND)
    return ends and bool(accounting.let_go_unproven(a.s))


def _one_host(a: Asked) -> bool:
    """Tell whether the release must name one host.

    It need not where the operator permits that for this backend and only one host is connected:
    idle access for the only attachment that there is.
    """
    allowed = a.means.capabilities.accepts_no_connector and a.means.policy.allow_no_connector
    return a.releases and not (allowed and a.s.connector is None and a.s.sole)


def _must_name_the_host(a: Asked) -> bool:
    """Tell whether a step takes the connector, or the backend is not clean without one."""
    driver_call = bool(a.kinds & {BACKEND, StepKind.CINDER_FORCE_DETACH})
    skipped = a.s.blind and cinder_skips_backend(a.s) and not a.s.never_let_in
    return driver_call or isinstance(a.s.backend, Fact) or skipped


def _cannot_revoke(a: Asked) -> bool:
    """Tell whether a host has access that the driver cannot revoke.

    Cinder's own delete may revoke it or do nothing; its success would free the volume unproven.
    """
    able = a.means.capabilities
    can = able.revokes_access or able.acts_through_cinder or able.by_learned_client
    return _must_end_access(a) and not can


def _must_end_access(a: Asked) -> bool:
    return a.releases and (BACKEND in a.kinds or bool(a.s.own))


def _another_client(a: Asked) -> bool:
    return a.releases and a.means.capabilities.by_learned_client and a.s.another_client


def _never_learned(a: Asked) -> bool:
    by_client = a.means.capabilities.by_learned_client
    return by_client and a.s.learned is None and _must_end_access(a)


def _reaches_others(a: Asked) -> bool:
    reach = a.s.reach.value if isinstance(a.s.reach, Fact) else None
    return BACKEND in a.kinds and reach is not None and reach.goes_too_far


def _reach_unknown(a: Asked) -> bool:
    ends = BACKEND in a.kinds and a.means.capabilities.by_learned_client
    return ends and a.s.learned_there and not isinstance(a.s.reach, Fact)


def _live_session(a: Asked) -> bool:
    cannot_end_it = a.s.live_sessions and not a.means.capabilities.ends_sessions
    return a.releases and (a.s.guest_may_write or cannot_end_it)


def _sessions_unseen(a: Asked) -> bool:
    return _must_end_access(a) and a.s.sessions_unseen and not a.means.policy.trust_blind


def _shared_targets(a: Asked) -> bool:
    direct = BACKEND in a.kinds and not a.means.capabilities.acts_through_cinder
    return direct and a.s.volume.ref.shared_targets and a.means.capabilities.ends_sessions


def _comes_back(a: Asked) -> bool:
    age_seconds = (a.means.now - a.s.case.round_began_at).total_seconds()
    return a.s.case.mended_attempt > 0 and age_seconds > a.means.policy.patience_seconds


def _ordered_detach(a: Asked) -> bool:
    unfit = a.s.case.end_seen or bool(a.s.others) or not facts.nova_detaches(a.s)
    return is_ordered_detach(a.steps) and unfit


def _no_service_token(a: Asked) -> bool:
    return action_of(a.steps) is Action.SERVICE_TOKEN and not a.means.service_token


def _ordered_token(a: Asked) -> bool:
    unseen = accounting.let_go_unproven(a.s) or facts.backend_unknown(a.s)
    proven = nova_let_go(a.s) and not unseen and not a.s.guest_may_write
    return action_of(a.steps) is Action.SERVICE_TOKEN and not proven


def _service_down(a: Asked) -> bool:
    return not a.s.volume.service_up and bool(a.kinds - {BACKEND})


def _own_call(a: Asked) -> float | bool:
    return _left(a, intents.own_call_seconds) if a.kinds & LETS_OTHERS_ATTACH else False


def _nova_at_it(a: Asked) -> float | bool:
    asks_nova = StepKind.NOVA_DETACH in a.kinds
    return _left(a, intents.nova_detach_seconds) if asks_nova else False


def _late_detach(a: Asked) -> float | bool:
    return _left(a, intents.detach_seconds) if a.kinds & WAITS_FOR_DETACHES else False


def _late_attach(a: Asked) -> float | bool:
    unseen = a.s.blind and a.s.case.operation is Operation.ATTACH
    return _left(a, intents.attach_seconds) if unseen and a.releases else False


def _left(a: Asked, seconds: Callable[..., float]) -> float | bool:
    left = seconds(a.s.case, a.means.policy.late_horizon_seconds, a.means.now)
    return left if left > 0 else False


def _unseen_finding(a: Asked) -> bool:
    unseen = a.s.case.unseen_finding and a.means.policy.mode is Mode.AUTO
    return unseen and not _approved(a)


def _observe(a: Asked) -> bool:
    return a.means.policy.mode is Mode.OBSERVE


def _approve(a: Asked) -> bool:
    return a.means.policy.mode is Mode.APPROVE and not _approved(a)


def _approved(a: Asked) -> bool:
    """Tell whether the plan has its approval. One that was approved and begun is carried on."""
    case = a.s.case
    if case.approved_fingerprint is None or case.approved_at is None:
        return False
    if holds("UC2.completed", a.s) and intents.detach_ordered(case):
        return True  # the second half of what was ordered
    broken_off = holds("UC5.held", a.s) or holds("UC4.rolled", a.s)
    if broken_off and approval.begun_since_approved(case):
        return True
    age_seconds = (a.means.now - case.approved_at).total_seconds()
    valid = age_seconds <= a.means.policy.approval_valid_seconds
    unused = not approval.carried_out_since_approved(case)
    same = case.approved_fingerprint == a.means.fingerprint
    as_said = action_of(a.steps) is case.approved_action
    return valid and unused and same and as_said


QUESTIONS: Mapping[Guard, Callable[[Asked], float | bool]] = {
    Guard.PROTECTED: _protected,
    Guard.BLIND_NOT_TRUSTED: _blind_not_trusted,
    Guard.FAILED_OVER: _failed_over,
    Guard.NO_CONNECTOR: _no_connector,
    Guard.CONNECTOR_INCOMPLETE: _connector_incomplete,
    Guard.SEVERAL_ATTACHMENTS: _several_attachments,
    Guard.NAMELESS_CONNECTION: _nameless_connection,
    Guard.ANOTHER_CLIENT: _another_client,
    Guard.FOREIGN_CONNECTION: _foreign_connection,
    Guard.HOST_NOT_LISTED: _host_not_listed,
    Guard.CANNOT_REVOKE: _cannot_revoke,
    Guard.NEVER_LEARNED: _never_learned,
    Guard.REACHES_OTHERS: _reaches_others,
    Guard.LIVE_SESSION: _live_session,
    Guard.SESSIONS_UNSEEN: _sessions_unseen,
    Guard.SHARED_TARGETS: _shared_targets,
    Guard.COMES_BACK: _comes_back,
    Guard.ORDERED_DETACH: _ordered_detach,
    Guard.NO_SERVICE_TOKEN: _no_service_token,
    Guard.ORDERED_TOKEN: _ordered_token,
    Guard.SERVICE_DOWN: _service_down,
    Guard.REACH_UNKNOWN: _reach_unknown,
    Guard.PROTOCOL_UNKNOWN: _protocol_unknown,
    Guard.OWN_CALL_UNANSWERED: _own_call,
    Guard.NOVA_AT_IT: _nova_at_it,
    Guard.LATE_DETACH: _late_detach,
    Guard.LATE_ATTACH_UNSEEN: _late_attach,
    Guard.UNSEEN_FINDING: _unseen_finding,
    Guard.OBSERVE: _observe,
    Guard.APPROVE: _approve,
}
