"""The signs that the decision table asks for: each a yes or no about a situation. Pure.

The signs of a wish to detach that Nova has yet to carry out, or is carrying out. Pure.

The signs of a connection that no record claims: no row in Cinder, no instance in any message.

Whose it is, only the one host that is let in can tell, and of that host Nova. Pure.

The signs of rows that live migrations, evacuations and deleted servers leave behind. Pure.
"""

from __future__ import annotations

from drivers.control_plane import Server
from handlers import intents
from handlers.case import StepKind
from handlers.judgement import writers
from handlers.judgement.evidence import Absent, Fact, NoControl, Unknown
from handlers.judgement.policy import LateAttach
from handlers.judgement.situation import ATTACHED, Situation
from handlers.notification import Operation

GUEST_STATES = frozenset({"active", "paused", "rescued", "resized", "stopped", "suspended"})
NOVA_DETACH_ATTEMPTS = 3


def wanted(s: Situation) -> bool:
    """Somebody asked for the detach, or the operator wants it of what we rolled forward.

    Not of an attach that is known to have ended well: its user has the disk, and relies on it.
    """
    if s.case.operation is Operation.DETACH:
        return True
    unheard = s.late_attach is LateAttach.DETACH and not s.case.end_seen
    return unheard and s.row is not None and intents.completed(s.case, s.row.attachment_id)


def detaching_and_named(s: Situation) -> bool:
    """Cinder has the wish on record; Nova's block device still names the only row."""
    wished = s.status == "detaching" and s.row_status == ATTACHED and _asked(s)
    return wished and s.named and not s.others and has_a_guest(s.server)


def _asked(s: Situation) -> bool:
    """The detach that Cinder has on record is the one of this case, or may be our own."""
    ours = s.row is not None and intents.last_nova_detach(s.case, s.row.attachment_id) is not None
    return s.case.operation is Operation.DETACH or (ours and wanted(s))


def rolled_for_detach(s: Situation) -> bool:
    """Our own roll_detaching still waits for its Nova detach (a crash in between)."""
    return _pending(s) is StepKind.CINDER_ROLL_DETACHING


def completed_for_detach(s: Situation) -> bool:
    """What we completed still waits for the Nova detach that the operator wants."""
    return _pending(s) is StepKind.CINDER_COMPLETE and not s.others and has_a_guest(s.server)


def _pending(s: Situation) -> StepKind | None:
    alone = s.row is not None and agreed(s) and not s.siblings and wanted(s)
    return intents.wish_pending(s.case, s.row.attachment_id) if s.row and alone else None


def nova_detach_accepted(s: Situation) -> bool:
    """Nova accepted our wish to detach a short while ago.

    In-use is what our roll_detaching had left, so that detaching is Nova's answer even to a call
    that gave none.
    """
    ours = intents.last_nova_detach(s.case, s.row.attachment_id) if s.row else None
    recent = ours is not None and ours.attempt > s.case.attempts - NOVA_DETACH_ATTEMPTS
    return recent and detaching_and_named(s)


def detach_of_another_case(s: Situation) -> bool:
    """The attach of this case ended; the detach asked for since has a case of its own."""
    wished = s.status == "detaching" and s.row_status == ATTACHED
    return wished and s.named and not _asked(s)


def whose_wish(s: Situation) -> bool:
    """Cinder says detaching of a volume with several attachments, not of which one."""
    return s.status == "detaching" and s.row_status == ATTACHED and s.named and bool(s.others)


def agreed(s: Situation) -> bool:
    """Cinder and Nova agree that the subject is attached."""
    return s.status == "in-use" and s.named and s.row_status == ATTACHED


def has_a_guest(server: Server | None) -> bool:
    """Nova has a guest that it would detach something from."""
    return server is not None and server.launched and server.vm_state in GUEST_STATES


def nobody_holds(s: Situation) -> bool:
    """Nova proves that no server may be using the volume on the host, a compute that is up."""
    asked = s.holding if _unclaimed(s) else None
    proven = asked is not None and asked.compute_up is True and asked.holders == Fact(())
    return proven and asked is not None and asked.host == s.host


def holders(s: Situation) -> tuple[str, ...]:
    """Return the servers that may be using the volume on the host, by Nova's records."""
    told = s.holding.holders if s.holding is not None else None
    return told.value if isinstance(told, Fact) else ()


def not_told(s: Situation) -> bool:
    """Nova did not say who may be using the volume on the host, or not surely all of them."""
    return s.holding is not None and isinstance(s.holding.holders, Unknown)


def host_down(s: Situation) -> bool:
    """Its host is a compute, and the service is down: what the guests there do, nobody can say."""
    return s.holding is not None and s.holding.compute_up is False


