"""``detachd replay case``: cases by id or by filter, tried without effect, few first, at a rate."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Collection, Generator, Sequence
from typing import TYPE_CHECKING

from consumer.cli.app import DONE, FAILED, MOST, positive, stated_reason
from consumer.cli.cases.listing import add_filters, check_known, filter_of
from consumer.cli.cases.ramp import Ramp, Replaying, StoppedError
from consumer.cli.configured import ConfiguredCommand, add_actor, settings_of
from consumer.errors import BadInputError
from consumer.status.words import printable
from handlers.case import FOR_A_PERSON

if TYPE_CHECKING:
    from consumer.cli.cloud.live import Looked
    from consumer.ledger import Ledger
    from consumer.settings.configuration import Settings
    from handlers.case import Case

SHOWN_ID = 8


class ReplayCase(ConfiguredCommand):
    """Replay cases: detachd diagnoses each of them at once, whatever its state is.

    The cases are named by id, or chosen by filters, which without --state choose among those that
    are parked or await approval. A case that is closed, parked or awaits
    approval starts again, and passes the same diagnosis and guards as any other case. The order
    waits on a durable queue until detachd consumes it.

    With --preview nothing is replayed: each case is looked at now, and what would come out is
    shown. With --canary so many are replayed first; if one of them is parked again, the others are
    not. Exit status 1 says that it stopped.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "ids", metavar="ID", nargs="*", help="the id of a case, or its beginning"
        )
        add_filters(parser)
        add = parser.add_argument
        add(
            "--reason",
            type=stated_reason,
            help="the reason, for the history; required, but for a preview",
        )
        add("--preview", action="store_true", help="look at each now, and replay none")
        add("--canary", type=positive, default=0, metavar="N", help="replay so many first")
        add("--rate", type=positive, metavar="N", help="replay the others at so many a minute")
        add(
            "--stop-after", type=positive, metavar="N",
            help="stop when so many of them are parked again",
        )  # fmt: skip
        add_actor(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Replay. Raises NoSuchCaseError with nothing sent, NotConfirmedError, BadInputError."""
        from consumer.settings.ledger import open_ledger

        _check(parsed_args)
        settings = settings_of(parsed_args)
        if parsed_args.preview:
            return self._preview(settings, parsed_args)
        ramp = Ramp(parsed_args.canary, parsed_args.rate, parsed_args.stop_after)
        with contextlib.closing(open_ledger(settings.cloud, settings.ledger)) as ledger:
            # The way that needs no ledger: an order for a case is a message.
            if parsed_args.ids and not ramp.watches and parsed_args.rate is None:
                return self._by_id(settings, ledger, parsed_args)
            cases = _chosen(ledger, parsed_args)
            return self._ramped(settings, ledger, cases, parsed_args, ramp)

    def _by_id(self, settings: Settings, ledger: Ledger, arguments: argparse.Namespace) -> int:
        """Send the orders at once; the ids unchecked if the ledger is not available."""
        ids = self._full(ledger, arguments.ids)
        for case_id, _ in zip(ids, _orders(settings, arguments, ids), strict=True):
            self.app.stdout.write(f"queued case {case_id} for replay\n")
        return DONE

    def _full(self, ledger: Ledger, ids: Sequence[str]) -> list[str]:
        from consumer.ledger import LedgerError, NoSuchCaseError

        try:
            ledger.check_schema()
            found = [ledger.case(case_id).case.case_id for case_id in ids]
        except NoSuchCaseError:
            raise
        except LedgerError as error:
            self.app.stderr.write(f"detachd: the ids are queued unchecked: {error}\n")
            found = list(ids)
        return list(dict.fromkeys(found))

    def _ramped(
        self,
        settings: Settings,
        ledger: Ledger,
        cases: Sequence[Case],
        arguments: argparse.Namespace,
        ramp: Ramp,
    ) -> int:
        with contextlib.closing(_orders(settings, arguments, [c.case_id for c in cases])) as orders:

            def queue(case: Case) -> None:
                next(orders)
                self.app.stdout.write(f"queued case {case.case_id} for replay\n")
                self.app.stdout.flush()

            replaying = Replaying(ramp, queue, _reader(ledger), self._tell)
            try:
                replaying.run(cases)
            except StoppedError as stopped:
                self._tell(f"stopped: {stopped}")
                return FAILED
        self._tell(f"{len(cases)} cases were queued")
        return DONE

    def _tell(self, text: str) -> None:
        self.app.stderr.write(f"{text}\n")

    def _preview(self, settings: Settings, arguments: argparse.Namespace) -> int:
        from consumer.cli.cloud.live import live_looks

        with live_looks(settings) as live:
            if live.ledger is None:
                raise BadInputError(f"the cases cannot be read: {live.away}")
            cases = _chosen(live.ledger, arguments)
            counted: dict[str, int] = {}
            for case in cases:
                looked = live.case(case.case_id, case.volume_id)
                outlook = looked.told.outlook.value
                counted[outlook] = counted.get(outlook, 0) + 1
                self.app.stdout.write(printable(_in_short(case, looked)) + "\n")
        summary = ", ".join(f"{number} {words}" for words, number in sorted(counted.items()))
        self._tell(f"{len(cases)} cases looked at, nothing replayed: {summary or 'none'}")
        return DONE


def _check(arguments: argparse.Namespace) -> None:
    from consumer.ledger import Filter

    # Compared as a whole, so that a filter that is added later is not forgotten here.
    chosen = filter_of(arguments) != Filter()
    if bool(arguments.ids) == chosen:
        raise BadInputError("name cases by their ids, or choose them by filters such as --state")
    if not arguments.preview and not arguments.reason:
        raise BadInputError("give --reason: it is kept in the history of each case")


def _chosen(ledger: Ledger, arguments: argparse.Namespace) -> Sequence[Case]:
    """Return the cases. Raises NoSuchCaseError, UnknownFilterError, LedgerError."""
    ledger.check_schema()
    if arguments.ids:
        found = (ledger.case(case_id).case for case_id in arguments.ids)
        return list({case.case_id: case for case in found}.values())
    wanted = filter_of(arguments)
    # Without a state, no closed case: there may be thousands, and nothing is wrong with them.
    wanted = dataclasses.replace(wanted, states=wanted.states or FOR_A_PERSON, limit=MOST)
    listing = ledger.list_cases(wanted)
    if not listing.total:
        check_known(ledger, wanted, arguments.config_file)
    return listing.cases


def _orders(
    settings: Settings, arguments: argparse.Namespace, ids: Sequence[str]
) -> Generator[None]:
    """Send the order for one case after the other; yield when the broker has confirmed one.

    Raises NotConfirmedError that says how many were sent, and ConfigurationError.
    """
    from consumer.cli.messages.sending import sending
    from consumer.intake.replay_queue import CaseOrder, Requester, body_of

    requester = Requester(arguments.actor, arguments.reason)
    orders = [body_of(CaseOrder(one, requester.actor, requester.reason)) for one in ids]
    return sending(settings, orders, requester)


def _reader(ledger: Ledger) -> Callable[[Collection[str]], Sequence[Case]]:
    def read(ids: Collection[str]) -> Sequence[Case]:
        return [ledger.case(case_id).case for case_id in ids]

    return read


def _in_short(case: Case, looked: Looked) -> str:
    """Return what a look would come to, beside what the case came to last, on one line."""
    told = looked.told
    moved = told.rule if case.rule == told.rule else f"{case.rule or 'no rule'} -> {told.rule}"
    calls = ", ".join(call.step for call in told.plan)
    plan = f": {calls}" if calls else ""
    return (
        f"{case.case_id[:SHOWN_ID]}  {case.state.value:<9}  {told.outlook.value:<14}  {moved}{plan}"
    )
