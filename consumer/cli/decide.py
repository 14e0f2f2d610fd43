"""``detachd case approve``: a person's yes to the plan that was shown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cliff.command import Command

from consumer.cli.configured import add_actor, add_config_file, ledger_of
from consumer.ledger import CaseRecord, NoSuchCaseError, WrongStateError
from handlers.case import CaseState

SHOWN_CHARACTERS = 16
REFUSED = (NoSuchCaseError, WrongStateError)


class CaseApprove(Command):
    """Approve the plan that you were shown. detachd then carries it out at once.

    Give the fingerprint of that plan, which `detachd case show` and `detachd explain` show. On a
    terminal you may leave it out: then each plan is shown, and you are asked.

    The approval serves this plan on this evidence and no other. It is refused if the plan or the
    evidence is another by now. If either changes before the plan is begun, the case asks again, and
    so it does when the approval is older than approval_valid_seconds.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        self._parser = super().get_parser(prog_name)
        add_cases(self._parser)
        self._parser.add_argument(
            "--plan",
            action="append",
            default=[],
            metavar="FINGERPRINT",
            help=(
                "the fingerprint of the plan that you were shown, or its first 8 characters or "
                "more; once for each case, in the same order"
            ),
        )
        add_word(self._parser)
        return self._parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Approve. Raises NoSuchCaseError, WrongStateError."""
        plans = parsed_args.plan
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

        with ledger_of(parsed_args) as ledger:

            def approve(case_id: str) -> None:
                plan = given.get(case_id) or self._shown(ledger.case(case_id))
                if plan is None:
                    self.app.stdout.write(f"did not approve the plan of case {case_id}\n")
                    return
                approved = ledger.approve(case_id, actor, reason, plan=plan)
                self.app.stdout.write(f"approved the plan of case {approved}\n")

            for_each(parsed_args.ids, approve)

    def _shown(self, record: CaseRecord) -> str | None:
        """Show the plan on the terminal; return its fingerprint if the answer is yes."""
        case = record.case
        if case.state is not CaseState.AWAITING_APPROVAL or case.fingerprint is None:
            raise WrongStateError(
                f"case {case.case_id} is {case.state.value} and has no plan to approve"
            )
        self.app.stdout.write(plan_in_words(record))
        self.app.stdout.write("approve this plan? [yes/no] ")
        self.app.stdout.flush()
        answer = sys.stdin.readline().strip().lower()
        return case.fingerprint if answer == "yes" else None


def on_a_terminal() -> bool:
    """Tell whether a person is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def add_cases(parser: argparse.ArgumentParser) -> None:
    """Add the cases that a decision is about."""
    parser.add_argument("ids", metavar="CASE", nargs="+", help="the id of a case, or its beginning")


def add_word(parser: argparse.ArgumentParser) -> None:
    """Add who decides it and why."""
    parser.add_argument("--reason", required=True, help="the reason, for the history")
    add_actor(parser)
    add_config_file(parser)


def for_each(case_ids: Sequence[str], decide: Callable[[str], None]) -> None:
    """Decide each case, whatever becomes of the others; then raise what was refused.

    Raises WrongStateError with a line for each refusal.
    """
    refused: list[str] = []
    for case_id in case_ids:
        try:
            decide(case_id)
        except REFUSED as error:
            if len(case_ids) == 1:
                raise
            refused.append(str(error))
    if refused:
        raise WrongStateError("\n".join(refused))


def plan_in_words(record: CaseRecord) -> str:
    """Return the plan of a case, and what it rests on, in lines for a terminal."""
    case = record.case
    look = _look_of(record)
    steps = [_step(n, step) for n, step in enumerate(look.get("plan", ()), start=1)]
    lines = [
        f"case {case.case_id}: volume {case.volume_id}, backend {case.backend or 'unknown'}",
        f"rule {case.rule}: {case.reason}",
        *_seen(look),
        f"plan {(case.fingerprint or '')[:SHOWN_CHARACTERS]}:",
        *(steps or ["  (no step is on record)"]),
    ]
    return "\n".join(lines) + "\n"


def _look_of(record: CaseRecord) -> dict[str, Any]:
    """Return the last look that came to the present plan."""
    fingerprint = record.case.fingerprint
    for line in reversed(record.history):
        if line.detail and line.detail.get("fingerprint") == fingerprint:
            return dict(line.detail.get("evidence") or {})
    return {}


def _seen(look: dict[str, Any]) -> list[str]:
    """Return what each side said at that look."""
    cinder, backend = look.get("cinder") or {}, look.get("backend") or {}
    rows = [f"{a['attachment_id']} {a['status']}" for a in cinder.get("attachments", ())]
    status = cinder.get("status") or "unknown"
    return [
        f"Cinder: {status}; attachments: {', '.join(rows) or 'none'}",
        *(f"Nova: server {i}: {_server(answer)}" for i, answer in look.get("nova", {}).items()),
        f"backend: {_backend(backend)}",
    ]


def _server(answer: dict[str, Any]) -> str:
    if "unknown" in answer:
        return f"unknown: {answer['unknown']}"
    if "absent" in answer:
        return "does not exist"
    named = [d["attachment_id"] or "no attachment" for d in answer.get("block_devices", ())]
    devices = f"block devices of {', '.join(named)}" if named else "no block device"
    words: dict[Any, str] = {True: "up", False: "down"}
    up = words.get(answer.get("compute_up"), "not known to be up or down")
    return f"{answer.get('vm_state')} on {answer.get('host')} (compute {up}), {devices}"


def _backend(answer: dict[str, Any]) -> str:
    if "unknown" in answer:
        return f"unknown: {answer['unknown']}"
    if "blind" in answer:
        return f"cannot be seen by {answer['blind']}"
    connections = [
        f"{c['host'] or c['name']} ({'access' if c['access'] else 'no access'}, "
        f"{c['sessions']} sessions)"
        for c in answer.get("connections", ())
    ]
    return ", ".join(connections) or "no host has access or a session"


def _step(number: int, step: dict[str, Any]) -> str:
    about = [f"{name} {step[name]}" for name in ("attachment_id", "host") if step.get(name)]
    return f"  {number}. {step['step']}" + (f" ({', '.join(about)})" if about else "")
