"""How recorded notifications, and orders for cases, are sent to the replay queue."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from consumer.bus.broker import url_explained
from consumer.bus.sender import NotConfirmedError
from consumer.intake.replay_queue import (
    NotReplayableError,
    Refused,
    ReplaySender,
    ReplaySettings,
    Requester,
    order_of,
    split_documents,
    unwrap,
)
from consumer.settings.configuration import Settings


def replayable(text: bytes) -> list[bytes]:
    """Return the bodies in a text that can be replayed. Raises NotReplayableError."""
    split = split_documents(text)
    documents = [split] if isinstance(split, bytes) else split
    found = [unwrap(document) for document in documents]
    orders = [order_of(body) for body in found]
    refused = {n: order for n, order in enumerate(orders) if isinstance(order, Refused)}
    if broken := [f"message {n + 1}: {o.reason}" for n, o in refused.items() if not o.irrelevant]:
        raise NotReplayableError("\n".join([*broken, "nothing was sent"]))
    if len(refused) == len(found):
        why = "; ".join(sorted({o.reason for o in refused.values()})) or "the input is empty"
        raise NotReplayableError(f"there is nothing to replay: {why}")
    return [body for n, body in enumerate(found) if n not in refused]


def sending(settings: Settings, found: Sequence[bytes], requester: Requester) -> Generator[None]:
    """Send the bodies one by one; yield after each confirm of the broker.

    Raises NotConfirmedError that says how many were sent, and ConfigurationError.
    """
    with url_explained():
        replay = ReplaySettings.from_conf(settings.conf)
    with ReplaySender(replay) as sender:
        for number, body in enumerate(found):
            try:
                sender.send(body, requester)
            except NotConfirmedError as error:
                raise NotConfirmedError(
                    f"{number} of {len(found)} were sent; send the others again when the broker "
                    "answers: `detachd doctor` examines it"
                ) from error
            yield
