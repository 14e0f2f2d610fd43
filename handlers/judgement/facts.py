"""The facts that the rules are made of: named yes-or-no questions about one situation. Pure.

Each fact is a predicate, and its docstring is one plain sentence. The rules (``rules.py``) name
their facts, and docs/rules.md is made from these sentences. So nothing is hidden in a fact:

1. A fact never asks whether a rule holds. What a rule leaves to another one stands in its
   ``unless``.
2. Time is no argument of any fact, but for the attempts that lie between two of our own calls.
3. "Not seen" is never taken for "not there": what could not be seen is a fact of its own.

The words of the sentences: *the attachment* is the one that the case is about, *its row* is
Cinder's record of it, *its server* is the server of that row, or of the case's notifications where
there is no row. A block device *names* a row when it carries the id of that row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from drivers.control_plane import DETACHABLE, CinderAttachment, Server, Swap
from handlers import intents
from handlers.case import CaseState, OtherCase, StepKind, Trigger
from handlers.judgement import accounting, off, writers
from handlers.judgement.evidence import Absent, Fact, NoControl, Unknown, left_behind
from handlers.judgement.policy import LateAttach
from handlers.judgement.situation import ATTACHED, RESERVED, Situation, has_ended
from handlers.notification import Operation

SETTLED_STATUSES = frozenset({"available", "attaching", "in-use", "detaching", "reserved"})
SETTLED_MIGRATIONS = frozenset({None, "", "none", "success", "error"})
UNFINISHED_ROWS = frozenset({"reserved", "attaching", "error_attaching"})
WAS_ATTACHED = frozenset({ATTACHED, "detaching", "error_detaching"})
"""The statuses that only a row which has been attached comes to."""
GUEST_STATES = DETACHABLE - {"shelved_offloaded"} | {"rescued", "suspended"}
SHELVED = "shelved_offloaded"
TRANSFER = "awaiting-transfer"
TEMPORARY = re.compile(
    r"(backup-vol-|\[revert\] temporary volume created from snapshot )"
    "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
"""Cinder, cinder/volume/driver.py ``_create_temp_volume``: for a backup, the source's id follows;
cinder/volume/manager.py ``_revert_to_snapshot_generic``: for a revert, that of the snapshot. Both
are available, without a row, and a host of Cinder's copies what is on them."""
NOVA_DETACH_ATTEMPTS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Predicate:
    """One question about a situation: its name, the sentence that a yes means, and the answer.

    ``where_blind`` is the sentence instead where the backend cannot be seen and ``sentence`` would
    speak of what nobody saw, ``where_seen`` where it was seen and ``sentence`` leaves that open.
    """

    name: str
    sentence: str
    holds: Callable[[Situation], bool]
    where_blind: str = ""
    where_seen: str = ""

    def __call__(self, s: Situation) -> bool:
        """Tell whether it holds."""
        return self.holds(s)

    def told(self, *, blind: bool) -> str:
        """Return what a yes means here, and no more."""
        return (self.where_blind if blind else self.where_seen) or self.sentence


def predicate(holds: Callable[[Situation], bool]) -> Predicate:
    """Make a predicate of a function, whose docstring is the sentence."""
    return Predicate(holds.__name__, " ".join((holds.__doc__ or "").split()), holds)


def where_blind(sentence: str, *, seen: str = "") -> Callable[[Predicate], Predicate]:
    """Give a predicate what a yes means where the backend cannot be seen, and where it was."""
    return lambda made: dataclasses.replace(made, where_blind=sentence, where_seen=seen)


# -- the volume's status ---------------------------------------------------------------------------


@predicate
def volume_in_error(s: Situation) -> bool:
    """The volume's status begins with `error`, or is `maintenance` and no migration of the volume
    is under way.
    """
    # A migration with `lock_volume` keeps an available volume in maintenance meanwhile (Cinder,
    # cinder/volume/api.py migrate_volume).
    kept = s.status == "maintenance" and s.volume.migration_status in SETTLED_MIGRATIONS
    return s.status.startswith("error") or kept


@predicate
def volume_busy(s: Situation) -> bool:
    """The volume's status is none of available, reserved, attaching, in-use and detaching, nor is
    it up for transfer; or a migration of the volume is under way; or it is a temporary volume that
    Cinder makes for a backup or a revert, by its name, and has no row.
    """
    return s.status not in SETTLED_STATUSES | {TRANSFER} or _used_by_cinder(s)


def _used_by_cinder(s: Situation) -> bool:
    temporary = bool(TEMPORARY.fullmatch(s.volume.display_name or "")) and not s.volume.attachments
    return temporary or s.volume.migration_status not in SETTLED_MIGRATIONS


@predicate
def open_to_others(s: Situation) -> bool:
    """The volume is available, so that any server may get it, or it is up for transfer to another
    project; and Cinder itself does not use it.
    """
    return s.status in ("available", TRANSFER) and not _used_by_cinder(s)


