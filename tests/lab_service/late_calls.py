"""Calls of terminate_connection that nobody waits for any more: whose they are, and how they hang.

Cinder gives its RPC up, answers 500, and the driver's call goes on. One that hangs before it acts
takes the access of the host by its name when it ends; one that hangs after it has acted leaves
Cinder's own remove_export to come, which drops the target with everybody's access.

The clean-up of an attach is not among them: Nova makes it twice over, five tries each. Where five
hang the sixth is answered, and Nova itself gives the volume away under the five (made on the lab:
the next guest is refused, which is reported as ``P8.access-lost``).
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from handlers.case import StepResult
from tests.behaviour.ground import State
from tests.lab.openstack import until
from tests.lab_service.lab_site import TRIES
from tests.lab_service.stage import CASE_SECONDS, TERMINATE, Stage
from tests.lab_service.use_cases import DELETE, FREE, unfinished_attach
from tests.services.initiator import Initiator

RPC_TIMEOUTS = 3  # after so many of them the driver's calls end; the late horizon is five


@dataclasses.dataclass(frozen=True, slots=True)
class Late:
    """Whose calls hang: all at once in the end; ``acts``: after they have acted.

    ``first`` is done a few at a time and before all else.
    """

    name: str
    first: Callable[[Stage], None]
    begin: Callable[[Stage, bool], None]
    acts: bool
    ours: bool

    @property
    def hung(self) -> int:
        """How many calls hang."""
        return 1 if self.ours else TRIES


@dataclasses.dataclass(slots=True)
class Hung:
    """What hangs on one volume, and what there was of it at the moment before it was let go."""

    stage: Stage
    late: Late
    timer: threading.Timer | None = None
    held: State | None = None

    def let_go_later(self) -> None:
        """Let the calls go on some RPC timeouts after the last of them began."""
        seconds = RPC_TIMEOUTS * self.stage.site.lab.settings.rpc_seconds
        self.timer = threading.Timer(seconds, self._let_go)
        self.timer.daemon = True
        self.timer.start()

    def _let_go(self) -> None:
        self.held = self.stage.look()
        self.stage.faults.release(self.stage.volume_id)


def all_hang(stage: Stage, late: Late) -> Hung:
    """Wait until every call of them hangs."""
    hanging = stage.faults.hanging
    until(lambda: hanging(stage.volume_id) == late.hung, f"{late.name}: all hang", CASE_SECONDS)
    hung = Hung(stage, late)
    hung.let_go_later()
    return hung


def user_takes_it(stage: Stage) -> Initiator:
    """Attach it on the same host as soon as Cinder calls it available; the new guest writes."""
    until(lambda: stage.look().status == FREE.status, "it is available", CASE_SECONDS)
    servers = stage.site.ground.servers
    assert servers.attach(stage.volume_id, servers.shared(stage.host))
    return stage.log_in(stage.host).logged_in()


def keeps_its_disk(hung: Hung, writer: Initiator) -> None:
    """Fail unless all that hung has ended, and the guest goes on writing all the same.

    Nor may the volume have been anybody's while a call hung.
    """
    stage = hung.stage
    until(lambda: not stage.faults.hanging(stage.volume_id), "nothing hangs any more")
    assert hung.held is not None
    assert hung.held.status != FREE.status
    stage.was_called(TERMINATE, hung.late.hung + 1)
    assert stage.look() == State("in-use", "attached", ("attached",), (stage.host,))
    assert writer.makes_progress()
    assert (writer.running, writer.counts().logins) == (True, 1)
    writer.kill()
    stage.site.cast.detach(stage.volume_id, stage.site.ground.servers.shared(stage.host))


# -- whose calls they are --------------------------------------------------------------------------


def unfinished_with_two_cases(stage: Stage, acts: bool) -> None:
    """Leave a row, by a failed attach and its failed clean-up, each with a case; ours will hang."""
    unfinished_attach(stage, acts=False)

    def due() -> bool:
        at = [c.case.next_attempt_at for c in stage.site.cases(stage.volume_id)]
        return len(at) == 2 and all(a is not None and a <= datetime.now(UTC) for a in at)

    until(due, "both cases are due", CASE_SECONDS)
    stage.hangs(TERMINATE, acts=acts)


def nova_detaches(stage: Stage, acts: bool) -> None:
    """Detach through Nova; each of its tries hangs."""
    stage.hangs(TERMINATE, times=TRIES, acts=acts)
    stage.begin_detach()


def nova_deletes_the_server(stage: Stage, acts: bool) -> None:
    """Delete the server; each of Nova's tries hangs, and Nova deletes it all the same."""
    stage.hangs(TERMINATE, times=TRIES, acts=acts)
    stage.site.ground.servers.begin_delete(stage.server_id)


def nothing(_: Stage) -> None:
    """Do nothing."""


OURS = ("our own call", nothing, unfinished_with_two_cases)
NOVAS: Sequence[tuple[str, Callable[[Stage], None], Callable[[Stage, bool], None]]] = (
    ("Nova's detach", Stage.attach, nova_detaches),
    ("Nova's deletion of the server", Stage.attach, nova_deletes_the_server),
)
LATE_CALLS: Sequence[Late] = tuple(
    Late(f"{name}, {'after' if acts else 'before'} acting", first, begin, acts, begin is OURS[-1])
    for name, first, begin in (OURS, *NOVAS)
    for acts in (False, True)
)


def deletes(stage: Stage) -> list[StepResult | None]:
    """Return how each of our own deletes of the row ended."""
    tried = stage.site.tried(stage.volume_id)
    return [intent.result for intent in tried if intent.kind.value == DELETE]
