"""``detachd replica ...``: which services work on the ledger."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.lister import Lister

from consumer.cli.configured import add_config_file, ledger_of

COLUMNS = ("Owner", "Host", "Process", "Version", "Started", "Last heard of", "Alive")


class ReplicaList(Lister):
    """List the services that work on the ledger, those heard of last first.

    One that ended in good order is not in it; one that was killed is, for a week. Alive means heard
    of within a minute, by the database's clock.
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
