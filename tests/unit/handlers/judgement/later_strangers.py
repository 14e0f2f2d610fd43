"""More situations of public reports that the rules were not written for, and what decides each.

Each kind that came out wrong stands beside the strangers that look the same and must not come out
the same. The number after ``nova`` or ``cinder`` is a bug's on Launchpad; a path is that of a file
of Cinder or Nova that was read.
"""

from __future__ import annotations

from tests.unit.handlers.judgement.acting_pictures import ATTACHED, GHOST
from tests.unit.handlers.judgement.pictures import H1, Picture, access, holding

SNAPSHOT = "0d39f1b7-4f1c-4a63-8b1e-6a1f5ff8a1c2"
REVERTED = f"[revert] temporary volume created from snapshot {SNAPSHOT}"
COPIED = GHOST.but(display_name=REVERTED)
"""Cinder copies a snapshot back through a host of its own, which is a compute too."""

OF_CINDER: tuple[tuple[str, Picture, str], ...] = (
    (
        "a snapshot is copied back through a compute host, cinder/volume/manager.py",
        COPIED,
        "B1.volume-busy",
    ),
    ("the same, and the copy's session is open", COPIED.but(backend=(access(H1, sessions=1),)),
     "B1.volume-busy"),
    ("a user's volume with a name that begins alike", COPIED.but(display_name="[revert] mine"),
     "UC5.ghost"),
    (
        "a server has got a volume of that name", ATTACHED.but(display_name=REVERTED),
        "H2.attached",
    ),
    (
        "the same name, and a server may be using it there",
        COPIED.but(holding=holding("instance-y")),
        "B1.volume-busy",
    ),
)  # fmt: skip

LATER_STRANGERS = (*OF_CINDER,)
