"""``detachd explain``: what the service would see, mean and do now; it changes nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from consumer.cli.cloud import explained
from consumer.cli.configured import ConfiguredCommand, settings_of
from consumer.cli.text import abbreviated, width, wrapped
from consumer.status.words import harmless, printable
from handlers.recovery.explanation import Outlook, explain

if TYPE_CHECKING:
    from consumer.cli.cloud.live import Looked

# 0 to 2 are taken: done, failed, bad input.
EXIT = {Outlook.NOTHING: 0, Outlook.ACT: 3, Outlook.PERSON: 4, Outlook.WAIT: 5}
# A person before all: a script must not overlook it among many volumes.
WORST_FIRST = (Outlook.PERSON, Outlook.WAIT, Outlook.ACT, Outlook.NOTHING)
COMES_TO = {
    Outlook.NOTHING: "nothing to do",
    Outlook.ACT: "detachd would act on this",
    Outlook.PERSON: "this needs a person",
    Outlook.WAIT: "detachd would wait and look again",
}


class Explain(ConfiguredCommand):
    """Look now at a volume, a case or each volume of a server, and say what it means.

    Makes the calls that the service makes to look, and no other: nothing is changed, in the cloud
    or in the ledger. A volume needs no case. The exit code tells what it comes to: 0 nothing to do,
    3 detachd would act, 4 a person is needed, 5 it waits or a source gave no answer; of several
    looks the first of 4, 5, 3, 0. 1 is a failure, 2 bad input.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "id",
            metavar="VOLUME|CASE|SERVER",
            help="the full id of a volume or server, or the id of a case or its beginning",
        )
        parser.add_argument(
            "-f", "--format", choices=["text", "json"], default="text", help="default: text"
        )
        parser.add_argument("--all", action="store_true", help="show every guard, and ids in full")

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Look, print, and return the exit code.

        Blocks for the looks. Raises ConfigurationError, NoSuchCaseError, LedgerError for a case
        when the ledger is away, and OutsideError where a server's volumes cannot be listed.
        """
        from consumer.cli.cloud.live import live_looks, looks_at

        settings = settings_of(parsed_args)
        with live_looks(settings) as live:
            looks = tuple(looks_at(live, parsed_args.id))
            away = live.away
        if parsed_args.format == "json":
            self.app.stdout.write(json.dumps(_plain(parsed_args.id, looks, away), indent=2) + "\n")
        else:
            shown = _text(looks, datetime.now(UTC), width(), every=parsed_args.all)
            self.app.stdout.write("".join(f"{printable(line)}\n" for line in shown))
        return EXIT[_worst(looks)]


def _worst(looks: tuple[Looked, ...]) -> Outlook:
    found = {looked.told.outlook for looked in looks}
    return next((one for one in WORST_FIRST if one in found), Outlook.NOTHING)


def _plain(wanted: str, looks: tuple[Looked, ...], away: str | None) -> dict[str, Any]:
    return {
        "asked": wanted,
        "outlook": _worst(looks).value,
        "ledger_away": away,
        "looks": [
            {
                "volume_id": looked.case.volume_id,
                "attachment_id": looked.case.attachment_id,
                "case_id": looked.case.case_id or None,
                "operation": looked.case.operation.value,
                "looked_at_as": looked.why,
                "explanation": looked.told.plain(),
            }
            for looked in looks
        ],
    }


def _text(looks: tuple[Looked, ...], now: datetime, columns: int, *, every: bool) -> Iterator[str]:
    if not looks:
        yield "the server has no volume, by Cinder and by Nova"
    for number, looked in enumerate(looks):
        if number:
            yield ""
            yield "-" * columns
        yield from text(looked, now, columns, every=every)


def text(looked: Looked, now: datetime, columns: int, *, every: bool = False) -> Iterator[str]:
    """Yield one look for a person."""
    case = looked.case
    ids = () if every else (case.volume_id, case.attachment_id, case.instance_id)
    look = abbreviated(harmless(looked.look), ids)
    about = looked.about
    # They quote a database's error and a person's reason.
    away, paused = (printable(t) if t else None for t in (about.ledger_away, about.paused))
    told = explain(look, dataclasses.replace(about, ledger_away=away, paused=paused))
    yield f"Volume {case.volume_id}: {COMES_TO[told.outlook]}"
    yield from wrapped("", _why(looked), columns, 0)
    yield f"{'attachment':<11}{case.attachment_id or 'none'}"
    yield f"{'server':<11}{case.instance_id or 'not known'}"
    yield ""
    yield from explained.lines(told, now, columns, every=every)


def _why(looked: Looked) -> str:
    case = looked.case
    if not case.case_id:
        return looked.why
    return f"looked at as case {case.case_id} ({case.state.value}, {case.operation.value})"
