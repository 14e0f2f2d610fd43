"""``detachd rule ...``: the decision table, as in docs/rules.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from cliff.command import Command
from cliff.lister import Lister

from handlers.judgement.page import described
from handlers.judgement.rule import Rule
from handlers.judgement.rules import PAGE


class RuleList(Lister):
    """List the rules in their order. The first rule that holds decides."""

    def take_action(
        self,
        parsed_args: argparse.Namespace,  # noqa: ARG002 - cliff's signature
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        """Return a row for each rule."""
        return ("Rule", "Verdict", "Use case", "Reason"), [
            (
                rule.rule_id,
                rule.verdict.value,
                rule.use_case.value if rule.use_case else "-",
                rule.reason,
            )
            for rule in _rules()
        ]


class RuleShow(Command):
    """Show one rule: the situation, its meaning, what detachd does, and the source."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        ids = [rule.rule_id for rule in _rules()]
        parser.add_argument(
            "rule",
            choices=ids,
            metavar="RULE",
            help="the id of the rule, as in `detachd case show`",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print the rule."""
        rule = next(rule for rule in _rules() if rule.rule_id == parsed_args.rule)
        case = f" ({rule.use_case.value})" if rule.use_case else ""
        print(f"{rule.rule_id}: {rule.verdict.value}{case}, {rule.reason}.\n{described(rule)}")


def _rules() -> list[Rule]:
    return [rule for section in PAGE for rule in section.rules]