def accounted_for(s: Situation) -> bool:
    """Nova could be asked in the place of an instance, and said something that decides."""
    return nobody_holds(s) or bool(holders(s)) or host_down(s)


def ghost(s: Situation) -> bool:
    """Cinder says available, and exactly one compute host is let in, where nobody has the volume.

    Whoever else may be connected, known or not, turns it away: nothing but that host's own
    connections may be there.
    """
    only_his = bool(s.own) and not (s.foreign or s.nameless)
    return s.status == "available" and only_his and nobody_holds(s)


def _unclaimed(s: Situation) -> bool:
    return s.instance_id is None and not s.volume.rows


SETTLED_STATUSES = frozenset({"available", "attaching", "in-use", "detaching", "reserved"})
SETTLED_MIGRATIONS = frozenset({None, "", "none", "success", "error"})
UNFINISHED_ROWS = frozenset({"reserved", "attaching", "error_attaching"})
SHELVED = "shelved_offloaded"


def always(_: Situation) -> bool:
    """Hold for every situation: the last rule's sign."""
    return True


# -- somebody else's business ----------------------------------------------------------------------


def two_writers(s: Situation) -> bool:
    """Two hosts may be writing to the volume at once, and nothing lets them.

    Cinder's own work on a volume has its hosts connected beside a guest's.
    """
    ours = volume_in_error(s) or not volume_busy(s)
    return writers.too_many(s) and ours and not writers.beside_a_dead_host(s)


def volume_in_error(s: Situation) -> bool:
    """Cinder gave the volume an error or maintenance status."""
    return s.status.startswith("error") or s.status == "maintenance"


def volume_busy(s: Situation) -> bool:
    """A backup, an upload, a migration, a retype ... works on the volume."""
    return s.status not in SETTLED_STATUSES or s.volume.migration_status not in SETTLED_MIGRATIONS


def server_busy(s: Situation) -> bool:
    """A server that has a row of the volume has a task_state."""
    known = (a.value for a in s.servers.values() if isinstance(a, Fact))
    return any(server.task_state is not None for server in known)


def other_attachment_in_the_making(s: Situation) -> bool:
    """The volume is in transition, and not for the subject, which is at rest or gone."""
    if s.ambiguous or s.status not in ("attaching", "detaching"):
        return False
    if s.row is None:
        return bool(s.others) or _reserved_by_others(s)
    if s.status == "attaching":
        return bool(s.others) and s.row_status == ATTACHED and s.named
    return bool(s.others) and s.row_status in UNFINISHED_ROWS


def _reserved_by_others(s: Situation) -> bool:
    return s.status == "attaching" and not (_legacy_attach(s) or intents.holds_reserve(s.case))


def compute_not_up(s: Situation) -> bool:
    """Something is left, and nobody can ask the server's host whether its guest has it."""
    down = s.server is not None and s.server.host is not None and s.server.compute_up is not True
    return (down or host_down(s)) and not nothing_left(s) and not nothing_left_blind(s)


# -- what could not be seen ------------------------------------------------------------------------


def nova_unknown(s: Situation) -> bool:
    """Nova did not answer for a server in question, or for the host where none is known."""
    unknown = [answer for answer in s.servers.values() if isinstance(answer, Unknown)]
    never_had = all(isinstance(answer, NoControl) for answer in unknown)
    return not_told(s) or bool(unknown and not (never_had and _over_without_nova(s)))


def _over_without_nova(s: Situation) -> bool:
    """Cinder has let go altogether, and the probe, or Cinder's own end of it, proves the rest."""
    free = s.status == "available" and not s.volume.rows
    ended = s.blind and s.case.end_seen and s.case.operation is Operation.DETACH
    return free and (isinstance(s.backend, Absent) or (ended and nothing_left_blind(s)))


def backend_unknown(s: Situation) -> bool:
    """The backend should have been seen and was not."""
    return isinstance(s.backend, Unknown)


def ambiguous(s: Situation) -> bool:
    """Several rows may be the one that the case is about."""
    return s.ambiguous


def instance_unnamed(s: Situation) -> bool:
    """Nobody says which instance the attachment belongs to, and something is left of it."""
    nobody_to_ask = s.instance_id is None and not accounted_for(s)
    return nobody_to_ask and not nothing_left(s) and not nothing_left_blind(s)


# -- attached ----------------------------------------------------------------------------------


def shelved_reservation(s: Situation) -> bool:
    """A shelved, offloaded server keeps its volume by a row without a connector."""
    return _kept_while_shelved(s) and not _let_in_while_shelved(s) and not access_lost(s)


