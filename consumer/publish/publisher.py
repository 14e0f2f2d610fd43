"""From the outbox to the bus: hop 8.

Announcements are published through oslo.messaging's Notifier, so that they look like notifications
of other services, with our own notify driver, so that they are confirmed.

1. An announcement is marked as sent only after the broker has confirmed it for each topic.
2. It keeps the message_id from the outbox, however often it is sent, so that a receiver recognises
   a repetition.
3. One that the broker refuses holds up the later ones of its case, and no others.
4. One that no queue is bound for is sent again only while subscribers may be reconnecting.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Self, assert_never

import kombu
import oslo_messaging
from oslo_config import cfg

from consumer.bus.broker import (
    CHANNEL_ERRORS,
    TOPICS,
    BrokerSettings,
    backoff_seconds,
    describe,
    register_opts,
)
from consumer.bus.sender import Confirmation, ConfirmedSender, NotConfirmedError, Parcel
from consumer.bus.topology import declare_exchange, exchange_problem
from consumer.counting import EventKind, Happened
from consumer.ledger import Ledger, LedgerUnavailableError, Outgoing
from consumer.publish.driver import DRIVER, Announced
from handlers.case import Priority
from handlers.counting import uncounted

LOG = logging.getLogger(__name__)


GROUP = cfg.OptGroup("publisher", title="The publishing of announcements")
OPTS = [
    cfg.StrOpt(
        "exchange",
        default="detachd",
        help="The exchange that detachd publishes announcements to. It corresponds to "
        "control_exchange of other services. The topics are those of "
        "[oslo_messaging_notifications], by default detachd_notifications.",
    ),
    cfg.StrOpt(
        "host",
        default=socket.gethostname(),
        sample_default="controller1",
        help="The name of this host. The publisher_id of announcements is detachd.HOST.",
    ),
    cfg.FloatOpt(
        "confirm_timeout_seconds",
        default=10.0,
        min=0.1,
        help="How long detachd waits for the broker's confirmation of an announcement, in seconds. "
        "An announcement that is not confirmed is sent again with the same message_id.",
    ),
    cfg.FloatOpt(
        "poll_seconds",
        default=1.0,
        min=0.05,
        help="The interval, in seconds, at which the outbox is read.",
    ),
    cfg.FloatOpt(
        "unrouted_after_seconds",
        default=60.0,
        min=0.0,
        help="How long after a connection to the broker an announcement is sent again for which no "
        "queue is bound, in seconds. After a restart of the broker, consumers need some time to "
        "reconnect. Later, such an announcement is marked as unrouted at once and not sent again.",
    ),
]
# Few, because of the lease: those that are not sent within half of it wait for its end.
_LIMIT = 20
# The first half is for sending (_send_due). What is sent last, within its confirm timeout, is
# marked before the lease ends.
_LEASE_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class PublisherStatus:
    """The status of the publisher; ``problems`` are sentences for the operator."""

    problems: tuple[str, ...]


class Publisher:
    """Publishes the outbox, in order within a case, until each announcement is confirmed.

    For one thread; ``status`` may be called from any.
    """

    def __init__(
        self,
        ledger: Ledger,
        announcer: oslo_messaging.Notifier,
        sender: ConfirmedSender,
        *,
        exchange: str,
        owner: str,
        poll_seconds: float,
        unrouted_after_seconds: float,
        count: Callable[[Happened], None] = uncounted,
    ) -> None:
        self._ledger = ledger
        self._announcer = announcer
        self._sender = sender
        self._exchange = exchange
        self._owner = owner
        self._poll_seconds = poll_seconds
        self._unrouted_after_seconds = unrouted_after_seconds
        self._count = count
        self._confirmed: list[int] = []
        self._failures = 0
        self._problem: str | None = None
        self._unconfirmed, self._unconfirmed_until = "", -math.inf

    @classmethod
    def from_conf(
        cls,
        conf: cfg.ConfigOpts,
        ledger: Ledger,
        owner: str,
        count: Callable[[Happened], None] = uncounted,
    ) -> Self:
        """Make it from ``[publisher]`` and oslo.messaging's options; connect to nothing yet.

        Raises what BrokerSettings.from_conf raises.
        """
        register_opts(conf)
        conf.register_opts(OPTS, group=GROUP.name)
        # A default of ours and no option: an operator sets topics where every service has them.
        conf.set_default("topics", list(TOPICS), group="oslo_messaging_notifications")
        options, broker = conf.publisher, BrokerSettings.from_conf(conf)
        return cls(
            ledger,
            oslo_messaging.Notifier(
                oslo_messaging.get_notification_transport(conf),
                publisher_id=f"detachd.{options.host}",
                # By name, so that a driver in [oslo_messaging_notifications], which is for other
                # services, does not count.
                driver=DRIVER,
                topics=conf.oslo_messaging_notifications.topics,
            ),
            _sender(broker, options.exchange, options.confirm_timeout_seconds),
            exchange=options.exchange,
            owner=owner,
            poll_seconds=options.poll_seconds,
            unrouted_after_seconds=options.unrouted_after_seconds,
            count=count,
        )

    def status(self) -> PublisherStatus:
        """Return the status. Does not block."""
        problem = self._problem
        if problem is None and time.monotonic() < self._unconfirmed_until:
            problem = f"announcements wait: {self._unconfirmed}"
        return PublisherStatus(() if problem is None else (problem,))

    def run(self, stop: threading.Event, *, flush_seconds: float = 30.0) -> None:
        """Publish until ``stop`` is set, then publish what is due, for at most ``flush_seconds``.

        A publication that is in progress then may take the confirm timeout longer.
        """
        while not stop.is_set():
            # No pause after a round that sent something (0.0): a backlog is worked off at once.
            stop.wait(self._round())
        # The attempts have ended by now (Service.wait), so what they announced last is in the
        # outbox.
        ends_at = time.monotonic() + flush_seconds
        while time.monotonic() < ends_at and not self._round():
            pass
        self.close()

    def run_once(self) -> int:
        """Publish what is due; return how many announcements were sent or marked as unrouted.

        First marks announcements that were sent while the ledger was not available. Leases none
        while there is no connection to the broker. Blocks for the ledger and for confirms. Raises
        NotConfirmedError without a connection to the broker, and LedgerUnavailableError.
        """
        self._note_sent()
        self._sender.connect()
        try:
            return self._send_due()
        finally:
            self._note_sent()

    def _send_due(self) -> int:
        # A half: one that is sent after its lease has ended may be sent by another replica too.
        ends_at = time.monotonic() + _LEASE_SECONDS / 2
        settled = 0
        for outgoing in self._ledger.outbox_lease(
            self._owner, limit=_LIMIT, lease_seconds=_LEASE_SECONDS
        ):
            if time.monotonic() > ends_at:
                break  # slow: the others are leased again when their lease has ended
            if self._announce(outgoing):
                settled += 1
            else:
                self._sender.connect()
        return settled

    def close(self) -> None:
        """Close the connection."""
        self._sender.close()

    def _note_sent(self) -> None:
        """Mark the confirmed announcements as sent. A crash before this sends them again."""
        if self._confirmed:
            self._ledger.outbox_sent(self._confirmed)
            self._confirmed.clear()

    def _round(self) -> float:
        """Do one round; return how many seconds to wait before the next."""
        try:
            settled = self.run_once()
        except (NotConfirmedError, LedgerUnavailableError) as error:
            return self._failed(f"announcements wait: {describe(error)}")
        except Exception as error:
            LOG.exception("unexpected error; the announcements are kept")
            return self._failed(f"unexpected error: {describe(error)}")
        # The broker was reached, even if it confirmed nothing: _settle keeps that problem by
        # itself.
        self._failures, self._problem = 0, None
        return 0.0 if settled else self._poll_seconds

    def _failed(self, problem: str) -> float:
        if problem != self._problem:
            LOG.warning("%s", problem)
        self._problem = problem
        self._failures += 1
        return backoff_seconds(self._failures)

    def _announce(self, outgoing: Outgoing) -> bool:
        announced = Announced(outgoing, self._send)
        match outgoing.priority:
            case Priority.INFO:
                self._announcer.info(announced, outgoing.event_type, dict(outgoing.payload))
            case Priority.ERROR:
                self._announcer.error(announced, outgoing.event_type, dict(outgoing.payload))
            case other:
                assert_never(other)
        return self._settle(outgoing, announced)

    def _settle(self, outgoing: Outgoing, announced: Announced) -> bool:
        if announced.error is not None:
            # A broker that is short of memory accepts a connection but confirms nothing. If another
            # replica publishes meanwhile, this problem ends one lease after the next try.
            self._unconfirmed = announced.error
            delay = self._retry_later(outgoing, announced.error)
            self._unconfirmed_until = time.monotonic() + delay + _LEASE_SECONDS
            return False
        # One topic without a queue is enough. If it is sent again, the subscribers of the others
        # recognise it by its message id.
        if Confirmation.RETURNED in announced.answers:
            return self._unroutable(outgoing)
        self._unconfirmed_until = -math.inf
        # Marked after the round, in one transaction for all. A crash before that sends them again.
        self._confirmed.append(outgoing.outbox_id)
        self._count(Happened(EventKind.SENT, outgoing.event_type))
        return True

    def _unroutable(self, outgoing: Outgoing) -> bool:
        problem = f"no queue is bound to exchange {self._exchange!r} for {outgoing.event_type}"
        # Subscribers reconnect after a restart of the broker too, and their queues may be bound
        # only then.
        if self._sender.connected_seconds < self._unrouted_after_seconds:
            self._retry_later(outgoing, problem)
            return False
        self._ledger.outbox_unrouted([outgoing.outbox_id])
        self._count(Happened(EventKind.UNROUTED, outgoing.event_type))
        LOG.error("%s: the announcement of case %s is unrouted", problem, outgoing.case_id)
        return True

    def _retry_later(self, outgoing: Outgoing, problem: str) -> float:
        delay = backoff_seconds(outgoing.attempts)
        self._ledger.outbox_failed(outgoing.outbox_id, problem, delay)
        self._count(Happened(EventKind.UNSENT, outgoing.event_type))
        LOG.warning("the announcement is sent again in %.1f s: %s", delay, problem)
        return delay

    def _send(self, routing_key: str, body: bytes) -> Confirmation:
        return self._sender.send(Parcel(self._exchange, routing_key, body))


def _sender(broker: BrokerSettings, exchange: str, timeout_seconds: float) -> ConfirmedSender:
    def prepare(connection: kombu.Connection) -> None:
        durable = broker.durable_exchanges
        try:
            declare_exchange(connection, exchange, durable=durable)
        except CHANNEL_ERRORS as error:
            # The text names the setting that is wrong; the broker's own does not.
            problem = exchange_problem(exchange, error, durable=durable)
            raise NotConfirmedError(problem) from error

    return ConfirmedSender(
        broker, "detachd publisher", prepare=prepare, timeout_seconds=timeout_seconds
    )
