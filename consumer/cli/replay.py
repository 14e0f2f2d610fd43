"""``detachd replay ...``: replay a case or notifications."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence

from cliff.command import Command

from consumer.bus.broker import url_explained
from consumer.bus.sender import NotConfirmedError
from consumer.cli.configured import add_actor, add_config_file, settings_of
from consumer.intake.replay_queue import (
    CaseOrder,
    NotReplayableError,
    Refused,
    ReplaySender,
    ReplaySettings,
    Requester,
    body_of,
    order_of,
    read_input,
    split_documents,
    unwrap,
)
from consumer.ledger import LedgerError, NoSuchCaseError
from consumer.settings.configuration import Settings
from consumer.settings.ledger import open_ledger


class ReplayCase(Command):
    """Replay cases: detachd diagnoses each of them at once, whatever its state is.

    A case that is closed, parked or awaits approval starts again, and passes the same diagnosis and
    guards as any other case. The order waits on a durable queue until detachd consumes it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "ids", metavar="ID", nargs="+", help="the id of a case, or its beginning"
        )
        parser.add_argument("--reason", required=True, help="the reason, for the history")
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Send the orders. Raises NoSuchCaseError with nothing sent, NotConfirmedError."""
        settings = settings_of(parsed_args)
        requester = Requester(parsed_args.actor, parsed_args.reason)
        ids = self._full(settings, parsed_args.ids)
        orders = [body_of(CaseOrder(case_id, requester.actor, requester.reason)) for case_id in ids]
        for case_id, _ in zip(ids, sending(settings, orders, requester), strict=True):
            self.app.stdout.write(f"queued case {case_id} for replay\n")

    def _full(self, settings: Settings, ids: Sequence[str]) -> list[str]:
        """Return the full ids, each once; unchanged if the ledger is not available."""
        try:
            with contextlib.closing(open_ledger(settings.cloud, settings.ledger)) as ledger:
                ledger.check_schema()
                found = [ledger.case(case_id).case.case_id for case_id in ids]
        except NoSuchCaseError:
            raise
        except LedgerError as error:
            self.app.stderr.write(f"detachd: the ids are queued unchecked: {error}\n")
            found = list(ids)
        return list(dict.fromkeys(found))


class ReplayFile(Command):
    """Replay recorded notifications: detachd diagnoses the volume of each of them at once.

    The input is the same as for `detachd notification inspect`: one message, or JSON lines.
    Messages that concern no attachment are skipped. If one message cannot be read, none is sent.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="PATH", help="a file, or - for standard input")
        parser.add_argument(
            "--reason", default="replayed from a file", help="the reason (default: %(default)s)"
        )
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Send them. Raises UnreadableInputError, NotReplayableError, NotConfirmedError."""
        settings = settings_of(parsed_args)
        requester = Requester(parsed_args.actor, parsed_args.reason)
        found = replayable(read_input(parsed_args.file))
        for _ in sending(settings, found, requester):
            pass
        self.app.stdout.write(f"queued for replay: {len(found)}\n")


def replayable(text: bytes) -> list[bytes]:
    """Return the bodies in a text that can be replayed. Raises NotReplayableError."""
    split = split_documents(text)
    documents = [split] if isinstance(split, bytes) else split
    found = [unwrap(document) for document in documents]
    orders = [order_of(body) for body in found]
    refused = {n: order for n, order in enumerate(orders) if isinstance(order, Refused)}
    if broken := [f"message {n + 1}: {o.reason}" for n, o in refused.items() if not o.irrelevant]:
        raise NotReplayableError("\n".join([*broken, "nothing was sent"]))
    if len(refused) == len(found):
        why = "; ".join(sorted({o.reason for o in refused.values()})) or "the input is empty"
        raise NotReplayableError(f"there is nothing to replay: {why}")
    return [body for n, body in enumerate(found) if n not in refused]


def sending(settings: Settings, found: Sequence[bytes], requester: Requester) -> Iterator[None]:
    """Send the bodies one by one; yield after each confirm of the broker.

    Raises NotConfirmedError that says how many were sent, and ConfigurationError.
    """
    with url_explained():
        replay = ReplaySettings.from_conf(settings.conf)
    with ReplaySender(replay) as sender:
        for number, body in enumerate(found):
            try:
                sender.send(body, requester)
            except NotConfirmedError as error:
                raise NotConfirmedError(
                    f"{number} of {len(found)} were sent; you can send the others again"
                ) from error
            yield
