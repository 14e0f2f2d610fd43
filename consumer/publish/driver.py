"""A notify driver for oslo.messaging that publishes with confirms."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Self

from oslo_messaging.notify import notifier

from consumer.bus.broker import describe
from consumer.bus.sender import Confirmation, NotConfirmedError
from consumer.ledger import Outgoing

DRIVER = "detachd"
"""The entry point of ConfirmedDriver in ``oslo.messaging.notify.drivers``."""


class Announced:
    """The request context of one announcement. The driver writes the result of the sending on it.

    The Notifier of oslo.messaging makes a new message_id each time. An error that a driver raises
    it logs, with the payload, and drops. It passes the context through unchanged.
    """

    def __init__(self, outgoing: Outgoing, send: Callable[[str, bytes], Confirmation]) -> None:
        self.outgoing = outgoing
        self.send = send
        self.answers: list[Confirmation] = []
        # The first value: where the entry point is missing, the Notifier loads no driver and
        # returns as if all were well.
        self.error: str | None = "the notify driver 'detachd' did not run; is detachd installed?"

    def redacted_copy(self) -> Self:
        """Return itself: the Notifier wants a copy without secrets, and there are none here."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are published as ``_context_*``.

        As in Cinder's own notifications, ``global_request_id`` is the id that Nova and Cinder use
        for the operation that this is about.
        """
        request_ids = self.outgoing.payload.get("request_ids") or [None]
        return {
            # Made of the message id, so that it is the same however often the announcement is sent.
            "request_id": f"req-{self.outgoing.message_id}",
            "global_request_id": request_ids[0],
        }


class ConfirmedDriver(notifier.Driver):  # type: ignore[misc]  # oslo.messaging has no types
    """Publishes a message as ``messagingv2`` does, with confirms and mandatory."""

    def notify(self, ctxt: Announced, msg: Mapping[str, Any], priority: str, retry: int) -> None:
        """Send to each topic, and write the broker's answers on the context.

        Blocks for the broker's confirm. ``retry`` is not used: the outbox sends again. Raises
        TypeError for a context that is not from our publisher; such a caller needs messagingv2.
        """
        del retry
        if not isinstance(ctxt, Announced):
            raise TypeError("the notify driver 'detachd' is only for detachd's own publisher")
        body = on_the_wire(msg, ctxt.outgoing, ctxt.to_dict())
        try:
            for topic in self.topics:
                ctxt.answers.append(ctxt.send(f"{topic}.{priority.lower()}", body))
        # Kept and not raised: the Notifier would log it with the payload, and return.
        except NotConfirmedError as error:
            ctxt.error = describe(error)
        else:
            ctxt.error = None


def on_the_wire(
    message: Mapping[str, Any], outgoing: Outgoing, context: Mapping[str, Any]
) -> bytes:
    """Return the body that oslo.messaging's ``messagingv2`` driver would send.

    It has the message_id and the time from the outbox. ``_unique_id`` is new each time, as that of
    oslo.messaging is: its listeners drop a second message with the same one and do not ack it.
    """
    inner = {
        **message,
        "message_id": outgoing.message_id,
        # In the form of oslo.messaging: naive, in UTC. It is when it was decided, not when it was
        # sent.
        "timestamp": str(outgoing.created_at.astimezone(UTC).replace(tzinfo=None)),
        **{f"_context_{name}": value for name, value in context.items()},
        "_unique_id": uuid.uuid4().hex,
    }
    # The message as text in the envelope: what messagingv2 puts on the wire, and its listeners
    # unpack.
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}).encode()
