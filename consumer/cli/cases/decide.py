"""``detachd case approve|close|acknowledge|note``: what a person decides about a case."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consumer.cli.app import moment_or_seconds
from consumer.cli.cases import show
from consumer.cli.configured import ConfiguredCommand, add_word, ledger_of
from consumer.cli.text import width
from consumer.status.one_case import explanation
from handlers.case import ORDERED_OF_PARKED, Action, CaseState

if TYPE_CHECKING:
    from consumer.ledger import CaseRecord

FOR_THE_HISTORY = "the reason, for the history"


class CaseApprove(ConfiguredCommand):
    """Approve the plan that you were shown. detachd then carries it out at once.

    Give the fingerprint of that plan, which `detachd case show` and `detachd explain` show. On a
    terminal you may leave it out: then each plan is shown, and you are asked.

    The approval serves this plan on this evidence and no other. It is refused if the plan or the
    evidence is another by now. If either changes before the plan is begun, the case asks again, and
    so it does when the approval is older than approval_valid_seconds.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        add_cases(parser)
        parser.add_argument(
            "--plan",
            action="append",
            default=[],
            metavar="FINGERPRINT",
            help=(
                "the fingerprint of the plan that you were shown, or its first 8 characters or "
                "more; once for each case, in the same order"
            ),
        )
        parser.add_argument(
            "--action",
            choices=[action.value for action in Action],
            help=(
                "order this instead, where `detachd case show` offers it; --plan is then the "
                "fingerprint of the plan with it. detach: what would be left attached is detached "
                "by Nova. service-token: the call that Cinder's own check refused is made with a "
                "service token, for this case alone"
            ),
        )
        add_word(parser, FOR_THE_HISTORY)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Approve. Raises NoSuchCaseError, WrongStateError."""
        plans = parsed_args.plan
        # An approval without a plan that somebody saw would serve whatever the plan is by then.
        if not plans and not on_a_terminal():
            self._parser.error(
                "this is not a terminal, so nobody can be shown the plan: give --plan FINGERPRINT, "
                "which `detachd case show CASE` shows"
            )
        if plans and len(plans) != len(parsed_args.ids):
            self._parser.error(
                f"{len(parsed_args.ids)} cases, but {len(plans)} plans: give --plan for each case"
            )
        given = dict(zip(parsed_args.ids, plans, strict=False))
        actor, reason = parsed_args.actor, parsed_args.reason
        action = Action(parsed_args.action) if parsed_args.action else None

        with ledger_of(parsed_args) as ledger:

            def approve(case_id: str) -> None:
                plan = given.get(case_id) or self._shown(ledger.case(case_id), action)
                if plan is None:
                    self.app.stdout.write(f"did not approve the plan of case {case_id}\n")
                    return
                approved = ledger.approve(case_id, actor, reason, plan=plan, action=action)
                ordered = f" with {action.value}" if action else ""
                self.app.stdout.write(f"approved the plan of case {approved}{ordered}\n")

            for_each(parsed_args.ids, approve)

    def _shown(self, record: CaseRecord, action: Action | None) -> str | None:
        """Show the plan on the terminal; return its fingerprint if the answer is yes."""
        from consumer.ledger import WrongStateError

        case = record.case
        orders = action in ORDERED_OF_PARKED and case.state is CaseState.PARKED
        asks = case.state is CaseState.AWAITING_APPROVAL and case.fingerprint is not None
        if not orders and not asks:
            raise WrongStateError(
                f"case {case.case_id} is {case.state.value} and has no plan to approve"
            )
        for line in show.text(record, datetime.now(UTC), width()):
            self.app.stdout.write(line + "\n")
        mark = _mark(record, action)
        named = f"the plan with --action {action.value}" if action else "this plan"
        self.app.stdout.write(f"approve {named}? [yes/no] ")
        self.app.stdout.flush()
        answer = sys.stdin.readline().strip().lower()
        # The whole word: Enter, or one key by accident, approves nothing.
        return mark if answer == "yes" else None


def _mark(record: CaseRecord, action: Action | None) -> str | None:
    """Return the fingerprint of what was shown. Raises WrongStateError without such an action."""
    from consumer.ledger import WrongStateError

    if action is None:
        return record.case.fingerprint
    for one in explanation(record).instead:
        if one.action == action.value:
            return one.fingerprint
    raise WrongStateError(f"case {record.case.case_id} offers no --action {action.value}")


def on_a_terminal() -> bool:
    """Tell whether a person is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def add_cases(parser: argparse.ArgumentParser) -> None:
    """Add the cases that a decision is about."""
    parser.add_argument("ids", metavar="CASE", nargs="+", help="the id of a case, or its beginning")