@predicate
def up_for_transfer(s: Situation) -> bool:
    """The volume is up for transfer to another project."""
    return s.status == TRANSFER


@predicate
def available(s: Situation) -> bool:
    """The volume is available."""
    return s.status == "available"


@predicate
def attaching(s: Situation) -> bool:
    """The volume is attaching."""
    return s.status == "attaching"


@predicate
def in_use(s: Situation) -> bool:
    """The volume is in-use."""
    return s.status == "in-use"


@predicate
def in_use_or_reserved_anew(s: Situation) -> bool:
    """The volume is in-use, or reserved because a further server is getting it too."""
    return s.status == "in-use" or _is_reserved_anew(s)


def _is_reserved_anew(s: Situation) -> bool:
    # Cinder, cinder/volume/api.py _attachment_reserve: in-use becomes reserved until that row has
    # got a connection, or is deleted.
    unfinished = (r for r in s.others if r.instance_id != s.instance_id and r.status == RESERVED)
    return s.volume.ref.multiattach and s.status == "reserved" and any(unfinished)


@predicate
def detaching(s: Situation) -> bool:
    """The volume is detaching."""
    return s.status == "detaching"


@predicate
def reserved_or_in_use(s: Situation) -> bool:
    """The volume is reserved or in-use."""
    return s.status in ("reserved", "in-use")


@predicate
def reserved_or_attaching(s: Situation) -> bool:
    """The volume is reserved or attaching."""
    return s.status in ("reserved", "attaching")


@predicate
def no_detach_under_way(s: Situation) -> bool:
    """The volume is reserved, attaching or in-use."""
    return s.status in ("in-use", "attaching", "reserved")


@where_blind(
    "The volume is reserved or attaching; or it is available and the row is in error; or it is "
    "in-use because a driver that acts through Cinder was asked to release it.",
    seen=(
        "The volume is reserved or attaching; or it is available and the row is in error; or it is "
        "in-use, and no row of it is more than unfinished."
    ),
)
@predicate
def attach_unfinished(s: Situation) -> bool:
    """The volume is reserved or attaching; or it is available and the row is in error; or it is
    in-use, no row of it is more than unfinished, and the backend is seen or a driver that acts
    through Cinder was asked to release it.
    """
    in_error = s.status == "available" and s.attachment_status == "error_attaching"
    # Whoever ends the connection or gives back the reserve, such a driver or a person, turns
    # attaching into in-use, as there is a row (Cinder, cinder/volume/api.py unreserve_volume).
    # A person who says by hand that it is in use leaves the same, which only the backend refutes.
    unfinished = all(r.status in UNFINISHED_ROWS for r in s.volume.attachments)
    known_idle = not s.blind or intents.asked_driver(s.case)
    rolled = s.status == "in-use" and unfinished and known_idle
    return s.status in ("attaching", "reserved") or in_error or rolled


@predicate
def status_fits_other_attachments(s: Situation) -> bool:
    """The volume is available or up for transfer, or it is in-use or reserved by its other rows."""
    if not s.others:
        return s.status in ("available", TRANSFER)
    return s.status in ("in-use", "reserved")


# -- the rows in Cinder ----------------------------------------------------------------------------


@predicate
def row_left(s: Situation) -> bool:
    """The volume has a row, which is more than the error of an attach."""
    return any(row.status != "error_attaching" for row in s.volume.attachments)


@predicate
def ambiguous(s: Situation) -> bool:
    """No notification named the attachment, and several rows may be its own."""
    return s.ambiguous


@predicate
def has_attachment(s: Situation) -> bool:
    """The attachment has a row."""
    return s.attachment is not None


@predicate
def no_attachment(s: Situation) -> bool:
    """The attachment has no row."""
    return s.attachment is None


@predicate
def no_attachments(s: Situation) -> bool:
    """The volume has no row at all."""
    return not s.volume.attachments


@predicate
def no_other_attachment(s: Situation) -> bool:
    """The volume has no other row."""
    return not s.others


@predicate
def other_attachments(s: Situation) -> bool:
    """The volume has other rows."""
    return bool(s.others)


@predicate
def attachment_is_attached(s: Situation) -> bool:
    """The row is attached."""
    return s.attachment_status == ATTACHED


@predicate
def attachment_is_attaching(s: Situation) -> bool:
    """The row is attaching."""
    return s.attachment_status == "attaching"


@predicate
def attachment_is_reserved_or_attached(s: Situation) -> bool:
    """The row is reserved or attached."""
    return s.attachment_status in ("reserved", ATTACHED)


@predicate
def attachment_is_unfinished(s: Situation) -> bool:
    """The row is unfinished: reserved, attaching or error_attaching."""
    return s.attachment_status in UNFINISHED_ROWS


@predicate
def attachment_is_in_error_detaching(s: Situation) -> bool:
    """The row is error_detaching."""
    return s.attachment_status == "error_detaching"


