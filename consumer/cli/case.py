"""``detachd case list`` and ``detachd case show``."""

from __future__ import annotations

import argparse
import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cliff.columns import FormattableColumn
from cliff.lister import Lister
from cliff.show import ShowOne

from consumer.cli.app import positive
from consumer.cli.configured import add_config_file, ledger_of
from consumer.ledger import CaseRecord, HistoryRecord
from handlers.case import Case, CaseState

LIST_COLUMNS = (
    "ID", "State", "Operation", "Volume", "Backend", "Use case", "Rule", "Attempts", "Opened",
    "Next attempt",
)  # fmt: skip

SHOWN = (
    "case_id", "state", "operation", "volume_id", "attachment_id", "instance_id", "host", "backend",
    "trigger", "opened_at", "updated_at", "closed_at", "next_attempt_at", "attempts", "rule",
    "verdict", "reason", "use_case", "conclusion", "verified_by", "fingerprint", "cloud",
    "failures", "mended_at", "approved_by",
)  # fmt: skip


class Entries(FormattableColumn[Sequence[Mapping[str, Any]]]):
    """Several entries in one field: one line each in a table, objects in JSON."""

    def human_readable(self) -> str:
        """Return one line per entry, with the values that are set."""
        return "\n".join(_line(entry) for entry in self._value)

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return the entries as plain JSON values."""
        return [dict(entry) for entry in self._value]


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


class CaseShow(ShowOne):
    """Show one case with its notifications, history, writes and announcements."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("id", metavar="ID", help="the id of the case, or its beginning")
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Read the case. Raises NoSuchCaseError."""
        with ledger_of(parsed_args) as ledger:
            record = ledger.case(parsed_args.id)
        fields = _fields(record)
        return tuple(fields), tuple(fields.values())


def _row(case: Case) -> tuple[Any, ...]:
    return tuple(
        plain(value)
        for value in (
            case.case_id, case.state, case.operation, case.volume_id, case.backend, case.use_case,
            case.rule, case.attempts, case.opened_at, case.next_attempt_at,
        )
    )  # fmt: skip


def _fields(record: CaseRecord) -> dict[str, Any]:
    """Return the fields of ``case show``, in their order."""
    case = record.case
    return {
        **{name: plain(getattr(case, name)) for name in SHOWN},
        "request_ids": list(case.request_ids),
        "claimed_by": record.claimed_by,
        "lease_expires_at": plain(record.lease_expires_at),
        "notifications": Entries([_notification(n) for n in record.notifications]),
        "history": Entries([_history(line) for line in record.history]),
        "writes": Entries([_plain(as_dict(intent)) for intent in record.intents]),
        "announcements": Entries([_plain(as_dict(sent)) for sent in record.outbox]),
    }


def _notification(record: Any) -> dict[str, Any]:
    n = record.notification
    return _plain(
        {
            "received_at": record.received_at,
            "event_type": n.event_type,
            "phase": n.phase,
            "publisher_id": n.publisher_id,
            "attachment_id": n.attachment_id,
            "request_id": n.request_id,
            "fault": n.fault,
            "message_id": n.message_id,
        }
    )


def _history(line: HistoryRecord) -> dict[str, Any]:
    return _plain(as_dict(line))


def as_dict(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; nested dataclasses are not converted."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def plain(value: Any) -> Any:
    """Return a value for JSON: enums by value, times in ISO 8601 to the second."""
    if isinstance(value, enum.Enum):
        return value.value
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in entry.items()}


def _line(entry: Mapping[str, Any]) -> str:
    """Return an entry on one line: the values that are set and short. JSON has all."""
    shown = (value for value in entry.values() if isinstance(value, str | int) and value != "")
    return "  ".join(str(value) for value in shown)
