"""``detachd host``: a person's word that a compute host is powered off."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from consumer.cli.app import moment_or_seconds
from consumer.cli.configured import ConfiguredCommand, add_word, ledger_of, settings_of
from consumer.cli.records import Listing, add_limit, plain
from consumer.errors import BadInputError
from consumer.status.words import printable

LOOK_SECONDS = 20.0
COLUMNS = ("Host", "Said by", "Said at", "Until", "Reason", "Volumes", "Ended", "Ended by", "Why")


class HostNotOffError(BadInputError):
    """The word cannot be taken; the text says what speaks against it."""


class HostAttest(ConfiguredCommand):
    """Say that a compute host is powered off, so that what waits for it can be released.

    Say it only of a host that has no power: switched off by its management controller, or
    unplugged. Nova cannot tell such a host from one that is only cut off, whose guests run on and
    write. It counts only on backends with `trust_off_word`, only while the backend is seen and
    shows no session of the host, and for this host alone.

    It is refused for a host that nobody knows, and while its nova-compute is up. It ends at
    --until, by `detachd host revoke`, and by itself, with an alert, when the host is heard of
    again.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("host", metavar="HOST", help="the name of the compute host, as Nova knows it")
        add("--off", action="store_true", required=True, help="it is powered off")
        add(
            "--until",
            type=moment_or_seconds,
            required=True,
            metavar="TIME|DURATION",
            help="a time (2026-11-30T08:00, in UTC unless it names a zone), or for how long: 90m, "
            "12h, 3d; 30 days at most",
        )
        add_word(parser, "how you know it, for the history")

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Ask Nova, then write it down. Raises HostNotOffError, WrongStateError."""
        host = parsed_args.host
        # Before the ledger is opened: a host that is up needs no word.
        up = _compute_up(parsed_args)
        with ledger_of(parsed_args) as ledger:
            # A mistyped name would be a word that never counts, and nobody would notice.
            if up is None and not ledger.knows_host(host):
                raise HostNotOffError(
                    f"nobody knows a compute host {host}: Nova has no nova-compute of that name, "
                    "and no notification or connector named it; check the name"
                )
            until, by = parsed_args.until, parsed_args.actor
            word = ledger.attest_off(host, until, by, parsed_args.reason)
        ends = word.until.isoformat(timespec="seconds")
        self.app.stdout.write(f"host {printable(host)} counts as powered off until {ends}\n")


def _compute_up(arguments: argparse.Namespace) -> bool | None:
    """Return what Nova says of its nova-compute: False or None. Raises HostNotOffError."""
    from consumer.cloud import control_plane
    from drivers.errors import OutsideError

    nova = control_plane(settings_of(arguments)).nova
    try:
        up = nova.compute_up(arguments.host, timeout_seconds=LOOK_SECONDS)
    except OutsideError as away:
        raise HostNotOffError(
            f"whether the nova-compute of {arguments.host} is up, Nova did not say: {away}"
        ) from away
    if up:
        raise HostNotOffError(
            f"the nova-compute of {arguments.host} is up, as Nova says: it is not powered off, or "
            "was so less than a minute ago; then wait until Nova says that it is down"
        )
    return up


class HostRevoke(ConfiguredCommand):
    """Take back the word that a host is powered off: from now on nothing rests on it."""

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("host", metavar="HOST", help="the name of the compute host")
        add_word(parser, "the reason, for the history")

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Revoke. Raises NoSuchHostError."""
        with ledger_of(parsed_args) as ledger:
            ledger.revoke_off(parsed_args.host, parsed_args.actor, parsed_args.reason)
        self.app.stdout.write(f"revoked what was said of host {printable(parsed_args.host)}\n")


class HostList(Listing):
    """List what persons said of hosts that are powered off, the newest first, and what ended it."""

    nothing = "no host was said to be off"

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_limit(parser)

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        with ledger_of(parsed_args) as ledger:
            found = ledger.off_words(limit=parsed_args.limit)
        return COLUMNS, [
            tuple(
                plain(value)
                for value in (
                    said.word.host, said.word.said_by, said.word.said_at, said.word.until,
                    said.word.reason, said.volumes, said.ended_at, said.ended_by, said.ended_why,
                )
            )
            for said in found
        ]  # fmt: skip