@predicate
def attachment_is_of_no_server(s: Situation) -> bool:
    """The row names no server: it is of a host, or of another client than Nova."""
    return s.attachment is not None and s.attachment.instance_id is None


@predicate
def no_second_attachment(s: Situation) -> bool:
    """Its server has no other row."""
    return not s.siblings


@predicate
def second_attachment_is_unfinished(s: Situation) -> bool:
    """Its server has an unfinished second row, and Nova does not keep that one for a revert."""
    rows = (r for r in s.siblings if not accounting.kept_for_a_revert(s, r))
    return any(r.status in UNFINISHED_ROWS for r in rows)


@predicate
def kept_for_a_revert(s: Situation) -> bool:
    """Its server is resized and waits for a person to confirm or revert it, and the row is only
    reserved.
    """
    return s.attachment is not None and accounting.kept_for_a_revert(s, s.attachment)


@predicate
def second_attachments_are_good(s: Situation) -> bool:
    """Its server has other rows, all of them attached: its block devices name one at least, and the
    server has left the hosts of all that they do not name.
    """
    good = [r for r in s.siblings if r.status == ATTACHED and s.names(r)]
    rest = [r for r in s.siblings if r not in good]
    left = all(r.status == ATTACHED and left_behind(r, s.servers) for r in rest)
    return bool(good) and left


@predicate
def other_attachments_named(s: Situation) -> bool:
    """The volume has other rows, and a block device of its own server names each of them."""
    return bool(s.others) and s.others_named_by_devices == s.others


@where_blind(
    "The volume has other rows, and each is in order or over: it is attached and a block device of "
    "its own server names it; or it is reserved for a server that is shelved and offloaded, and "
    "named too; or its server is deleted, and Nova says that the guest ended on the row's host."
)
@predicate
def other_attachments_in_order(s: Situation) -> bool:
    """The volume has other rows, and each is in order or over: it is attached and a block device of
    its own server names it; or it is reserved for a server that is shelved and offloaded, and named
    too; or its server is deleted, and either the probe proves that the backend has no connection,
    or Nova says that the guest ended on the row's host.
    """
    return bool(s.others) and all(_is_in_order(s, r) or _is_over(s, r) for r in s.others)


def _is_in_order(s: Situation, row: CinderAttachment) -> bool:
    """Tell whether its server has the volume by this row, or is to get it back by it.

    No detach that Cinder has on record is of what is offloaded: Nova tells it of none (Nova,
    nova/compute/api.py _detach_volume_shelved_offloaded).
    """
    server = s.holder(row)
    shelved = server is not None and server.vm_state == SHELVED
    in_use = server is not None and row.status == ATTACHED
    return in_use or (shelved and row.status == RESERVED)


def _is_over(s: Situation, row: CinderAttachment) -> bool:
    """Tell whether the row's server is deleted, and its guest proven to use the volume no more."""
    gone = isinstance(s.servers.get(row.instance_id or ""), Absent)
    return gone and (no_connection(s) or has_ended(row, s.servers, s.guests_ended))


@predicate
def other_attachment_in_transition(s: Situation) -> bool:
    """The volume is attaching or detaching, and not for the attachment: its row is gone, or its row
    is named, and attached or reserved for a shelved server, while another one comes, or its row is
    unfinished while another goes; or another client reserved the volume without a row; or its row
    is attached and not named, and the volume is reserved for another server that is getting it.
    """
    if s.ambiguous or s.status not in ("attaching", "detaching"):
        left = s.attachment_status == ATTACHED and not s.named_by_device
        return not s.ambiguous and left and _is_reserved_anew(s)
    if s.attachment is None:
        return bool(s.others) or _reserved_by_another_client(s)
    if s.status == "attaching":
        return bool(s.others) and _is_in_order(s, s.attachment)
    return bool(s.others) and s.attachment_status in UNFINISHED_ROWS


def _reserved_by_another_client(s: Situation) -> bool:
    # Of an attach of which a look has found nothing left, no reserve comes any more.
    may_be_its_own = attach_without_attachment_id(s) and s.case.first_clean_at is None
    return s.status == "attaching" and not (may_be_its_own or reserve_is_ours(s))


# -- Nova ------------------------------------------------------------------------------------------


@predicate
def nova_unknown(s: Situation) -> bool:
    """Nova did not answer for a server in question or the swaps of its volumes, or not surely in
    full for the host whose access would be ended; or it says that it has no such server, and
    nothing shows that it ever had it.
    """
    return _holders_unknown(s) or isinstance(s.swapping, Unknown) or bool(_unknown_servers(s))


@predicate
def finished_without_nova(s: Situation) -> bool:
    """Nothing shows that Nova ever had the servers that it does not report; the volume is available
    without any row; and the probe proves that the backend has no connection, or, where the backend
    cannot be seen, the end of the detach is on record and nothing suggests a leak.
    """
    never_had = _all_never_had(s)
    free = available(s) and no_attachments(s)
    ended = s.blind and s.case.end_seen and s.case.operation is Operation.DETACH
    proven = no_connection(s) or (
        ended and no_leak_suspected(s) and not device_without_attachment(s)
    )
    return never_had and not _holders_unknown(s) and free and proven


