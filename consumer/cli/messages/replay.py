"""``detachd replay file``: recorded notifications are diagnosed again."""

from __future__ import annotations

import argparse

from consumer.cli.app import stated_reason
from consumer.cli.configured import ConfiguredCommand, add_actor, settings_of


class ReplayFile(ConfiguredCommand):
    """Replay recorded notifications: detachd diagnoses the volume of each of them at once.

    The input is the same as for `detachd notification inspect`: one message, or JSON lines.
    Messages that concern no attachment are skipped. If one message cannot be read, none is sent.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", metavar="PATH", help="a file, or - for standard input")
        parser.add_argument(
            "--reason",
            type=stated_reason,
            default="replayed from a file",
            help="the reason (default: %(default)s)",
        )
        add_actor(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Send them. Raises UnreadableInputError, NotReplayableError, NotConfirmedError."""
        from consumer.cli.messages.sending import replayable, sending
        from consumer.intake.replay_queue import Requester, read_input

        settings = settings_of(parsed_args)
        requester = Requester(parsed_args.actor, parsed_args.reason)
        found = replayable(read_input(parsed_args.file))
        for _ in sending(settings, found, requester):
            pass
        self.app.stdout.write(f"queued for replay: {len(found)}\n")
