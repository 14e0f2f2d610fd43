"""A person's decision on quarantined bodies: replay or discard.

1. A body leaves the quarantine queue only after it is confirmed on the replay queue, or after the
   ledger has recorded that it was discarded. If the process is killed between the two steps, the
   body is in both places: at worst it is replayed twice.
2. A decision is on the copies that were shown. A body that arrives again is held again.
3. A queue that cannot be searched keeps its bodies, and stops no decision on those of others.
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
    Selector,
    Settle,
)
from consumer.intake.replay_queue import ReplaySender, ReplaySettings, Requester
from consumer.ledger import BodyState, Ledger, QuarantinedBody

ORIGIN = (BUS, EXCHANGE, ROUTING_KEY)
_LONGEST = 255
"""The maximum length of a name in AMQP."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One quarantine queue, with its bus and broker."""

    bus: str
    broker: BrokerSettings
    queue: QueueSettings


@dataclasses.dataclass(frozen=True, slots=True)
class Quarantines:
    """All quarantine queues, and the replay queue."""

    places: tuple[Place, ...]
    replay: ReplaySettings


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """The result of a decision, by the hashes of the bodies.

    ``copies``: how many copies of each body were removed from the queues. ``missing``: bodies that
    the ledger knows and no queue has any more. ``arrived_again``: bodies that arrived again during
    the decision. ``unreached``: the buses whose queue could not be searched, each with the reason.
    If there is one, no body counts as missing.
    """

    copies: Mapping[str, int]
    missing: tuple[str, ...]
    arrived_again: tuple[str, ...]
    unreached: Mapping[str, str]


def replay_bodies(
    ledger: Ledger,
    quarantines: Quarantines,
    bodies: Sequence[QuarantinedBody] | None,
    requester: Requester,
) -> Decided:
    """Replay these bodies; None: all that are in state held.

    Blocks for the brokers' answers, one for each message in quarantine. Raises NotConfirmedError if
    the replay queue cannot be used, and LedgerUnavailableError. The bodies that were not replayed
    by then stay in quarantine.
    """
    decision = _Decision(ledger, bodies, BodyState.REPLAYED, requester)
    with ReplaySender(quarantines.replay) as sender:

        def settle(delivery: Delivery) -> None:
            # Confirmed when this returns, and only then may the body leave the quarantine.
            sender.send(delivery.body, requester, headers=_origin(delivery.headers))
            decision.note(delivery.body_sha256)

        try:
            return decision.decide(quarantines, settle)
        except NotConfirmedError as error:
            raise NotConfirmedError(
                f"{decision.settled} were replayed; the others are still in quarantine"
            ) from error


def discard_bodies(
    ledger: Ledger,
    quarantines: Quarantines,
    bodies: Sequence[QuarantinedBody],
    requester: Requester,
) -> Decided:
    """Delete these bodies. The decision is also recorded for those that no queue has any more.

    Blocks as ``replay_bodies`` does. Raises LedgerUnavailableError.
    """
    decision = _Decision(ledger, bodies, BodyState.DISCARDED, requester)
    decided = decision.decide(quarantines, lambda delivery: decision.note(delivery.body_sha256))
    # A queue that was full has dropped them. Without a decision they would be listed for ever.
    for body_sha256 in decided.missing:
        decision.note(body_sha256)
    return decided


class _Decision:
    """One decision on ``bodies`` (None: all that are held), and its result so far."""

    def __init__(
        self,
        ledger: Ledger,
        bodies: Sequence[QuarantinedBody] | None,
        state: BodyState,
        requester: Requester,
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._requester = requester
        chosen = ledger.quarantined() if bodies is None else bodies
        self._bodies = {body.body_sha256: body for body in chosen}
        self._all = bodies is None
        self._copies: Counter[str] = Counter()
        self._arrived_again: list[str] = []
        self._unreached: dict[str, str] = {}

    @property
    def settled(self) -> int:
        """How many bodies have been decided on so far."""
        return len(self._copies)

    def decide(self, quarantines: Quarantines, settle: Settle) -> Decided:
        for place in quarantines.places:
            self._search(place, settle)
        # A queue that could not be searched may still have them.
        missing = [] if self._unreached else [b for b in self._expected() if b not in self._copies]
        return Decided(self._copies, tuple(missing), tuple(self._arrived_again), self._unreached)

    def note(self, body_sha256: str) -> None:
        # The ledger may not know the body yet: the listener first puts a body on the queue, and
        # then records it.
        if (body := self._bodies.get(body_sha256)) is None:
            return
        who, why = self._requester.actor, self._requester.reason
        if not self._ledger.decide_quarantined(body, self._state, actor=who, decision=why):
            self._arrived_again.append(body_sha256)

    def _search(self, place: Place, settle: Settle) -> None:
        """Search one queue, and note an error: the queues of other buses are searched too."""
        search = Search(self._selector(), settle, self._copies)
        try:
            search.run(place.broker, place.queue)
        # One cell whose broker is down must not keep people from deciding on the bodies of the
        # others.
        except SearchError as error:
            self._unreached[place.bus] = str(error)

    def _selector(self) -> Selector:
        if not self._all:
            return self._bodies.__contains__
        # All but bodies that were decided on: an unknown body may be about to be recorded as held.
        decided = {h for h, body in self._bodies.items() if body.state is not BodyState.HELD}
        return lambda body_sha256: body_sha256 not in decided

    def _expected(self) -> list[str]:
        held = BodyState.HELD
        return [h for h, body in self._bodies.items() if not self._all or body.state is held]


def _origin(headers: Mapping[str, Any]) -> dict[str, str]:
    # Cut: any publisher can have written them, and all headers must fit into one frame.
    texts = {name: text[:_LONGEST] for name, text in headers.items() if isinstance(text, str)}
    found = {name: texts[name] for name in ORIGIN if name in texts}
    if COMPRESSION not in texts:
        return found
    return found | {COMPRESSED: texts[COMPRESSION]}  # the body is still compressed