def never_in_nova(s: Situation) -> bool:
    """Tell whether all that Nova left unknown is servers that it was never known to have."""
    return bool(_unknown_servers(s)) and _all_never_had(s) and not _holders_unknown(s)


def _all_never_had(s: Situation) -> bool:
    return all(isinstance(answer, NoControl) for answer in _unknown_servers(s))


def _unknown_servers(s: Situation) -> list[Unknown]:
    return [answer for answer in s.servers.values() if isinstance(answer, Unknown)]


def _holders_unknown(s: Situation) -> bool:
    asked = accounting.asked_of_hosts_let_go(s)
    return any(isinstance(holding.holders, Unknown) for holding in asked)


@predicate
def server_busy(s: Situation) -> bool:
    """A server that has a row of the volume has a task of Nova's under way, or a volume of its
    server is being swapped for another one.
    """
    servers = (a.value for a in s.servers.values() if isinstance(a, Fact))
    return s.swapping == Fact(Swap.UNDER_WAY) or any(
        server.task_state is not None for server in servers
    )


@predicate
def server_exists(s: Situation) -> bool:
    """Nova has its server."""
    return s.server is not None


@predicate
def server_gone(s: Situation) -> bool:
    """Its server is deleted."""
    return s.server_gone


@predicate
def server_shelved(s: Situation) -> bool:
    """Its server is shelved and offloaded."""
    return s.server is not None and s.server.vm_state == SHELVED


@predicate
def has_guest(s: Situation) -> bool:
    """Its server ran and has a guest, which may be switched off: it is active, paused, rescued,
    resized, shelved and not offloaded, soft-deleted, stopped or suspended.
    """
    return _ran_and_is(s.server, GUEST_STATES)


@predicate
def nova_detaches(s: Situation) -> bool:
    """Its server ran, and is active, paused, stopped, resized, shelved or soft-deleted: Nova takes
    a detach of it, and carries it out on its compute.
    """
    return _ran_and_is(s.server, DETACHABLE - {SHELVED})


def _ran_and_is(server: Server | None, states: frozenset[str]) -> bool:
    return server is not None and server.launched and server.vm_state in states


@predicate
def named_by_device(s: Situation) -> bool:
    """A block device of its server names the row."""
    return s.named_by_device


@predicate
def held_or_server_gone(s: Situation) -> bool:
    """A block device of its server holds the volume, and each names a row; or its server is
    deleted.
    """
    return (bool(s.devices) and not s.devices_without_attachment) or s.server_gone


@predicate
def device_without_attachment(s: Situation) -> bool:
    """A block device of its server holds the volume under a row that Cinder does not have."""
    return bool(s.devices_without_attachment)


@predicate
def device_names_no_attachment(s: Situation) -> bool:
    """The only block device of its server for the volume names no attachment at all."""
    return tuple(d.attachment_id for d in s.devices) == (None,)


@predicate
def no_block_device(s: Situation) -> bool:
    """Nova proves that no block device of its server holds the volume."""
    return (s.server is not None or s.server_gone) and not s.devices


@predicate
def wrong_attachment_named(s: Situation) -> bool:
    """Its server has several rows, and Nova names an unfinished one beside an attached one, or an
    attached one of which nothing proves that it is on the server's host, or which is recorded on
    another one.
    """
    agreed = s.status == "in-use" and s.named_by_device and s.attachment_status == ATTACHED
    if agreed and any(attachment.status == ATTACHED for attachment in s.siblings):
        return not s.on_host_of_its_server
    attachments = ([s.attachment] if s.attachment else []) + list(s.siblings)
    named = [r for r in attachments if s.names(r)]
    unfinished = any(r.status != ATTACHED for r in named)
    on_another_host = any(left_behind(r, s.servers) for r in named)
    attached = [r for r in attachments if r.status == ATTACHED]
    unnamed = any(r not in named for r in attached)
    return (unfinished and bool(attached)) or (on_another_host and unnamed)


@predicate
def may_be_on_another_host(s: Situation) -> bool:
    """Its server has another row, and nothing proves the attachment to be on the server's host."""
    return bool(s.siblings) and not s.on_host_of_its_server


@predicate
def server_moved_away(s: Situation) -> bool:
    """Its recorded host is another than the one that its server is on."""
    here = s.server.host if s.server else None
    return None not in (here, s.host) and here != s.host


@predicate
def recorded_host_up(s: Situation) -> bool:
    """The compute service of its recorded host is up."""
    return s.computes.get(s.host or "") is True


@predicate
def guest_ended(s: Situation) -> bool:
    """Nova says that the guest of the deleted server was ended on the attachment's host."""
    return s.guest_ended


