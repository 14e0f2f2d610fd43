"""What the correlation of notifications is given, and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from handlers.case import CaseState
from handlers.correlation.matching import KnownCase, Signal


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """What the ledger holds that the new notifications may be about.

    ``cases``: the open ones and those closed a short while ago, oldest first. ``orphans``: ends and
    errors that still wait for their start, those included that are filed, without proof, under the
    only case that there was. ``intents``: request id to case id.
    """

    cases: tuple[KnownCase, ...]
    orphans: tuple[Signal, ...]
    intents: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A case came to another state; ``before`` is None when it was opened."""

    case_id: str
    message_id: str
    before: CaseState | None
    after: CaseState


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """What the notifications come to.

    ``filed``: message id to case id, None for an orphan. ``adopted``: the same for what had been
    an orphan before.
    """

    opened: tuple[KnownCase, ...]
    changed: tuple[KnownCase, ...]
    filed: Mapping[str, str | None]
    adopted: Mapping[str, str]
    moves: tuple[Move, ...]