def shelved_and_let_in(s: Situation) -> bool:
    """As ``shelved_reservation``, but the row is on a host, or the backend lets one in for it."""
    return _kept_while_shelved(s) and _let_in_while_shelved(s)


def _kept_while_shelved(s: Situation) -> bool:
    settled = s.status in ("reserved", "in-use")
    return _offloaded(s) and settled and s.named and s.row_status in ("reserved", ATTACHED)


def _offloaded(s: Situation) -> bool:
    return s.server is not None and s.server.vm_state == SHELVED


def _let_in_while_shelved(s: Situation) -> bool:
    """Beside other rows a connection of nobody known may be one of theirs."""
    on_a_host = s.row is not None and s.row.host is not None
    somebody = not s.others and bool(s.foreign or s.nameless)
    return on_a_host or bool(s.own) or somebody


def attached_and_named(s: Situation) -> bool:
    """Cinder and Nova agree that the subject is attached, and nothing speaks against it."""
    alone = not s.siblings or (s.on_its_server_s_host and not unfinished_sibling(s))
    at_ease = not (access_lost(s) or writers.too_many(s) or _offloaded(s))
    return agreed(s) and alone and at_ease and not _to_be_detached(s)


def _to_be_detached(s: Situation) -> bool:
    return rolled_for_detach(s) or completed_for_detach(s)


def attached_the_old_way(s: Situation) -> bool:
    """As ``attached_and_named`` where Nova's block device is too old to name an attachment."""
    unnamed = tuple(d.attachment_id for d in s.devices) == (None,)
    attached = s.status == "in-use" and s.row_status == ATTACHED and not s.others
    no_guest = _offloaded(s) and _let_in_while_shelved(s)
    return attached and unnamed and not access_lost(s) and not no_guest


def named_by_the_wrong_row(s: Situation) -> bool:
    """Nova names one row of several of a server, and its guest may be running on another's host."""
    if agreed(s) and any(row.status == ATTACHED for row in s.siblings):
        return not s.on_its_server_s_host
    rows = ([s.row] if s.row else []) + list(s.siblings)
    unfinished = any(r.status != ATTACHED and s.names(r) for r in rows)
    return unfinished and any(r.status == ATTACHED for r in rows)


def unfinished_sibling(s: Situation) -> bool:
    """The attached subject's server has an unfinished second row, and is at no task."""
    return agreed(s) and any(row.status in UNFINISHED_ROWS for row in s.siblings)


def access_lost(s: Situation) -> bool:
    """Cinder and Nova say attached, the guest runs, and the backend does not let its host in."""
    return s.status == "in-use" and bool(writers.lost_access(s))


def ended_then_attaching(s: Situation) -> bool:
    """As ``attaching_and_named``, and the attach's end is on record."""
    return s.case.end_seen and attaching_and_named(s)


def attaching_and_named(s: Situation) -> bool:
    """Backend and block device have it; Cinder still says attaching."""
    unfinished = s.status == "attaching" and s.row_status == "attaching"
    reached = bool(s.own or s.nameless) or s.blind
    return unfinished and s.named and reached and not s.siblings and has_a_guest(s.server)


def guest_holds(s: Situation) -> bool:
    """A block device holds the volume although Cinder has no row for it."""
    return (
        bool(holders(s)) or bool(s.unnamed_devices) or (bool(s.devices) and s.status == "available")
    )


# -- let go ----------------------------------------------------------------------------------------


def let_go(s: Situation) -> bool:
    """Nova proves that no block device of the subject's server holds the volume."""
    return (s.server is not None or s.server_gone) and not s.devices


def unfinished_attach(s: Situation) -> bool:
    """An attach that never finished is all that is left of the volume's attachments."""
    in_error = s.status == "available" and s.row_status == "error_attaching"
    # Cinder's own terminate, asked by a driver that acts through it, turns attaching into in-use.
    rolled = s.status == "in-use" and intents.asked_driver(s.case)
    stuck = s.status in ("attaching", "reserved") or in_error or rolled
    return stuck and s.row_status in UNFINISHED_ROWS and not s.others and let_go(s)


def bare_reserve(s: Situation) -> bool:
    """An attach of the old way, which makes no row, never finished."""
    bare = s.status == "attaching" and not s.volume.rows
    return bare and let_go(s) and _legacy_attach(s)


def _legacy_attach(s: Situation) -> bool:
    """No message of the attach named a row, so that the reserve without one may be its own."""
    return s.case.operation is Operation.ATTACH and s.case.attachment_id is None


def held_by_us(s: Situation) -> bool:
    """Our own os-reserve, taken to keep new attachments out."""
    bare = s.status == "attaching" and not s.volume.rows
    free = let_go(s) or nobody_holds(s)
    return bare and free and intents.holds_reserve(s.case)


