"""Queue to ledger, then ack: the one loop by which the bus and the replay queue are taken from.

What it keeps to, whatever broker and ledger do:

1. A message is acked when what becomes of it is on disk, in the ledger or on the quarantine queue.
2. What cannot be made durable is held, unacked, with heartbeats; nothing newer overtakes it.
3. With a connection goes all that was not acked on it. The broker delivers it again, and the ledger
   knows it again if it was stored.
4. A body on which detachd itself fails three times is put aside unread. It stops no other.
5. The pauses between tries grow until something is durable that did not have to be put aside.
6. Each problem is told once, and so is that all are gone.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Generic, Protocol, TypeVar

from consumer.bus.broker import BROKER_ERRORS, backoff_seconds, describe
from consumer.bus.sender import NotConfirmedError
from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Batch, Subscription
from consumer.intake.quarantine import Quarantine
from consumer.intake.replay_queue import ReplaySettings
from consumer.ledger import LedgerUnavailableError

LOG = logging.getLogger(__name__)

MOST_FAILURES = 3
FAILED_TOO_OFTEN = f"detachd failed on it {MOST_FAILURES} times; its log says how"

_MOST_COUNTED_BODIES = 1000
_SLICE_SECONDS = 0.5

Parsed = TypeVar("Parsed")


class Intake(Protocol[Parsed]):
    """What becomes of what is taken: all that the bus and the replay queue do not have in common.

    Called in the loop's thread.
    """

    def parse(self, batch: Batch) -> Parsed:
        """Read the bodies, and have no effect: whatever this raises, the bodies woke it."""

    def store(self, parsed: Parsed) -> None:
        """Make durable what was read; when this has returned, the batch may be acked.

        Called again with the same after it raised LedgerUnavailableError or NotConfirmedError.
        """

    def settled(self, batch: Batch, subscription: Subscription) -> None:
        """Take note that a batch is acked; an empty one: nothing came. May raise BROKER_ERRORS."""

    def interrupted(self, *, disconnected: bool) -> None:
        """Take note that a batch is held, or that the connection is gone; lost, if so said."""


class QueueLoop(Generic[Parsed]):
    """Keeps one queue's messages going into the ledger. For one thread.

    ``connected`` and ``problems`` may be asked from any. ``name`` is what the log calls it,
    ``connection`` what the broker does; ``waiting`` says of so many messages that they are held;
    ``relevant`` which bodies to read at all: the others are acked with their batch.
    """

    def __init__(
        self,
        settings: ListenerSettings | ReplaySettings,
        intake: Intake[Parsed],
        quarantine: Quarantine,
        *,
        name: str,
        connection: str,
        waiting: str,
        relevant: Callable[[bytes], bool],
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._quarantine = quarantine
        self._name, self._connection, self._waiting = name, connection, waiting
        self._relevant = relevant
        self._subscription: Subscription | None = None
        # The batch in hand, and as what it was read: None while it is being read.
        self._batch: Batch | None = None
        self._parsed: Parsed | None = None
        self._retry_at = -math.inf
        self._failures = 0
        self._body_failures = BodyFailures()
        self._singles_left = 0
        self._problem: str | None = None
        self._logged: tuple[str, ...] = ()

    @property
    def connected(self) -> bool:
        """Tell whether there is a connection."""
        return self._subscription is not None

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong now, in sentences for the operator."""
        subscription, problem = self._subscription, self._problem
        found = () if subscription is None else subscription.problems
        return found if problem is None else (problem, *found)

    def run(self, stop: threading.Event) -> None:
        """Take messages in until ``stop`` is set, reconnecting for ever.

        Returns within about a second of it; what was taken and not acked goes back to the queue.
        """
        while not stop.is_set():
            try:
                self.run_once()
            except BROKER_ERRORS as error:
                self._count_failure(broker=True)
                stop.wait(self._disconnect(f"the broker cannot be used: {describe(error)}"))
            except Exception as error:  # the top of the loop: a bug of ours must not end it
                LOG.exception("%s: unexpected error; nothing was acked", self._name)
                self._count_failure(broker=False)
                stop.wait(self._disconnect(f"unexpected error: {describe(error)}"))
        self.close()

    def run_once(self) -> int:
        """Connect if need be and take one batch; return how many messages were acked.

        Where the ledger (or the quarantine queue) cannot be had, the batch is kept and nothing is
        acked; later calls try it again, and until then wait with heartbeats. Blocks for
        about half a second when there is nothing to do. Raises BROKER_ERRORS;
        then ``close`` must follow, and what was not acked is delivered again.
        """
        subscription = self._subscribed()
        if self._batch is None:
            self._batch = self._collect(subscription)
        elif time.monotonic() < self._retry_at:
            subscription.keep_alive(_SLICE_SECONDS)
            return 0
        if self._batch.tags and not self._made_durable(self._batch):
            return 0
        batch = self._batch
        self._settle(batch, subscription)
        return len(batch.tags)

    def close(self) -> None:
        """Close the connections; what was not acked goes back to the queue."""
        if self._subscription is not None:
            self._subscription.close()
        self._reset(disconnected=False)
        self._quarantine.close()

    # --- one batch ------------------------------------------------------------------------------

    def _collect(self, subscription: Subscription) -> Batch:
        pace = self._settings.pace
        batch = subscription.collect(
            dataclasses.replace(pace, size=1) if self._singles_left else pace
        )
        self._body_failures.mark(batch)
        return batch

    def _made_durable(self, batch: Batch) -> bool:
        if self._parsed is None:
            self._parsed = self._intake.parse(batch)
        try:
            self._intake.store(self._parsed)
        except (LedgerUnavailableError, NotConfirmedError) as error:
            self._failures += 1
            self._retry_at = time.monotonic() + backoff_seconds(self._failures)
            self._intake.interrupted(disconnected=False)
            self._problem = f"{self._waiting.format(len(batch.tags))}: {describe(error)}"
            self._log_problems()
            return False
        return True

    def _settle(self, batch: Batch, subscription: Subscription) -> None:
        # From here on an error is no word against these bodies: they are durable.
        self._batch = self._parsed = None
        if batch.tags:
            subscription.ack(batch)
        self._intake.settled(batch, subscription)
        self._problem = None
        # What had to be put aside is no sign that all is well: if we fail on everything, the pauses
        # grow, and it is not all in quarantine within the hour.
        if not any(delivery.problem == FAILED_TOO_OFTEN for delivery in batch.deliveries):
            self._failures = 0
        self._log_problems()
        if self._singles_left:
            self._count_single(batch, subscription)

    # --- bodies on which detachd itself fails ---------------------------------------------------

    def _count_failure(self, *, broker: bool) -> None:
        """After an error take what was in hand one by one, to find what it comes of.

        Else one message that wakes a bug of ours would stop its queue for good, and be redelivered
        with all those around it for ever. ``broker``: the error is of a kind that a broker which is
        gone raises. Those come between bodies: while bodies are read, it is a bug all the same.
        """
        batch, subscription = self._batch, self._subscription
        if subscription is not None and subscription.current_body is not None:
            self._body_failures.count(sha256(subscription.current_body).hexdigest())
        elif batch is not None and (self._parsed is None or not broker):
            self._singles_left = max(self._singles_left, len(batch.tags))
            if len(batch.tags) == 1 and batch.deliveries:
                self._body_failures.count(batch.deliveries[0].body_sha256)

    def _count_single(self, batch: Batch, subscription: Subscription) -> None:
        """Count those that were in hand with the error; after them go back to whole batches."""
        left = self._singles_left - len(batch.tags) if batch.tags else 0
        self._singles_left = max(left, 0)
        if not self._singles_left and self._settings.prefetch > 1:
            subscription.close()  # the next is one that many messages are sent to
            self._reset(disconnected=False)

    # --- the connection -------------------------------------------------------------------------

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            settings = self._settings
            self._subscription = Subscription(
                settings.broker,
                (settings.queue, settings.quarantine),
                settings.bindings,
                prefetch=1 if self._singles_left else settings.prefetch,
                max_body_bytes=settings.max_body_bytes,
                relevant=self._relevant,
                refused=self._body_failures.refused,
                name=self._connection,
            )
            LOG.info("%s: listening on queue %s", self._name, settings.queue.name)
            self._log_problems()
        return self._subscription

    def _disconnect(self, problem: str) -> float:
        """Give the connection up; return how many seconds to wait before the next."""
        disconnected = self._subscription is not None
        if self._subscription is not None:
            self._subscription.abandon()
        self._reset(disconnected=disconnected)
        self._failures += 1
        self._problem = problem
        self._log_problems()
        return backoff_seconds(self._failures)

    def _reset(self, *, disconnected: bool) -> None:
        self._subscription = self._batch = self._parsed = None
        self._retry_at = -math.inf
        self._intake.interrupted(disconnected=disconnected)

    def _log_problems(self) -> None:
        """Log each problem once, and when all are gone."""
        problems = self.problems
        for problem in problems:
            if problem not in self._logged:
                LOG.warning("%s: %s", self._name, problem)
        if self._logged and not problems:
            LOG.info("%s: all problems are solved", self._name)
        self._logged = problems


