"""``detachd audit export``: every decision and every write outside, as JSON lines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from cliff.command import Command

from consumer.cli.app import MOST
from consumer.cli.case import plain
from consumer.cli.case_bundle import redacted
from consumer.cli.configured import add_config_file, ledger_of
from consumer.ledger import CaseRecord, HistoryKind, HistoryRecord, IntentRecord

OF_WRITES = (HistoryKind.INTENDED, HistoryKind.RESULT)
"""Lines of history that the writes themselves tell better."""


class AuditExport(Command):
    """Print every decision and every write of all cases, one JSON object a line, by case.

    A decision has who made it (a service by host and process, or a person), the rule, the reason
    and the evidence. A write has its request id, the evidence before it and that of the look after
    it. What looks like a credential is masked. The archive is included.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--since",
            type=_moment,
            metavar="TIME",
            help="only what happened at or after this time, in ISO 8601 with its zone",
        )
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Read each case by itself, the oldest first, and print its lines."""
        with ledger_of(parsed_args) as ledger:
            ids = [case.case_id for case in ledger.cases(limit=MOST)]
            for case_id in reversed(ids):
                for line in lines(ledger.case(case_id)):
                    if parsed_args.since is None or line["at"] >= parsed_args.since:
                        self._print(line)

    def _print(self, line: Mapping[str, Any]) -> None:
        shown = redacted({name: plain(value) for name, value in line.items()})
        self.app.stdout.write(json.dumps(shown) + "\n")


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no time in ISO 8601") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no zone, for example +00:00")
    return at


def lines(record: CaseRecord) -> Iterator[dict[str, Any]]:
    """Yield the decisions and writes of a case, in the order of their times."""
    made = [
        *(_decision(record, line) for line in record.history if line.kind not in OF_WRITES),
        *(_write(record, intent) for intent in record.intents),
    ]
    yield from sorted(made, key=lambda line: line["at"])


def _about(record: CaseRecord) -> dict[str, Any]:
    case = record.case
    names = ("cloud", "case_id", "volume_id", "attachment_id", "instance_id", "backend")
    return {name: getattr(case, name) for name in names}


def _decision(record: CaseRecord, line: HistoryRecord) -> dict[str, Any]:
    detail = dict(line.detail or {})
    return {
        "at": line.recorded_at,
        "what": line.kind,
        **_about(record),
        "actor": line.actor,
        "state": line.state,
        "rule": line.rule,
        "verdict": line.verdict,
        "reason": line.reason,
        "evidence": detail.pop("evidence", None),
        "detail": detail,
    }


def _write(record: CaseRecord, intent: IntentRecord) -> dict[str, Any]:
    return {
        "at": intent.intended_at,
        "what": "write",
        **_about(record),
        "actor": _actor(record, intent),
        "step": intent.kind,
        "request_id": intent.request_id,
        "attempt": intent.attempt,
        "target": dict(intent.target),
        "result": intent.result,
        "result_at": plain(intent.result_at),
        "detail": intent.detail,
        "approved_by": _approved_by(record, intent),
        "evidence_before": dict(intent.evidence),
        "evidence_after": _evidence_after(record, intent),
    }


def _actor(record: CaseRecord, intent: IntentRecord) -> str | None:
    """Return the service that made the write, by the line of history with its request id."""
    own = (
        line.actor
        for line in record.history
        if line.kind is HistoryKind.INTENDED
        and (line.detail or {}).get("request_id") == intent.request_id
    )
    return next(own, None)


def _approved_by(record: CaseRecord, intent: IntentRecord) -> str | None:
    """Return the person whose approval came last before the write."""
    approvals = [
        line.actor
        for line in record.history
        if line.kind is HistoryKind.APPROVED and line.recorded_at <= intent.intended_at
    ]
    return approvals[-1] if approvals else None


def _evidence_after(record: CaseRecord, intent: IntentRecord) -> Any:
    """Return the evidence of the first look that was concluded after the write."""
    later = (
        line.detail.get("evidence")
        for line in record.history
        if line.kind is HistoryKind.CONCLUDED
        and line.detail
        and line.recorded_at >= intent.intended_at
    )
    return next(later, None)
