"""``detachd case list``, and how the fields of a case are printed."""

from __future__ import annotations

import argparse
import dataclasses
import enum
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from cliff.lister import Lister

from consumer.cli.app import positive
from consumer.cli.configured import add_config_file, ledger_of
from handlers.case import Case, CaseState

LIST_COLUMNS = (
    "ID", "State", "Operation", "Volume", "Backend", "Use case", "Rule", "Attempts", "Opened",
    "Next attempt",
)  # fmt: skip


class CaseList(Lister):
    """List the cases, the newest first."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        states = [state.value for state in CaseState]
        parser.add_argument("--state", choices=states, help="list only cases in this state")
        parser.add_argument("--backend", metavar="HOST@BACKEND", help="list only its cases")
        parser.add_argument("--volume", metavar="ID", help="list only cases of this volume")
        parser.add_argument(
            "--limit", type=positive, default=100, help="maximum number (default: %(default)s)"
        )
        add_config_file(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        with ledger_of(parsed_args) as ledger:
            found = ledger.cases(
                state=CaseState(parsed_args.state) if parsed_args.state else None,
                backend=parsed_args.backend,
                volume_id=parsed_args.volume,
                limit=parsed_args.limit,
            )
        return LIST_COLUMNS, [_row(case) for case in found]


def _row(case: Case) -> tuple[Any, ...]:
    return tuple(
        plain(value)
        for value in (
            case.case_id, case.state, case.operation, case.volume_id, case.backend, case.use_case,
            case.rule, case.attempts, case.opened_at, case.next_attempt_at,
        )
    )  # fmt: skip


def as_dict(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; nested dataclasses are not converted."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def plain(value: Any) -> Any:
    """Return a value for JSON: enums by value, times in ISO 8601 to the second."""
    if isinstance(value, enum.Enum):
        return value.value
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
