"""``detachd pause``, ``resume`` and ``replica list``: for the services that use one ledger."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from consumer.cli.app import stated_reason
from consumer.cli.configured import ConfiguredCommand, add_actor, check_backend, ledger_of
from consumer.cli.records import Listing
from consumer.status.words import printable

if TYPE_CHECKING:
    from consumer.ledger import Ledger
    from consumer.ledger import Pause as PauseRecord


class Pause(ConfiguredCommand):
    """Pause every service on this ledger until `detachd resume`: no more writes to the cloud.

    The pause takes effect before the next write to Cinder, Nova or a backend. A call that is in
    progress continues. The services still receive and store notifications, but work on no case.

    With --backend only the volumes of that backend are left alone, all others go on.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--reason", type=stated_reason, required=True, help="the reason, for the history"
        )
        _add_backend(parser, "pause only this backend")
        add_actor(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Pause."""
        backend = parsed_args.backend
        with ledger_of(parsed_args) as ledger:
            if backend is not None:
                # A pause of a mistyped backend would hold nothing back, and look as if it did.
                check_backend(ledger, backend, parsed_args.config_file)
            # Read before: the ledger keeps the first pause, with the reason of whoever came first.
            before = _own(ledger, backend)
            ledger.pause(parsed_args.actor, parsed_args.reason, backend=backend)
        if before is None:
            self.app.stdout.write(f"paused{_of(backend)}\n")
        else:
            self.app.stdout.write(
                printable(f"already paused by {before.actor}: {before.reason}") + "\n"
            )


class Resume(ConfiguredCommand):
    """End the pause that `detachd pause` began.

    Without --backend it ends the pause of all; backends that were paused alone stay paused.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--reason", default="", help="the reason, for the log of the service")
        _add_backend(parser, "end the pause of this backend")
        add_actor(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Resume."""
        backend = parsed_args.backend
        with ledger_of(parsed_args) as ledger:
            if backend is not None:
                check_backend(ledger, backend, parsed_args.config_file)
            was = _own(ledger, backend)
            ledger.resume(parsed_args.actor, parsed_args.reason, backend=backend)
            # Whoever ends one pause wants to know that another one still holds.
            left = ledger.pauses()
        what = backend or "detachd"
        self.app.stdout.write(f"resumed{_of(backend)}\n" if was else f"{what} was not paused\n")
        self.app.stdout.writelines(
            printable(f"{p.words}; `{p.resume}` ends that") + "\n" for p in left
        )


def _add_backend(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--backend", metavar="HOST@BACKEND", help=text)


def _of(backend: str | None) -> str:
    return f": backend {backend}" if backend else ""


def _own(ledger: Ledger, backend: str | None) -> PauseRecord | None:
    """Return the pause of this backend alone, or that of all, not both."""
    return next((pause for pause in ledger.pauses() if pause.backend == backend), None)


COLUMNS = ("Owner", "Host", "Process", "Version", "Started", "Last heartbeat", "Alive")


class ReplicaList(Listing):
    """List the services that use this ledger, the most recent heartbeat first.

    A service that was stopped is not listed. A service that was killed is listed for a week. Alive
    means a heartbeat within the last minute, by the database's clock.
    """

    nothing = "no services"

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        with ledger_of(parsed_args) as ledger:
            found = ledger.replicas()
        return COLUMNS, [
            (
                seen.replica.owner, seen.replica.host, seen.replica.pid, seen.replica.version,
                seen.started_at.isoformat(), seen.heartbeat_at.isoformat(), seen.alive,
            )
            for seen in found
        ]  # fmt: skip
