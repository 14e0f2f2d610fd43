"""From a queue into the ledger, then ack: one loop for the bus and for the replay queue.

Invariants, whatever the broker and the ledger do:

1. A message is acked only when it is on disk, in the ledger or on the quarantine queue.
2. A batch that cannot be made durable is kept, not acked, and heartbeats continue. No newer batch
   is processed before it.
3. When a connection is lost, everything that was not acked on it is dropped. The broker delivers it
   again, and the ledger recognises what it has stored.
4. A body on which detachd itself fails three times goes to quarantine unread. It stops no other.
5. The pauses between tries grow until a batch is durable that contains no such body.
6. Each problem is logged once, and once more when all problems are solved.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

from consumer.bus.broker import BROKER_ERRORS, backoff_seconds, describe
from consumer.bus.sender import NotConfirmedError
from consumer.bus.settings import ListenerSettings
from consumer.bus.subscription import Batch, Subscription
from consumer.intake.quarantine import Quarantine
from consumer.intake.replay_queue import ReplaySettings
from consumer.ledger import LedgerUnavailableError

LOG = logging.getLogger(__name__)

MOST_FAILURES = 3
FAILED_TOO_OFTEN = f"detachd failed {MOST_FAILURES} times on this message; see the log of detachd"

# A bound of memory. The oldest is forgotten: it then fails three times again before it is put
# aside.
_MOST_COUNTED_BODIES = 1000
# Short, so that a stop is noticed while a batch waits.
_SLICE_SECONDS = 0.5

Parsed = TypeVar("Parsed")


class Intake(Protocol[Parsed]):
    """How messages are processed: the part that differs between the bus and the replay queue.

    The loop calls it in its own thread.
    """

    def parse(self, batch: Batch) -> Parsed:
        """Parse the bodies, without any effect. If this raises, one of the bodies is the cause."""

    def store(self, parsed: Parsed) -> None:
        """Make the parsed batch durable. When this has returned, the batch may be acked.

        After LedgerUnavailableError or NotConfirmedError it is called again with the same argument.
        """

    def settled(self, batch: Batch, subscription: Subscription) -> None:
        """Note that a batch is acked; it may be empty. May raise BROKER_ERRORS."""

    def interrupted(self, *, disconnected: bool) -> None:
        """Note that a batch is not durable yet, or that the connection ended (or was lost)."""


class QueueLoop(Generic[Parsed]):
    """Stores the messages of one queue in the ledger. For one thread.

    ``connected`` and ``problems`` may be called from any. ``name`` is for the log, ``connection``
    for the broker. ``waiting`` is the text for messages that are not durable yet, with {} for their
    number. ``relevant`` tells which bodies to parse; the others are only acked with their batch.
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
        # The batch that is processed now, and what it was parsed to: None until it is parsed.
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
        """Return the present problems, as sentences for the operator."""
        subscription, problem = self._subscription, self._problem
        found = () if subscription is None else subscription.problems
        return found if problem is None else (problem, *found)

    def run(self, stop: threading.Event) -> None:
        """Process messages until ``stop`` is set; reconnect as often as necessary.

        Returns about a second after that. Messages that were not acked go back to the queue.
        """
        while not stop.is_set():
            try:
                self.run_once()
            except BROKER_ERRORS as error:
                # Before the connection is dropped: the body that is being read is known only until
                # then.
                self._count_failure(broker=True)
                stop.wait(self._disconnect(f"the broker cannot be used: {describe(error)}"))
            except Exception as error:  # the top of the loop: a bug must not end it
                LOG.exception("%s: unexpected error; nothing was acked", self._name)
                self._count_failure(broker=False)
                stop.wait(self._disconnect(f"unexpected error: {describe(error)}"))
        self.close()

    def run_once(self) -> int:
        """Connect if necessary and process one batch; return how many messages were acked.

        If the ledger or the quarantine queue cannot be used, the batch is kept and nothing is
        acked. Later calls try it again after a pause, with heartbeats. Blocks for about half a
        second if there is nothing to do. Raises BROKER_ERRORS. Then ``close`` must follow, and the
        broker redelivers what was not acked.
        """
        subscription = self._subscribed()
        if self._batch is None:
            # Kept in the object, so that a later call goes on with it after an outage of the
            # ledger.
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
            # Apart from storing, because an error of parsing has a body for its cause, and one of
            # storing has not.
            self._parsed = self._intake.parse(batch)
        try:
            self._intake.store(self._parsed)
        except (LedgerUnavailableError, NotConfirmedError) as error:
            self._failures += 1
            # Not a sleep: run_once goes on to send heartbeats, or the broker takes the messages
            # away.
            self._retry_at = time.monotonic() + backoff_seconds(self._failures)
            # Deadlines must not fire while a message waits that may be the end that they wait for.
            self._intake.interrupted(disconnected=False)
            self._problem = f"{self._waiting.format(len(batch.tags))}: {describe(error)}"
            self._log_problems()
            return False
        return True

    def _settle(self, batch: Batch, subscription: Subscription) -> None:
        # The bodies are durable: an error from here on is not caused by them.
        self._batch = self._parsed = None
        if batch.tags:
            subscription.ack(batch)
        self._intake.settled(batch, subscription)
        self._problem = None
        # A batch with a body on which detachd failed is no success. So the pauses grow if detachd
        # fails on every body, and not all of them are in quarantine within an hour.
        if not any(delivery.problem == FAILED_TOO_OFTEN for delivery in batch.deliveries):
            self._failures = 0
        self._log_problems()
        if self._singles_left:
            self._count_single(batch, subscription)

    # --- bodies on which detachd itself fails ---------------------------------------------------

    def _count_failure(self, *, broker: bool) -> None:
        """Count a failure for the body that caused it; if it is unknown, take bodies one by one.

        ``broker``: the error is of a kind that a lost connection raises.
        """
        # Otherwise one message that triggers a bug would stop its queue for ever. A broker's error
        # is not caused by a body, unless it was raised while bodies were parsed.
        batch, subscription = self._batch, self._subscription
        if subscription is not None and subscription.current_body is not None:
            self._body_failures.count(sha256(subscription.current_body).hexdigest())
        elif batch is not None and (self._parsed is None or not broker):
            # The next connection has a prefetch of one, so the message that fails comes alone.
            self._singles_left = max(self._singles_left, len(batch.tags))
            if len(batch.tags) == 1 and batch.deliveries:
                self._body_failures.count(batch.deliveries[0].body_sha256)

    def _count_single(self, batch: Batch, subscription: Subscription) -> None:
        """Count down the messages to take one by one; after them return to full batches."""
        left = self._singles_left - len(batch.tags) if batch.tags else 0
        self._singles_left = max(left, 0)
        # The prefetch of a consumer stays what it was when it began (RabbitMQ, "Consumer
        # Prefetch").
        if not self._singles_left and self._settings.prefetch > 1:
            subscription.close()  # the next connection has the full prefetch
            self._reset(disconnected=False)

    # --- the connection -------------------------------------------------------------------------

    def _subscribed(self) -> Subscription:
        if self._subscription is None:
            settings = self._settings
            self._subscription = Subscription(
                settings.broker,
                (settings.queue, settings.quarantine),
                settings.bindings,
                # Otherwise the broker would deliver the failing message amid others again.
                prefetch=1 if self._singles_left else settings.prefetch,
                max_body_bytes=settings.max_body_bytes,
                relevant=self._relevant,
                refused=self._body_failures.refused,
                name=self._connection,
                spare=settings.spare,
            )
            self._log_queues(self._subscription)
            self._log_problems()
        return self._subscription

    def _disconnect(self, problem: str) -> float:
        """Drop the connection; return how many seconds to wait before the next one."""
        disconnected = self._subscription is not None
        if self._subscription is not None:
            # close() would wait for an answer of the broker that has just failed.
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

    def _log_queues(self, subscription: Subscription) -> None:
        """Log which type each queue has, and why; what the settings would rather have."""
        # Logged at each connection: the type may have changed while detachd was away.
        own, *others = subscription.declared
        LOG.info("%s: listening on %s", self._name, own)
        for queue in others:
            LOG.info("%s: %s", self._name, queue)
        for queue in subscription.declared:
            if queue.note is not None:
                LOG.warning("%s: %s", self._name, queue.note)

    def _log_problems(self) -> None:
        """Log each problem once, and once more when all are solved."""
        problems = self.problems
        for problem in problems:
            if problem not in self._logged:
                LOG.warning("%s: %s", self._name, problem)
        if self._logged and not problems:
            LOG.info("%s: all problems are solved", self._name)
        self._logged = problems


