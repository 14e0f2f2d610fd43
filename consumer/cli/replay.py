"""``detachd replay file``, and how orders and notifications are sent to the replay queue."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence

from cliff.command import Command

from consumer.bus.broker import url_explained
from consumer.bus.sender import NotConfirmedError
from consumer.cli.app import stated_reason
from consumer.cli.configured import add_actor, add_config_file, settings_of
from consumer.intake.replay_queue import (
    NotReplayableError,
    Refused,
    ReplaySender,
    ReplaySettings,
    Requester,
    order_of,
    read_input,
    split_documents,
    unwrap,
)
from consumer.settings.configuration import Settings


class ReplayFile(Command):
    """Replay recorded notifications: detachd diagnoses the volume of each of them at once.

    The input is the same as for `detachd notification inspect`: one message, or JSON lines.
    Messages that concern no attachment are skipped. If one message cannot be read, none is sent.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="PATH", help="a file, or - for standard input")
        parser.add_argument(
            "--reason",
            type=stated_reason,
            default="replayed from a file",
            help="the reason (default: %(default)s)",
        )
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Send them. Raises UnreadableInputError, NotReplayableError, NotConfirmedError."""
        settings = settings_of(parsed_args)
        requester = Requester(parsed_args.actor, parsed_args.reason)
        found = replayable(read_input(parsed_args.file))
        for _ in sending(settings, found, requester):
            pass
        self.app.stdout.write(f"queued for replay: {len(found)}\n")


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
                    f"{number} of {len(found)} were sent; you can send the others again"
                ) from error
            yield
