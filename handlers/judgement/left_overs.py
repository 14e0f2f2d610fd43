"""The signs of rows that live migrations, evacuations and deleted servers leave behind. Pure."""

from __future__ import annotations

from handlers.judgement import writers
from handlers.judgement.facts import UNFINISHED_ROWS, others_are_good
from handlers.judgement.situation import Situation
from handlers.judgement.subject import ATTACHED


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
