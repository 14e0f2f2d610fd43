"""``detachd fence``: the clients that were fenced, and to let one in again."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from consumer.cli.app import positive
from consumer.cli.configured import ConfiguredCommand, add_word, ledger_of, settings_of
from consumer.cli.records import Listing, plain
from consumer.errors import BadInputError
from consumer.status.words import printable

if TYPE_CHECKING:
    from consumer.ledger.periodic.fences import Fence

LIFT_SECONDS = 30.0
COLUMNS = (
    "Fence", "State", "Backend", "Client", "Host", "Volume", "Case", "Fenced", "Renewed", "Until",
    "Ended", "Ended by", "Why", "Trouble",
)  # fmt: skip


class NotLiftedError(BadInputError):
    """The cluster did not let the client in again; the text says why."""


class FenceList(Listing):
    """List the clients that were fenced, the newest first, and how each fence ended.

    `Client` is the full address, by which the cluster knows the fence. `Trouble` says why a fence
    that a person lifts stands still, or one that is to stand does not.
    """

    nothing = "no fences"

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--limit",
            type=positive,
            default=100,
            help="with --all: how many (default: %(default)s)",
        )
        parser.add_argument("--all", action="store_true", help="also those that are over")

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        with ledger_of(parsed_args) as ledger:
            fences = ledger.fences
            every = parsed_args.all
            shown = fences.every(parsed_args.limit) if every else fences.standing()[::-1]
        return COLUMNS, [
            tuple(
                plain(value)
                for value in (
                    f.fence_id, f.state.value, f.backend, f.address, f.host, f.volume_id, f.case_id,
                    f.fenced_at, f.renewed_at, f.until, f.ended_at, f.ended_by, f.ended_why,
                    f.trouble,
                )
            )
            for f in shown
        ]  # fmt: skip


class FenceLift(ConfiguredCommand):
    """Let a fenced client in again, before its time.

    Lift a fence only when the process that was fenced does not run any more: its host was switched
    off or started anew since, or you have ended the process. One that still runs, cut off or
    stopped, writes what it has in hand to the volume, whoever has it by then.

    The cluster is asked as the driver's lift_user, from this machine. detachd renews the fence no
    more from the moment you ask, also where the cluster gives no answer; then ask again.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "fence", type=positive, metavar="FENCE", help="its number in `detachd fence list`"
        )
        add_word(parser, "how you know that it does not run")

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the decision down, then ask the cluster.

        Why it was not lifted is kept for the list. Raises NoSuchFenceError, WrongStateError,
        NotLiftedError.
        """
        by, reason = parsed_args.actor, parsed_args.reason
        with ledger_of(parsed_args) as ledger:
            # Written first: from now on no watch makes the fence again, also where the cluster
            # gives no answer.
            fence = ledger.fences.begin_lift(parsed_args.fence, by, reason)
            try:
                _lift(parsed_args, fence)
            except NotLiftedError as error:
                ledger.fences.note_trouble(fence.fence_id, str(error))
                raise
            ledger.fences.over(fence.fence_id, by, reason)
        self.app.stdout.write(f"lifted the fence of {printable(fence.address)}\n")


def _lift(arguments: argparse.Namespace, fence: Fence) -> None:
    """Have the driver lift it, of the cluster that has it. Raises NotLiftedError."""
    from consumer.cloud import Drivers, control_plane
    from consumer.work.driver_calls import BoundedDrivers
    from drivers.errors import OutsideError

    address = fence.address
    settings = settings_of(arguments)
    drivers = BoundedDrivers(Drivers(settings, control_plane(settings).cinder), settings.backends)
    try:
        left = drivers(fence.backend).lift_fence(address, timeout_seconds=LIFT_SECONDS)
    except OutsideError as error:
        raise NotLiftedError(f"the fence of {address} was not lifted: {error}") from error
    # The options may name another cluster now: there the fence was never, and its absence proves
    # nothing.
    if fence.cluster not in (None, left.cluster):
        raise NotLiftedError(
            f"backend {fence.backend} is cluster {left.cluster} now, and the fence of {address} is "
            f"in cluster {fence.cluster}: remove it there"
        )
    # What the cluster says now counts, not that the command succeeded.
    if address in left.until:
        raise NotLiftedError(f"the cluster still refuses {address}")
