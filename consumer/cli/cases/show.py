"""``detachd case show``: one case as a person reads it, or all of it for a program."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn
from cliff.show import ShowOne

from consumer.cli.cloud import explained
from consumer.cli.configured import ConfiguredCommand, ledger_of
from consumer.cli.records import as_dict, plain
from consumer.cli.text import abbreviated, width, wrapped
from consumer.status.one_case import explanation, in_short, last_look
from consumer.status.words import harmless, printable
from handlers.case import Case
from handlers.recovery.explanation import Explanation

if TYPE_CHECKING:
    from consumer.ledger import CaseRecord, NotificationRecord

TEXT = "text"
SHOWN = (
    "case_id", "state", "operation", "volume_id", "attachment_id", "instance_id", "host", "backend",
    "trigger", "opened_at", "updated_at", "closed_at", "next_attempt_at", "attempts", "rule",
    "verdict", "reason", "use_case", "conclusion", "verified_by", "fingerprint", "cloud",
    "failures", "mended_at", "approved_by",
)  # fmt: skip
LABEL = 11
TIME, LANE = 12, 10


class Entries(FormattableColumn[Sequence[Mapping[str, Any]]]):
    """Several entries in one field: one line each in a table, objects in JSON."""

    def human_readable(self) -> str:
        """Return one line per entry, with the values that are set."""
        return "\n".join(_line(entry) for entry in self._value)

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return the entries as plain JSON values."""
        return [dict(entry) for entry in self._value]


class Explained(FormattableColumn[Explanation]):
    """The explanation of the last look: its verdict in a table, all of it in JSON."""

    def human_readable(self) -> str:
        """Return what it comes to."""
        return f"{self._value.outlook.value}: {self._value.verdict} by {self._value.rule}"

    def machine_readable(self) -> Any:
        """Return it as plain JSON values."""
        return json.loads(json.dumps(self._value.plain()))


class CaseShow(ConfiguredCommand, ShowOne):
    """Show one case: what was seen, what it means, the plan, and what to type next.

    Reads the record alone; `detachd explain` looks now. -f json, yaml, table and the others have
    every field, the notifications, the history, the writes and the announcements.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        (formats,) = (a for a in parser._actions if a.dest == "formatter")  # noqa: SLF001 - cliff has no other way
        # cliff finds formatters by entry points, for all commands of all programs; this one is ours
        # alone.
        formats.choices = [*(formats.choices or ()), TEXT]
        formats.default, formats.help = TEXT, "the output format, defaults to text"
        parser.add_argument("id", metavar="ID", help="the id of the case, or its beginning")
        parser.add_argument(
            "--all", action="store_true", help="add every guard, message, write and announcement"
        )
        parser.add_argument(
            "--timeline", action="store_true", help="draw the case over time instead"
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the text, or what another format asks for. Raises NoSuchCaseError."""
        # The text has no columns to choose from.
        if parsed_args.columns and parsed_args.formatter == TEXT:
            parsed_args.formatter = "table"
        if parsed_args.formatter != TEXT:
            return super().run(parsed_args)
        record = _record(parsed_args)
        shown = _text(record, datetime.now(UTC), width(), parsed_args)
        self.app.stdout.write("".join(f"{printable(line)}\n" for line in shown))
        return 0

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Read the case. Raises NoSuchCaseError."""
        fields = as_fields(_record(parsed_args))
        return tuple(fields), tuple(fields.values())


def _record(arguments: argparse.Namespace) -> CaseRecord:
    with ledger_of(arguments) as ledger:
        return ledger.case(arguments.id)


def as_fields(record: CaseRecord) -> dict[str, Any]:
    """Return the fields of ``case show``, in their order."""
    case = record.case
    return {
        **{name: plain(getattr(case, name)) for name in SHOWN},
        "request_ids": list(case.request_ids),
        "claimed_by": record.claimed_by,
        "lease_expires_at": plain(record.lease_expires_at),
        "notifications": Entries([_notification(n) for n in record.notifications]),
        "history": Entries([_plain(as_dict(line)) for line in record.history]),
        "writes": Entries([_plain(as_dict(intent)) for intent in record.intents]),
        "announcements": Entries([_plain(as_dict(sent)) for sent in record.outbox]),
        "explanation": Explained(explanation(record)),
    }


# -- the text --------------------------------------------------------------------------------------


def _text(
    record: CaseRecord, now: datetime, columns: int, arguments: argparse.Namespace
) -> Iterator[str]:
    if arguments.timeline:
        yield from _head(record.case, now, columns)
        yield from timeline(record, columns)
        return
    yield from text(record, now, columns, every=arguments.all)


def text(record: CaseRecord, now: datetime, columns: int, *, every: bool = False) -> Iterator[str]:
    """Yield the lines for a person. ``every``: the raw details too."""
    case, look = record.case, harmless(last_look(record))
    ids = () if every else (case.volume_id, case.attachment_id, case.instance_id)
    told = explanation(record, abbreviated(look, ids))
    yield from _head(case, now, columns)
    # The same words twice would look like two reasons.
    if case.reason and not case.reason.startswith(told.reason):
        yield from wrapped("Reason", case.reason, columns, explained.INDENT)
    yield from explained.lines(told, now, columns, every=every)
    if every:
        yield from _details(record)
    else:
        yield f"{'More':<{explained.INDENT}}detachd case show {case.case_id[:8]} --all, --timeline"


def _head(case: Case, now: datetime, columns: int) -> Iterator[str]:
    yield f"Case {case.case_id}: {case.state.value}, {case.operation.value}"
    yield from wrapped("", in_short(case, now), columns, 0)
    for label, value in (
        ("volume", case.volume_id), ("attachment", case.attachment_id),
        ("server", case.instance_id), ("host", case.host), ("backend", case.backend),
    ):  # fmt: skip
        yield from wrapped(label, value or "not known", columns, LABEL)
    yield ""


def timeline(record: CaseRecord, columns: int) -> Iterator[str]:
    """Yield the case from its first sign on, each moment with the time since then."""
    from consumer.status.timeline import LANES, moments, with_gaps

    found = moments(record)
    if not found:
        yield "nothing is on record"
        return
    began = found[0].at
    yield f"{began:%Y-%m-%d %H:%M:%S} UTC is +0 s"
    for moment, since, quiet in with_gaps(found, began):
        if quiet is not None:
            yield f"{'':<{TIME}}:  {quiet} later"
        label = f"{'+' + since:<{TIME}}{LANES[moment.lane]}  {moment.lane:<{LANE}}"
        yield from wrapped(label, moment.text, columns, TIME + LANE + 3)
    yield ""
    yield "  ".join(f"{mark} {lane}" for lane, mark in LANES.items())


def _details(record: CaseRecord) -> Iterator[str]:
    fields = as_fields(record)
    for name in ("notifications", "history", "writes", "announcements"):
        entries: Entries = fields[name]
        yield ""
        yield f"{name.upper()} ({len(entries.machine_readable())})"
        yield from (f"  {_line(entry)}" for entry in entries.machine_readable())


def _notification(record: NotificationRecord) -> dict[str, Any]:
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


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in entry.items()}


def _line(entry: Mapping[str, Any]) -> str:
    """Return an entry on one line: the values that are set and short. JSON has all."""
    shown = (value for value in entry.values() if isinstance(value, str | int) and value != "")
    return printable("  ".join(str(value) for value in shown))
