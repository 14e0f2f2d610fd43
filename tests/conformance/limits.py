"""The time limits of a clause's calls: long where an answer comes, short where none will."""

from __future__ import annotations

# In the names of the clauses in which the backend is frozen, or a session of it cannot be ended.
WITHOUT_AN_ANSWER = (
    "frozen",
    "older_one",
    "nothing_is_done",
    "secret",
    "limit_each",
    "stuck_session",
)
THAW_SECONDS = 5.0
PATIENCE_SECONDS = 20.0


def limit_of(clause: str, short_seconds: float = 2.0) -> float:
    """Return the limit: no longer than ``short_seconds`` where nothing will answer."""
    if any(word in clause for word in WITHOUT_AN_ANSWER):
        return short_seconds
    return max(THAW_SECONDS, short_seconds) if "thaw" in clause else PATIENCE_SECONDS
