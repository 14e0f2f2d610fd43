"""``detachd audit export``: every decision and every write outside, as JSON lines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from consumer.cli.app import MOST, since
from consumer.cli.cases.bundle import redacted
from consumer.cli.configured import ConfiguredCommand, ledger_of
from consumer.cli.records import plain


class AuditExport(ConfiguredCommand):
    """Print every decision and every write of all cases, one JSON object a line, by case.

    A decision has who made it (a service by host and process, or a person), the rule, the reason
    and the evidence. A write has its request id, the evidence before it and that of the look after
    it. What looks like a credential is masked. The archive is included.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--since",
            type=since,
            metavar="TIME",
            help="only what happened since then: 90m, 6h, 2d, or a time in ISO 8601",
        )

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Read each case by itself, the oldest first, and print its lines."""
        from consumer.ledger import NoSuchCaseError
        from consumer.status.audited import lines

        with ledger_of(parsed_args) as ledger:
            # Ids first, then one case at a time: years of history do not fit into memory.
            ids = [case.case_id for case in ledger.cases(limit=MOST)]
            for case_id in reversed(ids):
                try:
                    record = ledger.case(case_id)
                except NoSuchCaseError:
                    continue  # deleted meanwhile, by its age
                for line in lines(record):
                    if parsed_args.since is None or line["at"] >= parsed_args.since:
                        self._print(line)

    def _print(self, line: Mapping[str, Any]) -> None:
        shown = redacted({name: plain(value) for name, value in line.items()})
        self.app.stdout.write(json.dumps(shown) + "\n")
