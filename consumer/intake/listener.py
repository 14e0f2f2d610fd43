"""From the bus into the ledger, then ack: hops 1 and 2.

A notification may be lost on its way to our queue (at most once). After that none is lost: a
message is acked only when the ledger or the quarantine queue has it on disk. The ledger recognises
a message that arrives twice, from the broker or the publisher, by its message_id.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Batch, Subscription
from consumer.counting import EventKind, Happened, QueuesSeen
from consumer.intake.batch import BatchIntake, BatchReport, ParsedBatch
from consumer.intake.loop import Looped, QueueLoop
from consumer.intake.quarantine import Quarantine
from consumer.ledger import Ledger
from handlers.counting import uncounted
from handlers.notification import may_concern

# Two requests to the broker, so not after each batch.
_PROBE_SECONDS = 1.0
# Ten probes: a busy queue is not empty at each of them.
_CAUGHT_UP_SECONDS = 10.0

Count = Callable[[BatchReport | Happened | QueuesSeen], None]


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerStatus:
    """The status of the listener; ``problems`` are sentences for the operator.

    ``caught_up``: at some moment of the last ten seconds the ledger had every message of the queue.
    Otherwise an end that seems to be missing may still be in the queue or on its way.
    """

    bus: str
    connected: bool
    caught_up: bool
    last_message_at: datetime | None
    problems: tuple[str, ...]


class Listener(Looped):
    """Stores the notifications of one bus in the ledger, and survives outages of both.

    For one thread; ``caught_up`` and ``status`` may be called from any. The methods from ``parse``
    on are those of ``Intake``: only the loop calls them.
    """

    def __init__(
        self, settings: ListenerSettings, ledger: Ledger, count: Count = uncounted
    ) -> None:
        self._settings = settings
        self._count = count
        bus, most_bytes = settings.bus, settings.max_body_bytes
        quarantine = Quarantine(settings.broker, settings.quarantine, bus)
        self._batches = BatchIntake(bus, ledger, quarantine.put, max_body_bytes=most_bytes)
        self._loop = QueueLoop(
            settings, self, quarantine, relevant=may_concern,
            name=f"bus {bus}", connection="detachd listener", waiting="{} messages wait unacked",
        )  # fmt: skip
        self._probe_at = self._caught_up_at = -math.inf
        self._all_sent_at: float | None = None
        self._last_message_at: datetime | None = None

    @property
    def caught_up(self) -> bool:
        """Tell whether deadlines count; see ``ListenerStatus``."""
        return time.monotonic() - self._caught_up_at < _CAUGHT_UP_SECONDS

    def status(self) -> ListenerStatus:
        """Return the status. Does not block."""
        return ListenerStatus(
            bus=self._settings.bus,
            connected=self._loop.connected,
            caught_up=self.caught_up,
            last_message_at=self._last_message_at,
            problems=self._loop.problems,
        )

    def parse(self, batch: Batch) -> ParsedBatch:
        """Parse each body; see ``BatchIntake.parse``."""
        return self._batches.parse(batch)

    def store(self, parsed: ParsedBatch) -> None:
        """Make the batch durable; see ``BatchIntake.store``."""
        self._count(self._batches.store(parsed))

    def settled(self, batch: Batch, subscription: Subscription) -> None:
        """Note that this batch and all before it are acked; check the bindings and the queue."""
        if batch.tags:
            self._last_message_at = datetime.now(UTC)
        # The batch that followed the probe is acked now, and so is all that the queue had at that
        # moment.
        if self._all_sent_at is not None:
            self._caught_up_at, self._all_sent_at = self._all_sent_at, None
        now = time.monotonic()
        if now >= subscription.refreshed_at + self._settings.rebind_seconds:
            subscription.refresh()
            self._count(QueuesSeen(self._settings.bus, subscription.unconsumed()))
        if now >= self._probe_at:
            self._probe_at = now + _PROBE_SECONDS
            # Not caught up yet: what was sent is on its way to us, and is stored with the next
            # batch.
            self._all_sent_at = now if subscription.all_sent() else None

    def interrupted(self, *, disconnected: bool) -> None:
        """Count as not caught up: a message that is not stored may be the end of a case."""
        self._caught_up_at = self._probe_at = -math.inf
        self._all_sent_at = None
        if disconnected:
            self._count(Happened(EventKind.DISCONNECTED, self._settings.bus))
