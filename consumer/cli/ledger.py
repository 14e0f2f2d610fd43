"""``detachd ledger ...``."""

from __future__ import annotations

import argparse
import contextlib

from cliff.command import Command

from consumer.cli.configured import add_config_file, settings_of
from consumer.settings.opening import open_ledger


class LedgerUpgrade(Command):
    """Create the ledger's tables, or bring them to what this version of detachd needs.

    Running it again changes nothing. Stop the service before an upgrade.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Run the migrations that are missing."""
        with contextlib.closing(open_ledger(settings_of(parsed_args))) as ledger:
            done = ledger.upgrade()
            name = ledger.name
        if done.before == done.after:
            self.app.stdout.write(f"The ledger at {name} is up to date ({done.after}).\n")
        else:
            before = done.before or "nothing"
            self.app.stdout.write(f"The ledger at {name} went from {before} to {done.after}.\n")