class Looped:
    """What a listener and a replayer have in common: a loop runs them. For one thread."""

    _loop: QueueLoop[Any]

    def run(self, stop: threading.Event) -> None:
        """Process messages until ``stop`` is set; see ``QueueLoop.run``."""
        self._loop.run(stop)

    def run_once(self) -> int:
        """Process one batch; return how many messages were acked. See ``QueueLoop.run_once``."""
        return self._loop.run_once()

    def close(self) -> None:
        """Close the connections. Messages that were not acked go back to the queue."""
        self._loop.close()


class BodyFailures:
    """Counts detachd's failures on each body, for up to a thousand bodies. For one thread.

    It counts for several bodies, because replicas that share a queue get such bodies in turn.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, body_sha256: str) -> None:
        """Count an unexpected error that only this body can have caused."""
        # Taken out and put in again, so that the body that failed longest ago stands first.
        self._counts[body_sha256] = self._counts.pop(body_sha256, 0) + 1
        if len(self._counts) > _MOST_COUNTED_BODIES:
            del self._counts[next(iter(self._counts))]

    def refused(self, body: bytes) -> str | None:
        """Return why a body must not be parsed, or None."""
        if not self._counts:  # nearly always
            return None
        return FAILED_TOO_OFTEN if self.exhausted(sha256(body).hexdigest()) else None

    def mark(self, batch: Batch) -> None:
        """Mark each body that has failed too often, so that it is not parsed.

        ``refused`` has checked the bodies as delivered; a body that was compressed is different
        after its decompression.
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
        """Tell whether detachd has failed on this body too often."""
        return self._counts.get(body_sha256, 0) >= MOST_FAILURES
