"""What a listener hands in, and what it gets back."""

from __future__ import annotations

import dataclasses

from handlers.notification import Notification


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """One notification as it came: ``body_sha256`` of the raw body, ``bus`` says where from."""

    notification: Notification
    body_sha256: str
    bus: str


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a batch. ``rejected``: what the database refuses, each with the reason."""

    stored: int = 0
    duplicates: int = 0
    opened: int = 0
    closed: int = 0
    rejected: tuple[tuple[Arrival, str], ...] = ()

    def __add__(self, other: Accepted) -> Accepted:
        return Accepted(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.opened + other.opened,
            self.closed + other.closed,
            self.rejected + other.rejected,
        )
