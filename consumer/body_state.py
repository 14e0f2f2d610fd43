"""What was decided on a quarantined body; apart from the tables, which are slow to import."""

from __future__ import annotations

import enum


class BodyState(enum.Enum):
    """The decision on a body. A body that arrives again is held again after any decision."""

    HELD = "held"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
