"""``detachd pause`` and ``detachd resume``."""

from __future__ import annotations

import argparse

from cliff.command import Command

from consumer.cli.configured import add_actor, add_config_file, ledger_of


class Pause(Command):
    """Write nothing outside any more, in every process on this ledger, until `detachd resume`.

    Takes effect before the next write to Cinder, Nova or a backend; a call that is on its way ends.
    Notifications are still taken from the bus and kept, but no case is worked.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--reason", required=True, help="why, for the history")
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Pause."""
        with ledger_of(parsed_args) as ledger:
            before = ledger.paused()
            ledger.pause(parsed_args.actor, parsed_args.reason)
        if before is None:
            self.app.stdout.write("paused\n")
        else:
            self.app.stdout.write(f"paused already, by {before.actor}: {before.reason}\n")


class Resume(Command):
    """Go on after `detachd pause`."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Resume."""
        with ledger_of(parsed_args) as ledger:
            ledger.resume(parsed_args.actor)
        self.app.stdout.write("resumed\n")
