"""``detachd stuck``: what is in transition in Cinder now, whether or not it has a case."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from consumer.cli.configured import ConfiguredCommand, add_format, settings_of
from consumer.cli.text import lines, width
from consumer.status.words import ABBREVIATED
from handlers.case import OPEN_STATES, Case

if TYPE_CHECKING:
    from consumer.periodic.sweep import Pages
    from consumer.settings.configuration import Settings
    from drivers.control_plane import Cinder, ListedAttachment, ListedVolume

MOST_CASES = 10_000
FOUND, NOTHING = 3, 0


@dataclasses.dataclass(frozen=True, slots=True)
class InTransition:
    """A volume that Cinder shows in transition, or that has an attachment in one."""

    volume_id: str
    status: str | None
    since: datetime | None
    backend: str | None
    attachments: tuple[tuple[str, str | None], ...]
    case: Case | None = None


class Stuck(ConfiguredCommand):
    """List what is in transition in Cinder now: a live look that changes nothing.

    Much of it is no trouble: an attach that is under way, or a shelved server's reservation.
    `detachd explain VOLUME` says what one of them means. The exit status is 3 if there is any, else
    0.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_format(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Ask Cinder, and print. Raises OutsideError if a list cannot be read."""
        from consumer.cloud import control_plane
        from consumer.periodic.sweep import Pages

        settings = settings_of(parsed_args)
        sweep = settings.sweep
        pages = Pages(sweep.page_size, sweep.timeout_seconds)
        found = in_transition(control_plane(settings).cinder, pages)
        cases, away = _cases(settings)
        known = [dataclasses.replace(one, case=cases.get(one.volume_id)) for one in found]
        if parsed_args.format == "json":
            self.app.stdout.write(json.dumps([_plain(one) for one in known], indent=2) + "\n")
        else:
            listed = lines(map(_cells, known), width())
            self.app.stdout.writelines(line + "\n" for line in listed)
            self.app.stderr.write(_closing(known, away))
        return FOUND if known else NOTHING


def in_transition(cinder: Cinder, pages: Pages) -> list[InTransition]:
    """Return the volumes, the longest unchanged first. Blocks for Cinder, page by page."""
    from consumer.periodic.sweep import attachments_in_transition, volumes_in_transition

    volumes = {one.volume_id: one for one in volumes_in_transition(cinder, pages)}
    rows: dict[str, list[ListedAttachment]] = {}
    for row in attachments_in_transition(cinder, pages):
        rows.setdefault(row.volume_id, []).append(row)
    found = (_made(i, volumes.get(i), rows.get(i, ())) for i in dict.fromkeys((*volumes, *rows)))
    # What has only rows in transition has no time, and comes last.
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda one: (one.since or latest, one.volume_id))


def _made(
    volume_id: str, volume: ListedVolume | None, rows: Iterable[ListedAttachment]
) -> InTransition:
    return InTransition(
        volume_id=volume_id,
        status=volume.status if volume else None,
        since=_moment(volume.updated_at) if volume else None,
        backend=volume.backend if volume else None,
        attachments=tuple(
            (row.status, row.instance_id)
            for row in sorted(rows, key=lambda row: (row.status, row.instance_id or ""))
        ),
    )


def _moment(text: str | None) -> datetime | None:
    """Return Cinder's time, which is UTC without saying so."""
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None
    return None


def _cases(settings: Settings) -> tuple[Mapping[str, Case], str | None]:
    """Return the open cases by volume, or why they are not known."""
    from consumer.ledger import Filter, LedgerError
    from consumer.settings.ledger import open_ledger

    try:
        with contextlib.closing(open_ledger(settings.cloud, settings.ledger)) as ledger:
            ledger.check_schema()
            listing = ledger.list_cases(Filter(states=OPEN_STATES, limit=MOST_CASES))
    except LedgerError as error:
        # Cinder's answer is worth showing without the ledger.
        return {}, str(error)
    # Reversed: of several cases of a volume the first of the list counts, which is the one for a
    # person.
    return {case.volume_id: case for case in reversed(listing.cases)}, None


def _cells(one: InTransition) -> Mapping[str, str]:
    servers = [server[:ABBREVIATED] for _, server in one.attachments if server]
    rows = ", ".join(status for status, _ in one.attachments)
    return {
        "VOLUME": one.volume_id,
        "STATUS": one.status or "-",
        "CHANGED": one.since.strftime("%m-%d %H:%M") if one.since else "-",
        "CASE": one.case.case_id[:ABBREVIATED] if one.case else "-",
        "REASON": f"attachments: {rows or 'none in transition'}"
        + (f"; servers {', '.join(servers)}" if servers else ""),
    }


def _plain(one: InTransition) -> dict[str, Any]:
    return {
        "volume_id": one.volume_id,
        "status": one.status,
        "changed_at": one.since and one.since.isoformat(),
        "backend": one.backend,
        "attachments": [{"status": s, "instance_id": i} for s, i in one.attachments],
        "case_id": one.case.case_id if one.case else None,
        "case_state": one.case.state.value if one.case else None,
    }


def _closing(known: Sequence[InTransition], away: str | None) -> str:
    if away is not None:
        return f"whether they have a case is not known: {away}\n"
    if not known:
        return "nothing is in transition\n"
    without = sum(one.case is None for one in known)
    return f"{len(known)} in transition, {without} of them without a case\n"