def guest_may_outlive(s: Situation) -> bool:
    """The server is gone from Nova, and its guest may still have the volume."""
    if not s.server_gone or s.row is None or s.clean or s.guest_ended:
        return False
    was_attached = s.case.end_seen and s.case.operation is Operation.ATTACH
    may_have_come_far = s.blind and s.row_status == "attaching"
    return s.row_status == ATTACHED or was_attached or may_have_come_far


def detached_in_nova(s: Situation) -> bool:
    """Cinder says detaching, the server has no block device for it, or is gone altogether."""
    return s.status == "detaching" and not s.others and let_go(s)


def leaked(s: Situation) -> bool:
    """Cinder says available; the subject's host is still let in, or may be and cannot be seen."""
    free = s.status == "available" and not s.volume.rows and let_go(s)
    return free and (bool(s.own) or _suspected(s))


def _suspected(s: Situation) -> bool:
    return s.blind and s.case.released_unasked and not intents.released_by_driver(s.case)


def leaked_beside_others(s: Situation) -> bool:
    """As ``leaked``, the subject being gone beside good attachments of other hosts."""
    gone = s.row is None and s.status in ("in-use", "reserved") and let_go(s)
    let_in = bool(s.own) or _suspected(s)
    return gone and let_in and not s.shared_host and others_are_good(s)


def others_are_good(s: Situation) -> bool:
    """The volume has other rows, and each is named by its own server."""
    return bool(s.others) and s.named_others == s.others


def nothing_left(s: Situation) -> bool:
    """No row, no block device without a row, and the probe found nobody who should not be there."""
    return s.row is None and not s.unnamed_devices and _status_fits(s) and s.clean


def nothing_left_blind(s: Situation) -> bool:
    """As ``nothing_left`` where the backend cannot be seen and nothing speaks of a leak."""
    told = not s.case.released_unasked or intents.released_by_driver(s.case)
    return s.blind and told and s.row is None and not s.unnamed_devices and _status_fits(s)


def _status_fits(s: Situation) -> bool:
    return s.status == "available" if not s.others else s.status in ("in-use", "reserved")


def foreign_connection(s: Situation) -> bool:
    """The backend lets in somebody whom no record explains."""
    return bool(s.foreign or s.nameless)


def no_guest_to_ask(s: Situation) -> bool:
    """Nova's block device names the subject, whose server never ran or is in no state to detach."""
    return s.named and s.server is not None and not has_a_guest(s.server)


def status_disagrees(s: Situation) -> bool:
    """The only row and Nova say attached, and the volume's status something else."""
    attached = s.named and s.row_status == ATTACHED and not s.others
    return attached and s.status in ("attaching", "reserved")


def begun_and_left(s: Situation) -> bool:
    """Nova's block device names the subject, which is not attached, and nobody is seen let in."""
    let_in = s.own or s.foreign or s.nameless
    return s.named and s.row_status in UNFINISHED_ROWS and not let_in


def stray_row(s: Situation) -> bool:
    """An unfinished row that no block device names, beside good attached ones."""
    settled = s.status in ("in-use", "attaching", "reserved")
    orphan = s.row_status in UNFINISHED_ROWS and not s.named and not s.unnamed_devices
    good = others_are_good(s) and all(r.status == ATTACHED for r in s.others)
    return settled and orphan and good and s.server is not None


def left_on_source(s: Situation) -> bool:
    """The source's row after a live migration that went well: its host's compute is up."""
    return _left_behind(s) and s.computes.get(s.host or "") is True


def left_on_a_host_that_is_down(s: Situation) -> bool:
    """As ``left_on_source``, but the compute of the row's host is not known to be up.

    Or the row of another case is, and its host may be writing beside the subject's.
    """
    beside = writers.too_many(s) and writers.beside_a_dead_host(s)
    return beside or (_left_behind(s) and s.computes.get(s.host or "") is not True)


def _left_behind(s: Situation) -> bool:
    if s.server is None or s.server.host is None or s.connector is None or s.shared_host:
        return False
    moved = s.host is not None and s.host != s.server.host
    left = s.status == "in-use" and s.row_status == ATTACHED and not s.named
    good = bool(s.siblings) and all(r.status == ATTACHED and s.names(r) for r in s.siblings)
    return moved and left and good and not s.unnamed_devices


def deleted_with_server(s: Situation) -> bool:
    """Cinder says in-use by a server that is gone, and its guest is proven to be."""
    left = s.status == "in-use" and s.row_status == ATTACHED and not s.others
    return left and s.server_gone and (s.clean or s.guest_ended)