@predicate
def deleted_without_its_guest(s: Situation) -> bool:
    """The request that deleted its server made this detach too, of a row on a host, and by Nova's
    record no compute ended the guest: nova-api deletes the record alone where the compute is down.
    """
    by_deletion = not set(s.deleted_by).isdisjoint(s.case.request_ids)
    detach = s.case.operation is Operation.DETACH and s.host is not None
    return detach and by_deletion and s.server_gone and s.ended_on is None


@predicate
def guest_may_have_it(s: Situation) -> bool:
    """The row is attached, or a detach of it failed or is under way, or the attach is known to have
    ended, or it had come as far as attaching where the backend, or who is in session, cannot be
    seen.
    """
    was_attached = s.case.end_seen and s.case.operation is Operation.ATTACH
    unseen = s.blind or s.sessions_unseen
    may_have_come_far = unseen and s.attachment_status == "attaching"
    return s.attachment_status in WAS_ATTACHED or was_attached or may_have_come_far


@where_blind(
    "The compute service of its server's host is not known to be up; or that of its own host, of "
    "which Nova was asked, is down."
)
@predicate
def compute_not_up(s: Situation) -> bool:
    """The compute service of its server's host is not known to be up; or that of its own host is
    down, where Nova was asked about that host because it has access that no row explains.
    """
    down = s.server is not None and s.server.host is not None and s.server.compute_up is not True
    return down or _host_down(s)


@predicate
def only_hosts_that_are_off(s: Situation) -> bool:
    """Every host in question whose compute is not known to be up is powered off by a person's word,
    and the word counts here: the operator lets it, the backend was seen and has no session of that
    host, and Nova does not say that its compute is up. No block device of its server holds the
    volume, nothing but those hosts would lose access, and a record explains all other parties.
    """
    hosts, down = off.counts(s), off.not_up(s)
    return bool(down) and down <= hosts and off.only_of(s, hosts)


@predicate
def its_host_is_off(s: Situation) -> bool:
    """The attachment's host is powered off by a person's word, and the word counts here: the
    operator lets it, the backend was seen and has no session of that host, and Nova does not say
    that its compute is up. Nothing else would lose access, and a record explains all other parties.
    """
    hosts = off.counts(s)
    return s.attached_host in hosts and off.only_of(s, hosts)


# -- no instance is known: the one host that has access stands for it -----------------------------


def holders(s: Situation) -> tuple[str, ...]:
    """Return the servers that may be using the volume on the host, by Nova's records."""
    answer = s.holding.holders if s.holding is not None else None
    return answer.value if isinstance(answer, Fact) else ()


def _host_down(s: Situation) -> bool:
    return any(asked.compute_up is False for asked in accounting.asked_of_hosts_let_go(s))


@predicate
def host_uses_nothing(s: Situation) -> bool:
    """No instance is known and there is no row; Nova proves of the one host, a compute that is up,
    that no server may be using the volume there.
    """
    asked = s.holding if s.instance_id is None and not s.volume.attachments else None
    proven = asked is not None and asked.compute_up is True and asked.holders == Fact(())
    return proven and asked is not None and asked.host == s.host


@predicate
def reset_by_hand(s: Situation) -> bool:
    """Its status was written by hand, and no record says whose the volume was."""
    return s.case.trigger is Trigger.RESET and s.instance_id is None


@predicate
def no_instance_to_ask(s: Situation) -> bool:
    """No instance is known, and no host can stand for it."""
    accounted_for = host_uses_nothing(s) or bool(holders(s)) or _host_down(s)
    return s.instance_id is None and not accounted_for


@predicate
def no_block_device_known(s: Situation) -> bool:
    """Nova proves that no block device of its server holds the volume, or no instance is known."""
    return no_block_device(s) or s.instance_id is None


@predicate
def no_block_device_or_host_uses_nothing(s: Situation) -> bool:
    """Nova proves that no block device of its server holds the volume; or, where no instance is
    known, that no server may be using it on the one host.
    """
    return no_block_device(s) or host_uses_nothing(s)


@predicate
def guest_holds(s: Situation) -> bool:
    """A block device holds the volume under a row that Cinder does not have, or while it is
    available or up for transfer; or no instance is known and a server may be using it on the one
    host.
    """
    while_free = bool(s.devices) and open_to_others(s)
    return bool(holders(s)) or bool(s.devices_without_attachment) or while_free


@predicate
def no_attachment_is_attached(s: Situation) -> bool:
    """No row of the volume is attached."""
    return all(attachment.status != ATTACHED for attachment in s.volume.attachments)


@predicate
def given_to_nobody(s: Situation) -> bool:
    """The volume is reserved, attaching or detaching."""
    return s.status in ("reserved", "attaching", "detaching")


@predicate
def guest_holds_and_at_rest(s: Situation) -> bool:
    """The same, while no task is under way, Nova answered, and every compute in question is up."""
    waits = server_busy(s) or compute_not_up(s) or nova_unknown(s)
    return guest_holds(s) and not waits


