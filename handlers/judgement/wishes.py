"""The signs of a wish to detach that Nova has yet to carry out, or is carrying out. Pure."""

from __future__ import annotations

from drivers.control_plane import Server
from handlers import intents
from handlers.case import StepKind
from handlers.judgement.policy import LateAttach
from handlers.judgement.situation import Situation
from handlers.judgement.subject import ATTACHED
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
