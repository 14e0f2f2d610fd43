"""Bus to ledger, then ack: hops 1 and 2.

Notifications are at-most-once on their way to our queue. From there on none is lost: a message is
acked when the ledger, or the quarantine queue, has it on disk. What happens twice (a redelivery, a
publisher's repetition) the ledger recognises by its message_id.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Batch, Subscription
from consumer.counting import Happened, What
from consumer.intake.batch import BatchIntake, BatchReport, ParsedBatch
from consumer.intake.loop import QueueLoop
from consumer.intake.quarantine import Quarantine
from consumer.ledger import Ledger
from handlers.counting import uncounted
from handlers.notification import may_concern

_PROBE_SECONDS = 1.0
_CAUGHT_UP_SECONDS = 10.0

Count = Callable[[BatchReport | Happened], None]


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerStatus:
    """How the listener is now; ``problems`` are sentences for the operator.

    ``caught_up``: of what the queue held at some moment of the last ten seconds, all is in the
    ledger. Until then a missing end may be an end that waits in the queue, or on its way to us.
    """

    bus: str
    connected: bool
    caught_up: bool
    last_message_at: datetime | None
    problems: tuple[str, ...]


class Listener:
    """Keeps one bus's notifications going into the ledger, whatever broker and ledger do.

    For one thread; ``caught_up`` and ``status`` may be asked from any. It is its loop's ``Intake``:
    the last methods are called by that alone.
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
        """Tell whether deadlines may fire; see ``ListenerStatus``."""
        return time.monotonic() - self._caught_up_at < _CAUGHT_UP_SECONDS

    def status(self) -> ListenerStatus:
        """Return how the listener is now. Blocks on nothing."""
        return ListenerStatus(
            bus=self._settings.bus,
            connected=self._loop.connected,
            caught_up=self.caught_up,
            last_message_at=self._last_message_at,
            problems=self._loop.problems,
        )

    def run(self, stop: threading.Event) -> None:
        """Listen until ``stop`` is set; see ``QueueLoop.run``."""
        self._loop.run(stop)

    def run_once(self) -> int:
        """Take one batch; return how many messages were acked. See ``QueueLoop.run_once``."""
        return self._loop.run_once()

    def close(self) -> None:
        """Close the connections; what was not acked goes back to the queue."""
        self._loop.close()

    def parse(self, batch: Batch) -> ParsedBatch:
        """Say of each body what is to become of it."""
        return self._batches.parse(batch)

    def store(self, parsed: ParsedBatch) -> None:
        """Store what concerns us in one transaction; see ``BatchIntake.store``."""
        self._count(self._batches.store(parsed))

    def settled(self, batch: Batch, subscription: Subscription) -> None:
        """Note that this batch, and what came before it, needs the broker no more; look around."""
        if batch.tags:
            self._last_message_at = datetime.now(UTC)
        if self._all_sent_at is not None:
            self._caught_up_at, self._all_sent_at = self._all_sent_at, None
        now = time.monotonic()
        if now >= subscription.refreshed_at + self._settings.rebind_seconds:
            subscription.refresh()
        if now >= self._probe_at:
            self._probe_at = now + _PROBE_SECONDS
            self._all_sent_at = now if subscription.all_sent() else None

    def interrupted(self, *, disconnected: bool) -> None:
        """Be caught up no more: what is held, or delivered again, may be the end of a case."""
        self._caught_up_at = self._probe_at = -math.inf
        self._all_sent_at = None
        if disconnected:
            self._count(Happened(What.DISCONNECTED, self._settings.bus))