# -- the backend -----------------------------------------------------------------------------------


@predicate
def backend_unknown(s: Situation) -> bool:
    """The driver should have seen the backend and did not: an error, a timeout, no positive
    control, or the volume was found under none of its names.
    """
    return isinstance(s.backend, Unknown)


@predicate
def blind(s: Situation) -> bool:
    """The backend cannot be seen."""
    return s.blind


@predicate
def clean(s: Situation) -> bool:
    """The probe proves that the backend has no connection but those that other rows explain."""
    return s.clean


@where_blind("Nova says that the guest ended on the row's host.")
@predicate
def clean_or_guest_ended(s: Situation) -> bool:
    """The probe proves that the backend has no connection but those that other rows explain, or
    Nova says that the guest ended on the row's host.
    """
    return s.clean or s.guest_ended


@where_blind("Nova says that the guest ended on the row's host.")
@predicate
def clean_or_guest_gone(s: Situation) -> bool:
    """The probe proves that the backend has no connection but those that other rows explain, or
    Nova says that the guest ended on the row's host, or a person that this host is powered off.
    """
    return s.clean or s.guest_ended or its_host_is_off(s)


@where_blind("Nova has its server.")
@predicate
def server_exists_or_clean(s: Situation) -> bool:
    """Nova has its server, or the probe proves that the backend has no connection but those that
    other rows explain.
    """
    return s.server is not None or s.clean


@where_blind(
    "The backend cannot be seen.",
    seen="The backend has a connection of its host, or one whose host the driver cannot tell.",
)
@predicate
def connected_or_blind(s: Situation) -> bool:
    """The backend has a connection of its host, or one whose host the driver cannot tell; or it
    cannot be seen.
    """
    return bool(s.own or s.nameless) or s.blind


@predicate
def connection_seen(s: Situation) -> bool:
    """The backend is seen to have a connection that no other row explains, or one whose host the
    driver cannot tell.
    """
    return bool(s.own or s.foreign or s.nameless)


@predicate
def foreign_connection(s: Situation) -> bool:
    """The backend has a connection that no record explains, or one whose host the driver cannot
    tell.
    """
    return bool(s.nameless) or any(accounting.row_of(s, c) is None for c in s.foreign)


@predicate
def somebody_let_in(s: Situation) -> bool:
    """The backend has a connection."""
    return bool(accounting.seen(s))


def on_record_unseen(s: Situation) -> bool:
    """Tell whether nobody saw who is let in, and a record says that somebody may be.

    That is a row of the volume, or a block device of Nova's.
    """
    unseen = s.blind or backend_unknown(s)
    on_record = row_left(s) or any(server.block_devices for server in accounting.servers_found(s))
    return unseen and on_record


@predicate
def live_session(s: Situation) -> bool:
    """The backend has a live session of any host, but for one of which Nova says that its guest was
    ended there.
    """
    idle = s.own if s.guest_ended else ()
    return any(c.sessions for c in accounting.seen(s) if c not in idle)


@predicate
def only_its_own_connections(s: Situation) -> bool:
    """The backend has a connection of the attachment's host, and beside it none but those that
    other rows explain.
    """
    return bool(s.own) and not (s.foreign or s.nameless)


@predicate
def its_host_in_session(s: Situation) -> bool:
    """The attachment's host holds, or may hold, a live session."""
    return s.live_sessions


@where_blind(
    "The backend cannot be seen; Cinder's API deleted the row without asking the backend, as far "
    "as the messages tell, which had been asked for it before; and no driver has reported a "
    "release since.",
    seen="The backend has a connection of its host.",
)
@predicate
def access_left(s: Situation) -> bool:
    """The backend has a connection of its host; or it cannot be seen, Cinder's API deleted the row
    without asking the backend, as far as the messages tell, which had been asked for it before, by
    an attach or with a connector on the bus, and no driver has reported a release since.
    """
    return bool(s.own) or _suspected(s)


def _suspected(s: Situation) -> bool:
    return s.blind and not no_leak_suspected(s)


@predicate
def no_leak_suspected(s: Situation) -> bool:
    """No message told that Cinder's API deletes a reserved row (its start, or, of an older Cinder,
    an end without any start), or nothing shows that the backend was ever asked for it, or the
    driver has reported a release since, or its very host has the volume by another row, in order.
    """
    suspected = s.case.released_unasked and _backend_was_asked(s)
    return not suspected or intents.released_by_driver(s.case) or _has_it_anew(s)


def _has_it_anew(s: Situation) -> bool:
    """Tell whether its host was let in again since, for whom its own detach ends the access."""
    rows = (r for r in s.others if r.status == ATTACHED and s.holder(r) is not None)
    return s.host is not None and any(row.host == s.host for row in rows)