def for_each(case_ids: Sequence[str], decide: Callable[[str], None]) -> None:
    """Decide each case, whatever becomes of the others; then raise what was refused.

    Raises WrongStateError with a line for each refusal.
    """
    from consumer.ledger import NoSuchCaseError, WrongStateError

    refused: list[str] = []
    for case_id in case_ids:
        try:
            decide(case_id)
        except (NoSuchCaseError, WrongStateError) as error:
            # Its own error class says more than a list of one.
            if len(case_ids) == 1:
                raise
            refused.append(str(error))
    if refused:
        raise WrongStateError("\n".join(refused))


class CaseClose(ConfiguredCommand):
    """Close a parked case, or one that awaits approval, without a recovery.

    detachd changes nothing outside. The case hides no later trouble of its volume any more: the
    next notification of trouble, or a sweep that still finds the volume stuck, opens a new case. To
    be left alone with a trouble that stays, use `detachd case acknowledge`.

    It is refused while a worker is at the case, and while what detachd wrote for it may still act.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_cases(parser)
        add_word(parser, FOR_THE_HISTORY)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Close. Raises NoSuchCaseError, WrongStateError."""
        word = (parsed_args.actor, parsed_args.reason)
        with ledger_of(parsed_args) as ledger:
            for_each(parsed_args.ids, lambda case_id: self._say(ledger.close_case(case_id, *word)))

    def _say(self, case_id: str) -> None:
        self.app.stdout.write(f"closed case {case_id}\n")


class CaseAcknowledge(ConfiguredCommand):
    """Say that you know of a parked case, so that gauges and alerts leave it out for a time.

    detachd still looks at it. The acknowledgement ends by itself at that time, and at once when a
    look finds danger or another rule.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_cases(parser)
        when = parser.add_mutually_exclusive_group(required=True)
        when.add_argument(
            "--until",
            type=moment_or_seconds,
            metavar="TIME|DURATION",
            help="a time (2026-11-30T08:00, in UTC unless it names a zone), or for how long: 90m, "
            "12h, 3d",
        )
        when.add_argument("--over", action="store_true", help="end the acknowledgement now")
        add_word(parser, FOR_THE_HISTORY)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Acknowledge. Raises NoSuchCaseError, WrongStateError."""
        word, until = (parsed_args.actor, parsed_args.reason), parsed_args.until

        with ledger_of(parsed_args) as ledger:

            def acknowledge(case_id: str) -> None:
                if parsed_args.over:
                    known = ledger.end_acknowledgement(case_id, *word)
                    self.app.stdout.write(f"case {known} counts again\n")
                    return
                known, at = ledger.acknowledge(case_id, until, *word)
                ends = at.isoformat(timespec="seconds")
                self.app.stdout.write(f"acknowledged case {known} until {ends}\n")

            for_each(parsed_args.ids, acknowledge)


class CaseNote(ConfiguredCommand):
    """Write a line into the history of a case."""

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", metavar="CASE", help="the id of the case, or its beginning")
        add_word(parser, "the text, for the history")

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write it. Raises NoSuchCaseError, WrongStateError."""
        with ledger_of(parsed_args) as ledger:
            case_id = ledger.write_note(parsed_args.id, parsed_args.actor, parsed_args.reason)
        self.app.stdout.write(f"wrote a note on case {case_id}\n")
