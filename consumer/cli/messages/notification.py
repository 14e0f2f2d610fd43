"""``detachd notification ...``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import assert_never

from cliff.display import DisplayCommandBase
from cliff.formatters.base import SingleFormatter

from consumer.cli.app import BAD_INPUT
from consumer.errors import BadInputError
from handlers.notification import Ignored, Malformed, Notification, Phase, parse

COLUMNS = (
    "source", "event_type", "operation", "phase", "volume_id", "instance_id", "attachment_id",
    "request_id", "relevant", "reason",
)  # fmt: skip
Row = tuple[str | bool | None, ...]


class NotificationInspect(DisplayCommandBase):  # type: ignore[type-arg]  # not generic in cliff 4.11
    """Show how detachd reads a notification, or several notifications as JSON lines.

    The input is the body of a message, with or without oslo.messaging's envelope, or a record of
    a message: {"exchange": ..., "routing_key": ..., "body": ...}. One JSON document is shown as one
    object, several lines are shown as a list. The command sends and stores nothing.
    """

    @property
    def formatter_namespace(self) -> str:
        """Return where cliff finds the formatters."""
        return "cliff.formatter.list"

    @property
    def formatter_default(self) -> str:
        """Return the format that is used unless another is asked for."""
        return "table"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="a file, or - for standard input")
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command; return 2, with the reason on stderr, if the input cannot be read."""
        try:
            return super().run(parsed_args)
        except BadInputError as error:
            print(f"detachd: {error}", file=self.app.stderr)
            return BAD_INPUT

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Row | list[Row]]:
        """Return the columns and one row, or one for each line. Raises UnreadableInputError."""
        from consumer.intake.replay_queue import read_input

        return COLUMNS, inspect(read_input(parsed_args.file))

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Row | list[Row]
    ) -> int:
        """Print one object if there is one message and the format supports it, else a list."""
        columns, selector = self._generate_columns_and_selector(parsed_args, column_names)
        rows = [data] if isinstance(data, tuple) else data
        if selector:
            rows = [tuple(self._compress_iterable(row, selector)) for row in rows]
        if isinstance(data, tuple) and isinstance(self.formatter, SingleFormatter):
            self.formatter.emit_one(columns, rows[0], self.app.stdout, parsed_args)
        else:
            self.formatter.emit_list(columns, rows, self.app.stdout, parsed_args)
        return 0


def inspect(text: bytes) -> Row | list[Row]:
    """Return the row of the one message in the text, or those of its lines. Never raises."""
    from consumer.intake.replay_queue import split_documents, unwrap

    documents = split_documents(text)
    if isinstance(documents, bytes):
        return _row(unwrap(documents))
    return [_row(unwrap(line)) for line in documents]


def _row(body: bytes) -> Row:
    match parse(body):
        case Notification() as notification:
            return _relevant(notification)
        case Ignored(event_type, reason, source) | Malformed(reason, event_type, source):
            ids = (None,) * 6
            return (source.value if source else None, event_type, *ids, False, reason)
        case other:
            assert_never(other)


def _relevant(notification: Notification) -> Row:
    return (
        notification.source.value,
        notification.event_type,
        notification.operation.value if notification.operation else None,
        notification.phase.value,
        notification.volume_id,
        notification.instance_id,
        notification.attachment_id,
        notification.request_id,
        True,
        _consequence(notification),
    )


def _consequence_without_operation(notification: Notification) -> str:
    if notification.phase is not Phase.SIGNAL:
        return "an error: detachd finds its operation by the request id"
    if notification.tells_of_deletion:
        return "Cinder has the volume no more: its open cases are diagnosed soon, and close"
    return "a signal: what it may concern is looked at, within a budget"


def _consequence(notification: Notification) -> str:
    """Return what the service does with the notification."""
    if notification.operation is None:
        return _consequence_without_operation(notification)
    if notification.released_unasked:
        return "a reserved row ended without a backend call: opens a case, diagnosed soon"
    match notification.phase:
        case Phase.START:
            return "a start: opens a case that waits for the end"
        case Phase.ERROR:
            return "an error: opens a case, diagnosed soon"
        case Phase.END if notification.attachment_id:
            return "an end: closes the case of the same operation on the same attachment"
        case Phase.END:
            return "an end without an attachment id: the cases of its volume are diagnosed earlier"
        case Phase.SIGNAL:
            raise AssertionError("a signal has no operation")
        case _:
            assert_never(notification.phase)
