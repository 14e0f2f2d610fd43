"""``detachd sweep ...``: what the sweeps have found, and a person's word that it was seen."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from consumer.cli.app import positive
from consumer.cli.configured import ConfiguredCommand, add_word, ledger_of
from consumer.cli.records import Listing

MOST_LISTED = 1000


class SweepList(Listing):
    """List what the last sweep saw in transition or exported, the longest unchanged first.

    Not each of them is stuck: a shelved server's reservation may be right for months. `detachd
    case list` shows those of which a case was made.
    """

    nothing = "no findings"

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--limit",
            type=positive,
            default=MOST_LISTED,
            help="show at most so many (default: %(default)s)",
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """Return a row for each finding."""
        with ledger_of(parsed_args) as ledger:
            found = ledger.sweeps.findings(parsed_args.limit)
        return ("Volume", "Attachment", "Status", "First seen", "Cases made"), [
            (
                standing.sighting.volume_id,
                standing.sighting.attachment_id or "-",
                standing.sighting.status,
                standing.first_seen_at.isoformat(timespec="seconds"),
                standing.offers,
            )
            for standing in found
        ]


class SweepAcknowledge(ConfiguredCommand):
    """Say that you have seen what the sweeps found. Once for each ledger.

    Until then detachd acts on nothing that the first sweep found, also in mode auto: it may be
    older than the installation. The cases that wait for this are diagnosed again at once.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_word(parser, "the reason, for the history")

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Record it, and say how many cases are due now."""
        with ledger_of(parsed_args) as ledger:
            before = ledger.sweeps.acknowledged()
            due = ledger.sweeps.acknowledge(parsed_args.actor, parsed_args.reason)
        if before is not None:
            by = before.by or "an upgrade"
            self.app.stdout.write(f"acknowledged before, by {by}; nothing changed\n")
            return
        self.app.stdout.write(f"acknowledged; {due} cases that waited are diagnosed again\n")
