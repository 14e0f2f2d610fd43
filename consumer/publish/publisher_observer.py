"""What the publisher tells of itself while it works; metrics listen here."""

from __future__ import annotations

from typing import Protocol


class PublisherObserver(Protocol):
    """What wants to know of the publisher's work, metrics for one. Called in its thread."""

    def sent(self, event_type: str) -> None:
        """Take note that the broker confirmed one."""

    def unrouted(self, event_type: str) -> None:
        """Take note that no queue was bound for one."""

    def failed(self, event_type: str) -> None:
        """Take note that one was not confirmed and will be sent again."""


class Unobserved:
    """Takes no note."""

    def sent(self, event_type: str) -> None:
        """Take no note."""

    def unrouted(self, event_type: str) -> None:
        """Take no note."""

    def failed(self, event_type: str) -> None:
        """Take no note."""
