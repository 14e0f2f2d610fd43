"""``detachd announcement ...``: what reached no queue, and sending it again."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from consumer.cli.app import since
from consumer.cli.configured import ConfiguredCommand, add_word, ledger_of
from consumer.cli.records import Listing, add_limit
from consumer.errors import BadInputError

SINCE = "only those made since then: 90m, 6h, 2d, or a time in ISO 8601"


class AnnouncementList(Listing):
    """List the announcements that reached no queue, the oldest first.

    The broker returned them, because no queue was bound for them. detachd does not send them again
    by itself.
    """

    nothing = "no announcements that reached no queue"

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--since", type=since, metavar="TIME", help=SINCE)
        add_limit(parser)

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        with ledger_of(parsed_args) as ledger:
            found = ledger.unrouted(since=parsed_args.since, limit=parsed_args.limit)
        return ("Message", "Event", "Case", "Made"), [
            (
                one.message_id,
                one.event_type,
                one.case_id,
                one.created_at.isoformat(timespec="seconds"),
            )
            for one in found
        ]


class AnnouncementResend(ConfiguredCommand):
    """Send announcements that reached no queue again, under the same message_id.

    Bind the subscriber's queue first: without one they are returned again. Those of one case are
    sent in their order.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "messages", metavar="MESSAGE", nargs="*", help="the message_id of an announcement"
        )
        parser.add_argument("--all", action="store_true", help="all that reached no queue")
        parser.add_argument("--since", type=since, metavar="TIME", help=SINCE)
        add_word(parser, "the reason, for the log")

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Send them. Raises BadInputError where it is not clear which, or one is not unrouted."""
        every = parsed_args.all or parsed_args.since is not None
        # Neither, or both: "all" by accident would send what was sent long ago.
        if bool(parsed_args.messages) == every:
            raise BadInputError("name announcements by message_id, or give --all or --since")
        chosen = None if every else set(parsed_args.messages)
        with ledger_of(parsed_args) as ledger:
            number = ledger.resend(
                chosen, parsed_args.actor, parsed_args.reason, since=parsed_args.since
            )
        if chosen is not None and number < len(chosen):
            others = f"; {number} are sent again" if number else ""
            raise BadInputError(
                f"{len(chosen) - number} of {len(chosen)} are not on record as unrouted{others}; "
                "`detachd announcement list` shows those that are"
            )
        self.app.stdout.write(f"{number} announcements are sent again\n")
