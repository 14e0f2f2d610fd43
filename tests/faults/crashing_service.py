"""`detachd`, but it is killed (kill -9) at one named place, once.

    python -m tests.faults.crashing_service HOP MARKER serve --config-file FILE

MARKER is a file that is made right before; while it exists nothing is killed any more.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alembic.operations import Operations

from consumer.bus.sender import Confirmation, ConfirmedSender
from consumer.bus.subscription import Subscription
from consumer.cli.app import main
from consumer.ledger import Ledger
from consumer.ledger.work.casefile import LedgerCaseFile
from consumer.publish import publisher
from handlers.case import Conclusion, StepKind, StepResult
from handlers.recovery.steps import Calls

OUTBOX_LEASE_SECONDS = 2.0

Sees = Callable[[tuple[Any, ...], Any], bool]
"""Tells from a call's arguments, and what it returned, whether this is the one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hop:
    """A place between two hops: before or after a call of ``owner.method``."""

    owner: type
    method: str
    sees: Sees
    before: bool = False


def _is_given(arguments: tuple[Any, ...], _: Any) -> bool:
    return bool(arguments[1])


def _returns(_: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


def _always(_: tuple[Any, ...], __: Any) -> bool:
    return True


def _fifth(arguments: tuple[Any, ...], _: Any) -> bool:
    return bool(arguments[1] == "quarantine")


def _mends(arguments: tuple[Any, ...], _: Any) -> bool:
    return bool(arguments[2].mended)


def _closes(arguments: tuple[Any, ...], _: Any) -> bool:
    return arguments[2].conclusion is Conclusion.MENDED


def _done(arguments: tuple[Any, ...], _: Any) -> bool:
    return arguments[2] is StepResult.DONE


def _confirmed(_: tuple[Any, ...], result: Any) -> bool:
    return result is Confirmation.CONFIRMED


def _of(kind: StepKind) -> Sees:
    return lambda arguments, _: kind in (arguments[1], getattr(arguments[1], "kind", None))


HOPS: Mapping[str, Hop] = {
    "upgrading": Hop(Operations, "create_table", _fifth),
    "received": Hop(Ledger, "accept", _is_given, before=True),
    "accepted": Hop(Ledger, "accept", _is_given),
    "acked": Hop(Subscription, "ack", _always),
    "put aside": Hop(ConfirmedSender, "send", _confirmed),
    "quarantined": Hop(Ledger, "quarantine", _always),
    "claimed": Hop(Ledger, "claim", _returns),
    "planned": Hop(LedgerCaseFile, "intend", _always, before=True),
    **{f"intended {k.value}": Hop(LedgerCaseFile, "intend", _of(k)) for k in StepKind},
    **{f"looked again {k.value}": Hop(Calls, "make", _of(k), before=True) for k in StepKind},
    **{f"called {k.value}": Hop(Calls, "make", _of(k)) for k in StepKind},
    "result": Hop(LedgerCaseFile, "result", _done),
    "mended": Hop(Ledger, "finish", _mends, before=True),
    "finished": Hop(Ledger, "finish", _mends),
    "settled": Hop(Ledger, "finish", _closes, before=True),
    "taken": Hop(Ledger, "outbox_lease", _returns),
    "confirmed": Hop(ConfirmedSender, "send", _confirmed),
    "sent": Hop(Ledger, "outbox_sent", _always),
}


def arm(hop: Hop, marker: Path) -> None:
    """Put the end in its place."""
    made = getattr(hop.owner, hop.method)

    @functools.wraps(made)
    def watched(*arguments: Any, **named: Any) -> Any:
        if hop.before and hop.sees(arguments, None):
            die(marker)
        result = made(*arguments, **named)
        if not hop.before and hop.sees(arguments, result):
            die(marker)
        return result

    setattr(hop.owner, hop.method, watched)


def die(marker: Path) -> None:
    """End this process as a power cut would, if it is the first time."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # Half a minute by default, which only the tests' patience is too short for.
    publisher._LEASE_SECONDS = OUTBOX_LEASE_SECONDS
    arm(HOPS[sys.argv[1]], Path(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
