"""``detachd quarantine ...``: list, show, replay and discard quarantined messages."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn
from cliff.command import Command
from cliff.show import ShowOne

from consumer.body_state import BodyState
from consumer.cli.app import DONE, FAILED, stated_reason
from consumer.cli.configured import (
    ConfiguredCommand,
    add_actor,
    add_word,
    ledger_of,
    settings_of,
)
from consumer.cli.records import Listing, add_limit, as_dict, plain

if TYPE_CHECKING:
    from consumer.intake.deciding import Decided, Quarantines
    from consumer.ledger import QuarantinedBody

LIST_COLUMNS = (
    "Hash", "State", "Reason", "Bus", "Routing key", "Size", "Times", "First seen", "Last seen",
)  # fmt: skip
SHORT = 12


class Hash(FormattableColumn[str]):
    """A hash: shortened in a table, complete in JSON."""

    def human_readable(self) -> str:
        """Return its beginning."""
        return self._value[:SHORT]

    def machine_readable(self) -> str:
        """Return it."""
        return self._value


class QuarantineList(Listing):
    """List the messages in quarantine, the most recent first."""

    nothing = "no messages in quarantine"

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        states = [state.value for state in BodyState]
        parser.add_argument("--state", choices=states, help="list only messages in this state")
        add_limit(parser)

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        state = BodyState(parsed_args.state) if parsed_args.state else None
        with ledger_of(parsed_args) as ledger:
            found = ledger.quarantined(state=state, limit=parsed_args.limit)
        return LIST_COLUMNS, [_row(body) for body in found]


class QuarantineShow(ConfiguredCommand, ShowOne):
    """Show one message: its origin, why it is held, its text without secrets, and the decision."""

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("hash", metavar="HASH", help="the hash, or its beginning")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Read it. Raises NoSuchBodyError."""
        with ledger_of(parsed_args) as ledger:
            fields = as_dict(ledger.quarantined_body(parsed_args.hash))
        return tuple(fields), tuple(plain(value) for value in fields.values())


class QuarantineReplay(ConfiguredCommand):
    """Replay messages from quarantine, after you removed the cause of the problem.

    Each message is first put on the replay queue and then removed from quarantine. A message that
    still cannot be read returns to quarantine.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "hash", metavar="HASH", nargs="*", default=[], help="a hash, or its beginning"
        )
        which.add_argument("--all", action="store_true", help="all messages in state held")
        parser.add_argument(
            "--reason",
            type=stated_reason,
            default="replayed from quarantine",
            help="the reason (default: %(default)s)",
        )
        add_actor(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Replay them; return 1 if a given one is missing or a queue could not be searched."""
        from consumer.intake.deciding import replay_bodies
        from consumer.intake.replay_queue import Requester

        requester = Requester(parsed_args.actor, parsed_args.reason)
        with ledger_of(parsed_args) as ledger:
            # All are looked up first: with one unknown hash nothing is replayed.
            bodies = [ledger.quarantined_body(text) for text in parsed_args.hash]
            chosen = None if parsed_args.all else bodies
            decided = replay_bodies(ledger, _quarantines(parsed_args), chosen, requester)
        _print_done(self, decided, "replayed")
        _print_problems(self, decided, "it cannot be replayed")
        # With --all, what is gone by now was replayed or discarded by somebody else.
        incomplete = decided.missing and not parsed_args.all
        return FAILED if incomplete or decided.unreached else DONE


class QuarantineDiscard(ConfiguredCommand):
    """Delete messages from quarantine. Their hash, the reason and the actor stay recorded."""

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("hash", metavar="HASH", nargs="+", help="a hash, or its beginning")
        add_word(parser, "the reason, for the record")

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Discard them; return 1 if a queue could not be searched. Raises NoSuchBodyError."""
        from consumer.intake.deciding import discard_bodies
        from consumer.intake.replay_queue import Requester

        requester = Requester(parsed_args.actor, parsed_args.reason)
        with ledger_of(parsed_args) as ledger:
            bodies = [ledger.quarantined_body(text) for text in parsed_args.hash]
            decided = discard_bodies(ledger, _quarantines(parsed_args), bodies, requester)
        _print_done(self, decided, "discarded")
        _print_problems(self, decided, "it is recorded as discarded")
        return FAILED if decided.unreached else DONE


def _quarantines(arguments: argparse.Namespace) -> Quarantines:
    from consumer.settings import buses

    return buses.quarantines(settings_of(arguments).conf)


def _row(body: QuarantinedBody) -> tuple[Any, ...]:
    values = (
        body.state, body.reason, body.bus, body.routing_key, body.size, body.times, body.first_at,
        body.last_at,
    )  # fmt: skip
    return (Hash(body.body_sha256), *(plain(value) for value in values))


def _print_done(command: Command, decided: Decided, done: str) -> None:
    for body_sha256, number in decided.copies.items():
        copies = f" ({number} copies)" if number > 1 else ""
        command.app.stdout.write(f"{done} {body_sha256[:SHORT]}{copies}\n")


def _print_problems(command: Command, decided: Decided, so: str) -> None:
    for body_sha256 in decided.missing:
        command.app.stderr.write(
            f"detachd: {body_sha256[:SHORT]}: the message is no longer in the quarantine queue: "
            f"the broker dropped it when the queue was full, or another client took it; {so}\n"
        )
    for bus, reason in decided.unreached.items():
        command.app.stderr.write(
            f"detachd: the quarantine queue of bus {bus} could not be searched: {reason}\n"
        )
    for body_sha256 in decided.arrived_again:
        command.app.stderr.write(
            f"detachd: {body_sha256[:SHORT]} arrived again meanwhile and is held again\n"
        )