def _backend_was_asked(s: Situation) -> bool:
    """Tell whether an attach of this attachment began, or its connector was seen, on the bus.

    A row that is reserved for a shelved server, and one whose attach was refused, never had either.
    """
    began = s.case.starts > 0 or s.case.nova_started
    return s.case.connector is not None or (began and s.case.operation is Operation.ATTACH)


@predicate
def shared_host(s: Situation) -> bool:
    """Another row or its server is on the attachment's host, or may be."""
    return s.shared_host


@where_blind("Another row or its server is on the attachment's host, or may be.")
@predicate
def shared_connection(s: Situation) -> bool:
    """Another row or its server is on the attachment's host, or may be, and the backend has a
    connection, or cannot be seen.
    """
    return s.shared_host and not no_connection(s)


@predicate
def connector_known(s: Situation) -> bool:
    """The connector of its host is known."""
    return s.connector is not None


@predicate
def guest_lost_access(s: Situation) -> bool:
    """A guest that runs, in no rescue, and that Nova did not last see switched off, on a compute
    that is up has the volume by an attached row, not to read alone; and its host has no access on
    the backend.
    """
    return bool(writers.lost_access(s))


@predicate
def connected_while_shelved(s: Situation) -> bool:
    """Its server is shelved and offloaded; and the row is on a host, or the backend has a
    connection of its host, or, where there is no other row, any connection.
    """
    on_a_host = s.attachment is not None and s.attachment.host is not None
    unexplained = not s.others and bool(s.foreign or s.nameless)
    return server_shelved(s) and (on_a_host or bool(s.own) or unexplained)


@predicate
def no_connection(s: Situation) -> bool:
    """The probe proves that the backend has no connection."""
    return isinstance(s.backend, Absent)


# -- who may be writing ----------------------------------------------------------------------------


@predicate
def several_writers(s: Situation) -> bool:
    """Two hosts or more may be writing: each has a live session, or has access while a running
    server there has a block device for the volume; and neither is the volume multiattach with a row
    for each of them, nor is one of its servers being moved.
    """
    return writers.too_many(s)


@predicate
def writer_on_a_dead_host(s: Situation) -> bool:
    """One of the hosts that may be writing is not known to be up, its server has left it, and its
    row is left there.
    """
    return writers.beside_a_dead_host(s)


@predicate
def cinder_at_work(s: Situation) -> bool:
    """Cinder itself works on the volume (a backup, an upload, a retype, a migration), and only one
    host too many may be writing, which may be Cinder's own as no server of the volume is on it.
    """
    return volume_busy(s) and not volume_in_error(s) and writers.beside_cinder(s)


LEFT_BEHIND = (
    in_use,
    attachment_is_attached,
    server_moved_away,
    connector_known,
    second_attachments_are_good,
)
NOT_LEFT_BEHIND = (named_by_device, device_without_attachment, shared_host)
"""What the row of a live migration's source is known by, whether its host is up or not."""


@predicate
def left_on_a_host_that_is_down(s: Situation) -> bool:
    """The row is what `S2.left-on-source` asks for, but the compute service of its host is not
    known to be up; or another row of its server is left so, and both hosts may be writing.
    """
    left = all(fact(s) for fact in LEFT_BEHIND) and not any(fact(s) for fact in NOT_LEFT_BEHIND)
    down = left and not recorded_host_up(s)
    return down or (several_writers(s) and writer_on_a_dead_host(s))


@where_blind(
    "A server other than its own has a block device for the volume that no row explains; or one "
    "without a row may be using the volume on a host of which Nova was asked."
)
@predicate
def another_user(s: Situation) -> bool:
    """A server other than its own has a block device for the volume that no row explains; or one
    without a row may be using the volume on a host that is let in and that no row explains.
    """
    return bool(accounting.other_users(s))


@where_blind(
    "Something of Nova's on the volume is explained by no record: a block device by no row, or a "
    "server that may be using the volume by no row of it."
)
@predicate
def unexplained_holder(s: Situation) -> bool:
    """Something on the volume is explained by no record: an access or a session by no attachment, a
    block device by no row, or a server that may be using the volume by no row of it.
    """
    return bool(accounting.may_hold(s))


@predicate
def unexplained_attachment(s: Situation) -> bool:
    """A row of a server that is deleted, or that is at no task, is named by none of its block
    devices.
    """
    return bool(accounting.unexplained(s)) and not accounting.may_hold(s)


@predicate
def others_left_over(s: Situation) -> bool:
    """A row that is attached or in error is explained by none of its server's block devices, and no
    case of its own is at work on it.
    """
    return bool(left_over(s)) and not any(_is_at_work_on(s, other) for other in s.case.beside)


def left_over(s: Situation) -> tuple[str, ...]:
    """Return the other rows that nothing explains and that are not being made."""
    return tuple(
        row.attachment_id
        for row in s.others
        if row.status not in ("reserved", "attaching") and accounting.is_unexplained(s, row)
    )


def _is_at_work_on(s: Situation, other: OtherCase) -> bool:
    of_it = other.attachment_id is None or other.attachment_id in left_over(s)
    return of_it and other.state is not CaseState.PARKED


