"""``detachd case list``: what is stuck, those cases first that wait for a person."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister

from consumer.cli.app import counting, since
from consumer.cli.configured import (
    ConfiguredCommand,
    UnknownFilterError,
    check_backend,
    ledger_of,
)
from consumer.cli.records import add_limit, plain
from consumer.cli.text import lines, width
from consumer.status.rows import grouped, of_cases, of_groups
from handlers.case import OPEN_STATES, Case, CaseState

if TYPE_CHECKING:
    from consumer.ledger import Filter, Ledger, Listing

COLUMNS = (
    "ID", "State", "Operation", "Volume", "Backend", "Use case", "Rule", "Attempts", "Opened",
    "Next attempt", "Server", "Host", "Reason",
)  # fmt: skip
GROUP_COLUMNS = ("Cases", "State", "Rule", "Backend", "Oldest", "Reason", "Example")
MOST_GROUPED = 10_000


class CaseList(ConfiguredCommand, Lister):
    """List the cases: those for a person first, the closed ones last, each kind newest first.

    Ids may be given by their beginning. `-f json` prints every field in full.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_filters(parser)
        add = parser.add_argument
        add("--group", action="store_true", help="count the open cases by state, rule and cause")
        add_limit(parser)
        add("--skip", type=counting, default=0, help="leave out so many first, for paging")

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list. Raises UnknownFilterError for what no case has."""
        self._now = datetime.now(UTC)
        with ledger_of(parsed_args) as ledger:
            self._listing = _read(ledger, parsed_args)
        if parsed_args.group:
            return GROUP_COLUMNS, [tuple(map(plain, g.row())) for g in grouped(self._listing.cases)]
        return COLUMNS, [_row(case) for case in self._listing.cases]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Any]
    ) -> int:
        """Print lines that fit the terminal, unless a format or columns are asked for."""
        if parsed_args.formatter != "table" or parsed_args.columns:
            return int(super().produce_output(parsed_args, column_names, data))
        cases = self._listing.cases
        groups = grouped(cases) if parsed_args.group else []
        listed = of_groups(groups, self._now) if parsed_args.group else of_cases(cases, self._now)
        for line in lines(listed, width()):
            self.app.stdout.write(line + "\n")
        for line in _closing(self._listing, parsed_args):
            # To stderr, so that what a pipe gets is cases only.
            self.app.stderr.write(line + "\n")
        return 0


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose cases."""
    states = [state.value for state in CaseState]
    add = parser.add_argument
    add(
        "--state", choices=states, action="append", default=[],
        help="list only cases in this state; repeatable",
    )  # fmt: skip
    add("--backend", metavar="HOST@BACKEND", help="list only its cases")
    add("--volume", metavar="ID", help="list only cases of this volume")
    add("--server", metavar="ID", help="list only cases of this server")
    add("--host", metavar="HOST", help="list only cases of this compute host")
    add("--rule", metavar="RULE", help="list only cases that this rule decided")
    add("--project", metavar="ID", help="list only cases of this project, by their notifications")
    add(
        "--since", type=since, metavar="TIME",
        help="list only cases opened since then: 90m, 6h, 2d, or a time in ISO 8601",
    )  # fmt: skip


def filter_of(arguments: argparse.Namespace) -> Filter:
    """Return what ``add_filters`` took."""
    from consumer.ledger import Filter

    return Filter(
        states=tuple(CaseState(state) for state in arguments.state),
        backend=arguments.backend,
        volume=arguments.volume,
        server=arguments.server,
        host=arguments.host,
        rule=arguments.rule,
        project=arguments.project,
        since=arguments.since,
    )


def _read(ledger: Ledger, arguments: argparse.Namespace) -> Listing:
    wanted = dataclasses.replace(filter_of(arguments), limit=arguments.limit, skip=arguments.skip)
    if arguments.group:
        states = wanted.states or OPEN_STATES
        # Groups are made of all cases, not of a page.
        wanted = dataclasses.replace(wanted, states=states, limit=MOST_GROUPED, skip=0)
    listing = ledger.list_cases(wanted)
    if not listing.total:
        check_known(ledger, wanted, arguments.config_file)
    return listing


def check_known(ledger: Ledger, wanted: Filter, files: Sequence[Any]) -> None:
    """Raise UnknownFilterError where no case ever had one of the values: a mistyped one."""
    from consumer.ledger import Filter

    if wanted.backend is not None:
        check_backend(ledger, wanted.backend, files)
    for name in ("volume", "server", "host", "rule", "project"):
        value = getattr(wanted, name)
        if value is not None and not ledger.list_cases(Filter(**{name: value}, limit=1)).total:
            raise UnknownFilterError(f"no case on record has the {name} {value}")


def _row(case: Case) -> tuple[Any, ...]:
    return tuple(
        plain(value)
        for value in (
            case.case_id, case.state, case.operation, case.volume_id, case.backend, case.use_case,
            case.rule, case.attempts, case.opened_at, case.next_attempt_at, case.instance_id,
            case.host, case.reason,
        )
    )  # fmt: skip


def _closing(listing: Listing, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield what the list leaves out."""
    shown = len(listing.cases)
    if not listing.total:
        yield "no cases"
    elif shown < listing.total and not arguments.group:
        first = arguments.skip
        more = f"; go on with --skip {first + shown}" if first + shown < listing.total else ""
        yield f"{shown} of {listing.total} shown{more}"
