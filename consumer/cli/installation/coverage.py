"""For each use case and backend: can it be detected, seen and released here? Pure.

A plain answer to "what will detachd do about it?", from what is configured and what was heard.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from consumer.findings import Finding, good, note, warning
from consumer.work.backends import Backend
from drivers.base import Capabilities
from handlers.case import UseCase
from handlers.judgement.policy import LateAttach, Mode

RELEASES = (UseCase.UC1, UseCase.UC3, UseCase.UC5)
"""In these a connection of the backend is released; in UC4 where Nova's own detach leaves it."""
BY_LISTS = frozenset({UseCase.UC1, UseCase.UC2, UseCase.UC3, UseCase.UC4})
"""In these the volume is in transition, which the sweep finds in Cinder's own lists."""


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What tells detachd that something is stuck.

    ``sources`` are those of which a notification ever arrived, None where that is not known.
    """

    sources: Collection[str] | None
    swept: bool


def of(backend: Backend, able: Capabilities, heard: Heard, area: str) -> Iterator[Finding]:
    """Yield the answer for each use case on a backend; those that are alike in one line."""
    # By what is said: five lines that say one thing are read by nobody.
    alike: dict[tuple[str, bool], list[UseCase]] = {}
    for use_case in UseCase:
        detected = _detected(use_case, able, heard)
        said = "; ".join((detected or "NOT DETECTED", _seen(able), _done(use_case, backend, able)))
        alike.setdefault((said, detected is not None), []).append(use_case)
    for (said, found), cases in alike.items():
        words = f"{', '.join(case.value for case in cases)}: {said}"
        if found:
            yield good(area, words)
        else:
            yield _undetected(words, area, heard)


def _undetected(words: str, area: str, heard: Heard) -> Finding:
    # Without the ledger nothing is known of notifications; that is told where the ledger is
    # examined.
    if heard.sources is None:
        return note(area, words)
    return warning(
        area,
        words,
        "let notifications arrive (docs/notifications.md), or use a driver that lists its exports",
    )


def _detected(use_case: UseCase, able: Capabilities, heard: Heard) -> str | None:
    """Return what tells of it, or None where nothing does."""
    ways = [f"the notifications of {who}" for who in _tellers(use_case) if _told(who, heard)]
    if heard.swept and use_case in BY_LISTS:
        ways.append("the sweep")
    if heard.swept and use_case is UseCase.UC5 and able.lists_exports:
        ways.append("the exports that the sweep lists")
    return f"detected by {' and '.join(ways)}" if ways else None


def _tellers(use_case: UseCase) -> tuple[str, ...]:
    """Return whose notifications tell of it: of UC5 only Cinder's, a detach of a reserved row."""
    return ("cinder",) if use_case is UseCase.UC5 else ("cinder", "nova")


def _told(who: str, heard: Heard) -> bool:
    return any(source.startswith(who) for source in heard.sources or ())


def _seen(able: Capabilities) -> str:
    if not able.sees_connections:
        return "the backend CANNOT BE SEEN"
    if not able.sees_hosts:
        return "seen, but not which host a connection is of"
    return "seen" if able.sees_sessions else "seen, but not whether a host uses its access"


def _done(use_case: UseCase, backend: Backend, able: Capabilities) -> str:
    """Return what becomes of it once it is proven."""
    if backend.policy.mode is Mode.OBSERVE:
        return "told and parked with its plan (mode observe)"
    by = "without asking" if backend.policy.mode is Mode.AUTO else "after a person's approval"
    if use_case in RELEASES:
        return _released(backend, able, by)
    if use_case is UseCase.UC2:
        # UC2 needs no release: the backend is not asked, so that a blind driver will do.
        kept = backend.policy.late_attach is LateAttach.KEEP
        return f"{'completed' if kept else 'completed and detached by Nova'} {by}"
    if parked := _parked(backend, able):
        return f"detached by Nova {by}; what that leaves on the backend is parked ({parked})"
    return f"detached by Nova {by}, and what that leaves released"


def _released(backend: Backend, able: Capabilities, by: str) -> str:
    if parked := _parked(backend, able):
        return f"PARKED ({parked})"
    if able.sees_connections and not able.sees_sessions and not backend.policy.trust_blind:
        return f"released {by} where the host has no access, else PARKED (trust_blind is not set)"
    proof = "" if able.sees_connections else ", on the driver's word"
    if able.by_learned_client:
        proof = " where its client was learned while all was well, else parked"
    return f"released {by}{proof}"


def _parked(backend: Backend, able: Capabilities) -> str | None:
    """Return why whatever needs a release is parked, or None."""
    if not able.sees_connections and not backend.policy.trust_blind:
        return "the driver is blind, and trust_blind is not set"
    # A release after which the host may connect again proves nothing (``Capabilities``).
    if not (able.revokes_access or able.acts_through_cinder or able.by_learned_client):
        return "the driver can keep no host out"
    return None