class BodyFailures:
    """Counts our failures on each body; those of a thousand bodies are kept. For one thread.

    Of several, not of the last alone: replicas that share a queue pass such bodies to each other.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, body_sha256: str) -> None:
        """Count an unexpected error while this body, and no other, was in hand."""
        self._counts[body_sha256] = self._counts.pop(body_sha256, 0) + 1
        if len(self._counts) > _MOST_COUNTED_BODIES:
            del self._counts[next(iter(self._counts))]

    def refused(self, body: bytes) -> str | None:
        """Return why a body is not to be read at all, None where it may be."""
        if not self._counts:  # nearly always
            return None
        return FAILED_TOO_OFTEN if self.exhausted(sha256(body).hexdigest()) else None

    def mark(self, batch: Batch) -> None:
        """Say of each body that has had its chances that it is not to be read.

        ``refused`` knows a body as it came; what was compressed then is another one by now.
        """
        if not self._counts:
            return
        batch.deliveries = [
            dataclasses.replace(one, problem=FAILED_TOO_OFTEN)
            if self.exhausted(one.body_sha256)
            else one
            for one in batch.deliveries
        ]

    def exhausted(self, body_sha256: str) -> bool:
        """Tell whether this body has had its chances."""
        return self._counts.get(body_sha256, 0) >= MOST_FAILURES
