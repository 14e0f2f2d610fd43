"""What a person decides of quarantined bodies: round again with them, or away.

A body leaves the quarantine queue only after it is confirmed on the replay queue, or after the
ledger has it on record that it was discarded. Killed in between, it is in both places: at worst it
is replayed twice.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from consumer.bus.broker import BrokerSettings
from consumer.bus.sender import NotConfirmedError
from consumer.bus.subscription import COMPRESSED, Delivery
from consumer.bus.topology import QueueSettings
from consumer.intake.quarantine import (
    BUS,
    COMPRESSION,
    EXCHANGE,
    ROUTING_KEY,
    Search,
    SearchError,
    Settle,
    Wanted,
)
from consumer.intake.replay_queue import Asker, ReplaySender, ReplaySettings
from consumer.ledger import BodyState, Ledger, QuarantinedBody

ORIGIN = (BUS, EXCHANGE, ROUTING_KEY)
_LONGEST = 255
"""As long as a name may be in AMQP."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One quarantine queue, and the bus whose broker has it."""

    bus: str
    broker: BrokerSettings
    queue: QueueSettings


@dataclasses.dataclass(frozen=True, slots=True)
class Quarantines:
    """Every quarantine queue there is, and where a replay goes."""

    places: tuple[Place, ...]
    replay: ReplaySettings


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """What became of the bodies, by their hashes.

    ``copies`` says how many of each were taken off the queues; ``gone`` are those that no queue has
    any more, though the ledger knows them; ``again`` came again while they were decided on.
    ``unreached`` are the buses whose queue could not be searched, each with the reason: where there
    are any, nothing counts as gone.
    """

    copies: Mapping[str, int]
    gone: tuple[str, ...]
    again: tuple[str, ...]
    unreached: Mapping[str, str]


def replay_bodies(
    ledger: Ledger,
    quarantines: Quarantines,
    named: Sequence[QuarantinedBody] | None,
    asker: Asker,
) -> Decided:
    """Send the named bodies round again; None: all that are held.

    Blocks for the brokers' answers, one for each message in quarantine. Raises NotConfirmedError
    where the replay queue cannot be had, and LedgerUnavailableError: what was not settled by then
    is in quarantine still.
    """
    decision = _Decision(ledger, named, BodyState.REPLAYED, asker)
    with ReplaySender(quarantines.replay) as sender:

        def settle(delivery: Delivery) -> None:
            sender.send(delivery.body, asker, headers=_origin(delivery.headers))
            decision.note(delivery.body_sha256)

        try:
            return decision.decide(quarantines, settle)
        except NotConfirmedError as error:
            raise NotConfirmedError(
                f"{decision.settled} were replayed; the others are in quarantine still"
            ) from error


def discard_bodies(
    ledger: Ledger, quarantines: Quarantines, named: Sequence[QuarantinedBody], asker: Asker
) -> Decided:
    """Remove the named bodies for good; of those that are gone already it is noted too.

    Blocks as ``replay_bodies`` does. Raises LedgerUnavailableError.
    """
    decision = _Decision(ledger, named, BodyState.DISCARDED, asker)
    decided = decision.decide(quarantines, lambda delivery: decision.note(delivery.body_sha256))
    for body_sha256 in decided.gone:
        decision.note(body_sha256)
    return decided


class _Decision:
    """One decision: which bodies it is on (``named`` None: all that are held), and how it went."""

    def __init__(
        self,
        ledger: Ledger,
        named: Sequence[QuarantinedBody] | None,
        state: BodyState,
        asker: Asker,
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._asker = asker
        known = ledger.quarantined() if named is None else named
        self._known = {body.body_sha256: body for body in known}
        self._all = named is None
        self._copies: Counter[str] = Counter()
        self._again: list[str] = []
        self._unreached: dict[str, str] = {}

    @property
    def settled(self) -> int:
        """How many bodies have been decided on so far."""
        return len(self._copies)

    def decide(self, quarantines: Quarantines, settle: Settle) -> Decided:
        for place in quarantines.places:
            self._search(place, settle)
        gone = [] if self._unreached else [b for b in self._expected() if b not in self._copies]
        return Decided(self._copies, tuple(gone), tuple(self._again), self._unreached)

    def note(self, body_sha256: str) -> None:
        # Where the ledger does not know the body, its record is on the way: the listener puts a
        # body on the queue first.
        if (body := self._known.get(body_sha256)) is None:
            return
        who, why = self._asker.actor, self._asker.reason
        if not self._ledger.decide_quarantined(body, self._state, actor=who, decision=why):
            self._again.append(body_sha256)

    def _search(self, place: Place, settle: Settle) -> None:
        """Look through one queue; that of another bus is looked through whatever becomes of it."""
        search = Search(self._wanted(), settle, self._copies)
        try:
            search.run(place.broker, place.queue)
        except SearchError as error:
            self._unreached[place.bus] = str(error)

    def _wanted(self) -> Wanted:
        if not self._all:
            return self._known.__contains__
        # A copy of what was decided on before may be a new one, about to be recorded as held.
        passed = {h for h, body in self._known.items() if body.state is not BodyState.HELD}
        return lambda body_sha256: body_sha256 not in passed

    def _expected(self) -> list[str]:
        held = BodyState.HELD
        return [h for h, body in self._known.items() if not self._all or body.state is held]


def _origin(headers: Mapping[str, Any]) -> dict[str, str]:
    # Cut short: whoever may publish may have put it into quarantine, and headers are one frame.
    texts = {name: text[:_LONGEST] for name, text in headers.items() if isinstance(text, str)}
    found = {name: texts[name] for name in ORIGIN if name in texts}
    if COMPRESSION not in texts:
        return found
    return found | {COMPRESSED: texts[COMPRESSION]}  # compressed still, to be tried again
