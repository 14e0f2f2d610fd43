"""``detachd pause``, ``resume`` and ``replica list``: for the services that use one ledger."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.command import Command
from cliff.lister import Lister

from consumer.cli.configured import add_actor, add_config_file, ledger_of


class Pause(Command):
    """Pause every service on this ledger until `detachd resume`: no more writes to the cloud.

    The pause takes effect before the next write to Cinder, Nova or a backend. A call that is in
    progress continues. The services still receive and store notifications, but work on no case.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--reason", required=True, help="the reason, for the history")
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
            self.app.stdout.write(f"already paused by {before.actor}: {before.reason}\n")


class Resume(Command):
    """End the pause that `detachd pause` began."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--reason", default="", help="the reason, for the log of the service")
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Resume."""
        with ledger_of(parsed_args) as ledger:
            ledger.resume(parsed_args.actor, parsed_args.reason)
        self.app.stdout.write("resumed\n")


COLUMNS = ("Owner", "Host", "Process", "Version", "Started", "Last heartbeat", "Alive")


class ReplicaList(Lister):
    """List the services that use this ledger, the most recent heartbeat first.

    A service that was stopped is not listed. A service that was killed is listed for a week. Alive
    means a heartbeat within the last minute, by the database's clock.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        add_config_file(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        with ledger_of(parsed_args) as ledger:
            found = ledger.replicas()
        return COLUMNS, [
            (
                seen.replica.owner, seen.replica.host, seen.replica.pid, seen.replica.version,
                seen.started_at.isoformat(), seen.heartbeat_at.isoformat(), seen.alive,
            )
            for seen in found
        ]  # fmt: skip
