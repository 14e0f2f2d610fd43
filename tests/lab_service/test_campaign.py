"""Volumes are attached and detached at once while the backend fails at random.

Four for twenty seconds; eight for as long as DETACHD_CAMPAIGN_SECONDS says. Each has a server and a
real initiator of its own, which writes for as long as Nova says that the volume is attached. Nobody
but its own user's detach may end that, and nobody may stay stuck.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from consumer.ledger import CaseRecord
from handlers.case import CaseState, StepKind
from handlers.intents import REACHES_BACKEND, UNANSWERED
from handlers.judgement.policy import LateAttach
from tests.behaviour.ground import HOSTS, State
from tests.lab.inside.faults import Fault, How, When
from tests.lab.openstack import OpenStack, until
from tests.lab_service.lab_site import Eyes, LabSite, open_lab_site
from tests.lab_service.stage import INITIALIZE, REMOVE, TERMINATE, Stage, can_be_used_again
from tests.services.initiator import Initiator

LONG = float(os.environ.get("DETACHD_CAMPAIGN_SECONDS") or 0)
SECONDS = LONG or 20.0
VOLUMES = 8 if LONG else 4
pytestmark = pytest.mark.timeout(SECONDS + 900)
USED_AT_ONCE = 3
FAULT_EVERY_SECONDS = 2.0
# In the short form nobody waits for the last look at what is well.
OVER = (CaseState.CLOSED,) if LONG else (CaseState.CLOSED, CaseState.SETTLING)
METHODS = (INITIALIZE, INITIALIZE, TERMINATE, TERMINATE, REMOVE)
FREE = State("available", "detached")


@dataclasses.dataclass(slots=True)
class Tally:
    """What the users of one volume lived to see; ``asked_at`` is the last time they attached it."""

    asked_at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    attached: int = 0
    failed: int = 0
    detached: int = 0
    cut: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture(scope="module")
def site(openstack: OpenStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSite]:
    """Serve the lab; what is parked is looked at again within seconds."""
    directory = tmp_path_factory.mktemp("lab-campaign")
    policy = {"parked_look_seconds": 10.0, "late_attach": LateAttach.KEEP}
    with open_lab_site(openstack, directory, Eyes.SEEING, **policy) as site:
        yield site


def test_faults_at_random_leave_nobody_stuck_and_cut_nobody(site: LabSite) -> None:
    """Random faults of the backend, then none -> none was cut, all can be used, no case open.

    When all is well again the reason of each case that was parked has passed.
    """
    seed = int(os.environ.get("DETACHD_CAMPAIGN_SEED") or secrets.randbelow(2**32))
    with contextlib.ExitStack() as lent:
        stages = [_stage(site, lent, HOSTS[n % 2]) for n in range(VOLUMES)]
        try:
            tallies = _live_through(stages, random.Random(seed))
            site.lab.storage_faults.clear()
            _come_to_rest(stages)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    assert [cut for tally in tallies for cut in tally.cut] == [], f"seed {seed}"
    for lived in ("attached", "failed", "detached") if LONG else ("attached", "detached"):
        assert sum(getattr(tally, lived) for tally in tallies) > 0, (lived, seed, tallies)


def _stage(site: LabSite, lent: contextlib.ExitStack, host: str) -> Stage:
    server_id = lent.enter_context(site.cast.server(host))
    return Stage(site, site.ground.volume(), server_id, host)


def _live_through(stages: list[Stage], chance: random.Random) -> list[Tally]:
    """Use the volumes, and let the backend fail, for as long as the campaign lasts."""
    over = threading.Event()
    with ThreadPoolExecutor(len(stages) + 1) as pool:
        users = [pool.submit(_use, stage, over) for stage in stages]
        pool.submit(_strike, stages, chance, over)
        over.wait(SECONDS)
        over.set()
        return [user.result() for user in users]


def _strike(stages: list[Stage], chance: random.Random, over: threading.Event) -> None:
    while not over.wait(FAULT_EVERY_SECONDS * chance.random()):
        stage = chance.choice(stages)
        stage.faults.add(
            Fault(
                chance.choice(METHODS),
                chance.choice((How.RAISE, How.RAISE, How.HANG)),
                chance.choice(tuple(When)),
                times=chance.choice((1, 1, 5)),
                subject=stage.volume_id,
                seconds=chance.uniform(1.0, 12.0),
            )
        )


def _use(stage: Stage, over: threading.Event) -> Tally:
    """Attach, write, detach, again and again, as a user who waits for each to be over."""
    tally = Tally()
    servers = stage.site.ground.servers
    while not over.is_set():
        if stage.look().status == "in-use" and servers.has_device(stage.volume_id, stage.server_id):
            _write_and_detach(stage, tally, over)
        elif servers.is_free(stage.volume_id, stage.server_id):
            _attach(stage, tally)
        else:
            over.wait(0.5)
    return tally


def _attach(stage: Stage, tally: Tally) -> None:
    servers = stage.site.ground.servers
    tally.asked_at = datetime.now(UTC)
    servers.begin_attach(stage.volume_id, stage.server_id)
    until(lambda: _attach_is_over(stage), "Nova has attached it, or given up", 240.0)
    attached = servers.has_device(stage.volume_id, stage.server_id)
    tally.attached, tally.failed = tally.attached + attached, tally.failed + (not attached)


def _attach_is_over(stage: Stage) -> bool:
    servers = stage.site.ground.servers
    if not servers.has_device(stage.volume_id, stage.server_id):
        return True
    holds = stage.server_id in servers.holding(stage.volume_id)
    return holds and stage.look().status == "in-use"


def _write_and_detach(stage: Stage, tally: Tally, over: threading.Event) -> None:
    """Write until the user has had enough; the guest lets go before its host does.

    A detach of the user's, or the clean-up of an attach, that failed after it had acted leaves the
    volume attached without its access; and one of Nova's tries of the detach before, which Cinder
    gave up waiting for, takes the access from what was attached since. Neither is a cut of
    detachd's, unless a call of its own was among them.
    """
    writer = stage.log_in(stage.host)
    if writes := _writes(writer):
        over.wait(3.0)
        writes = writer.makes_progress() and writer.counts().logins == 1
    if not writes and (ended := _ended_by_us(stage, tally.asked_at)):
        tally.cut.append(f"{stage.volume_id}: {ended} and then {writer.said[-500:]}")
    writer.kill()
    _detach(stage)
    tally.detached += stage.site.ground.servers.is_free(stage.volume_id, stage.server_id)


def _detach(stage: Stage) -> None:
    """Ask Nova to detach it, and wait until it is detached, or attached as before.

    Nova refuses it where a late try has put the volume back to attaching, which detachd mends.
    """
    stage.site.ground.servers.is_detach_taken(stage.volume_id, stage.server_id)
    until(lambda: _detach_is_over(stage), "it is detached, or attached as before", 240.0)


def _writes(writer: Initiator) -> bool:
    """Wait for the first write; return False where the backend lets it have no session."""
    until(lambda: writer.counts().writes or not writer.running, "it writes, or is refused", 30.0)
    return writer.counts().writes > 0


def _ended_by_us(stage: Stage, since: datetime) -> list[str]:
    """Return our calls that can have ended the access: since then, or without an answer before."""
    ends = REACHES_BACKEND | {StepKind.NOVA_DETACH}
    tried = (i for i in stage.site.tried(stage.volume_id) if i.kind in ends)
    return [i.kind.value for i in tried if i.intended_at >= since or i.result in UNANSWERED]


def _detach_is_over(stage: Stage) -> bool:
    """Tell whether the volume is at rest.

    In-use it also is for a moment between detachd's two calls for a detach that failed: it takes
    Cinder's `detaching` back, then asks Nova again. Whoever uses it then has it taken away by the
    detach that he has asked for.
    """
    if any(record.case.state is CaseState.DUE for record in stage.site.cases(stage.volume_id)):
        return False
    return stage.look().status in ("available", "in-use")


def _come_to_rest(stages: list[Stage]) -> None:
    """Detach what is attached; each case has to end and each volume to be of use again."""
    servers = stages[0].site.ground.servers
    for stage in stages:
        _ended(stage, lambda stage=stage: _detach_is_over(stage))
        while servers.has_device(stage.volume_id, stage.server_id):
            _detach(stage)
    with ThreadPoolExecutor(USED_AT_ONCE) as pool:
        list(pool.map(_of_use_again, stages))


def _of_use_again(stage: Stage) -> None:
    _ended(stage, lambda: stage.look() == FREE)
    _ended(stage, lambda: not _open(stage))
    assert can_be_used_again(stage) > 0


def _ended(stage: Stage, holds: Callable[[], object]) -> None:
    ends_at = time.monotonic() + 240.0
    while not holds():
        cases = [(c.case.state.value, c.case.rule, c.case.reason) for c in _open(stage)]
        assert time.monotonic() < ends_at, (stage.look(), cases)
        time.sleep(0.5)


def _open(stage: Stage) -> list[CaseRecord]:
    return [c for c in stage.site.cases(stage.volume_id) if c.case.state not in OVER]