@predicate
def unexplained_own(s: Situation) -> bool:
    """No block device of its server explains the row."""
    return accounting.is_unexplained(s, s.attachment)


@predicate
def unexplained_party(s: Situation) -> bool:
    """Something on the volume is explained by no record."""
    return bool(accounting.unexplained(s))


@predicate
def its_host_uses_nothing(s: Situation) -> bool:
    """Nova proves of its recorded host, a compute that is up, that no server may be using the
    volume there.
    """
    return any(
        asked.host == s.attached_host and asked.compute_up is True and asked.holders == Fact(())
        for asked in s.elsewhere
    )


@predicate
def no_device_without_attachment(s: Situation) -> bool:
    """Every block device of its server names a row."""
    return s.server is not None and not s.devices_without_attachment


# -- what the case has heard and done --------------------------------------------------------------


@predicate
def end_seen(s: Situation) -> bool:
    """The case is about an attach, and its end is on record."""
    return s.case.operation is Operation.ATTACH and s.case.end_seen


@predicate
def attach_without_attachment_id(s: Situation) -> bool:
    """The case is about an attach of which no notification named a row."""
    return s.case.operation is Operation.ATTACH and s.case.attachment_id is None


@predicate
def reserve_is_ours(s: Situation) -> bool:
    """The reserve is our own, as far as our records of this case tell."""
    return intents.holds_reserve(s.case)


@predicate
def detach_wanted(s: Situation) -> bool:
    """The case is about a detach of this very row, whose end was not heard; or we completed the
    attach, no notification said that it ended well, and the operator wants such attaches to be
    detached (`late_attach = detach`).
    """
    if s.case.operation is Operation.DETACH:
        # What is attached after a detach has ended is another attach: nobody wants that detached.
        return _is_the_case_s_own(s) and not s.case.end_seen
    end_unknown = s.late_attach is LateAttach.DETACH and not s.case.end_seen
    return (
        end_unknown
        and s.attachment is not None
        and intents.completed(s.case, s.attachment.attachment_id)
    )


def _is_the_case_s_own(s: Situation) -> bool:
    return s.attachment is not None and s.attachment.attachment_id == s.case.attachment_id


@predicate
def detach_of_this_row(s: Situation) -> bool:
    """The case is about a detach of this very row, and its end was not heard."""
    own = s.case.operation is Operation.DETACH and _is_the_case_s_own(s)
    return own and not s.case.end_seen


@predicate
def another_detach_wanted(s: Situation) -> bool:
    """Another case of the volume is about a detach whose end was not heard, and not of this row:
    the wish that Cinder has on record may be that one's.
    """
    wishes = (
        other.attachment_id
        for other in s.case.beside
        if other.operation is Operation.DETACH and not other.end_seen
    )
    own = s.attachment.attachment_id if s.attachment else s.case.attachment_id
    return any(wish is None or wish != own for wish in wishes)


@predicate
def detach_of_this_case(s: Situation) -> bool:
    """The case is about a detach, or the detach that Cinder has on record may be the one that we
    asked Nova for.
    """
    return s.case.operation is Operation.DETACH or (_asked_nova(s) and detach_wanted(s))


def _asked_nova(s: Situation) -> bool:
    attachment = s.attachment
    return (
        attachment is not None
        and intents.last_nova_detach(s.case, attachment.attachment_id) is not None
    )


@predicate
def swap_failed(s: Situation) -> bool:
    """By Nova's record the last swap of a volume of its server failed, and no detach was asked for
    since.
    """
    return s.swapping == Fact(Swap.FAILED)


@predicate
def detach_begun(s: Situation) -> bool:
    """The case is about a detach of this very row, and Nova told that it began."""
    return detach_of_this_row(s) and s.case.nova_started


@predicate
def attach_begun(s: Situation) -> bool:
    """The case is about an attach, and Nova told that it began."""
    return s.case.operation is Operation.ATTACH and s.case.nova_started


@predicate
def rolled_and_not_detached(s: Situation) -> bool:
    """We rolled this attachment back from detaching, and Nova has not answered our detach since."""
    return _pending(s) is StepKind.CINDER_ROLL_DETACHING


@predicate
def completed_and_not_detached(s: Situation) -> bool:
    """We completed this attachment, and Nova has not answered our detach since."""
    return _pending(s) is StepKind.CINDER_COMPLETE


def _pending(s: Situation) -> StepKind | None:
    return intents.wish_pending(s.case, s.attachment.attachment_id) if s.attachment else None


@predicate
def nova_asked_lately(s: Situation) -> bool:
    """In one of our last three attempts we asked Nova to detach it, and Nova did not refuse."""
    ours = intents.last_nova_detach(s.case, s.attachment.attachment_id) if s.attachment else None
    return ours is not None and ours.attempt > s.case.attempts - NOVA_DETACH_ATTEMPTS
