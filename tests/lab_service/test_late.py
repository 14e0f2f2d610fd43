"""A terminate_connection that hangs acts late, on a real Cinder, Nova and tgtd.

As soon as Cinder calls the volume available a user attaches it to another server on the same host,
and that guest writes. Only then the call that hung acts: it takes the access of the host by its
name. The guest must go on writing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import pytest

from handlers.case import StepResult
from tests.behaviour.ground import State
from tests.lab.openstack import until
from tests.lab_service.lab_site import TRIES, Eyes, LabSite
from tests.lab_service.playing import HOST
from tests.lab_service.stage import CASE_SECONDS, TERMINATE, Stage
from tests.lab_service.use_cases import DELETE, FREE, unfinished_attach
from tests.services.initiator import Initiator

pytestmark = pytest.mark.timeout(600)
EYES = Eyes.SEEING
RPC_TIMEOUTS = 3  # after so many of them the driver's call ends; the late horizon is five


@contextmanager
def on_stage(site: LabSite) -> Iterator[Stage]:
    """Have a volume, and a server of its own."""
    with site.cast.server(HOST) as server_id:
        yield Stage(site, site.ground.volume(), server_id, HOST)


@contextmanager
def acting_late(stage: Stage) -> Iterator[None]:
    """Let what hangs go on some RPC timeouts after the last of it began."""
    seconds = RPC_TIMEOUTS * stage.site.lab.settings.rpc_seconds
    timer = threading.Timer(seconds, stage.faults.release, [stage.volume_id])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def both_are_due(stage: Stage) -> None:
    """Wait until the failed attach and its clean-up each have a case that is due."""

    def due() -> bool:
        at = [c.case.next_attempt_at for c in stage.site.cases(stage.volume_id)]
        return len(at) == 2 and all(a is not None and a <= datetime.now(UTC) for a in at)

    until(due, "both cases are due", CASE_SECONDS)


def user_takes_it(stage: Stage) -> Initiator:
    """Attach it on the same host as soon as Cinder calls it available; the new guest writes."""
    until(lambda: stage.look().status == FREE.status, "it is available", CASE_SECONDS)
    servers = stage.site.ground.servers
    assert servers.attach(stage.volume_id, servers.shared(stage.host))
    return stage.log_in(stage.host).logged_in()


def keeps_its_disk(stage: Stage, writer: Initiator, hung: int) -> None:
    """Fail unless every call that hung has acted, and the guest goes on writing all the same."""
    until(lambda: not stage.faults.hanging(stage.volume_id), "nothing hangs any more")
    stage.was_called(TERMINATE, hung)
    assert stage.look() == State("in-use", "attached", ("attached",), (stage.host,))
    assert writer.makes_progress()
    assert (writer.running, writer.counts().logins) == (True, 1)
    writer.kill()
    stage.site.cast.detach(stage.volume_id, stage.site.ground.servers.shared(stage.host))


def test_our_own_call_for_one_case_holds_up_the_other(site: LabSite) -> None:
    """The attach case's delete hangs, the detach case is due -> neither gives the volume away."""
    with on_stage(site) as stage:
        with site.paused():
            unfinished_attach(stage, acts=False)
            both_are_due(stage)
            before = stage.calls_ended(TERMINATE)
            stage.hangs(TERMINATE)
        until(lambda: stage.faults.hanging(stage.volume_id), "our call hangs", CASE_SECONDS)
        with acting_late(stage):
            writer = user_takes_it(stage)
            keeps_its_disk(stage, writer, before + 2)
        deletes = [i.result for i in site.tried(stage.volume_id) if i.kind.value == DELETE]
        assert deletes == [StepResult.INDETERMINATE, StepResult.DONE]


def test_nova_s_own_tries_hold_up_its_detach(site: LabSite) -> None:
    """Nova's five tries hang -> detachd asks Nova again only when none of them can act."""
    with on_stage(site) as stage, ExitStack() as late:
        with site.paused():
            stage.attach()
            stage.hangs(TERMINATE, times=TRIES)
            stage.begin_detach()
            until(lambda: stage.faults.hanging(stage.volume_id) == TRIES, "all tries hang")
            late.enter_context(acting_late(stage))
            stage.nova_failed("detach_volume")
        writer = user_takes_it(stage)
        keeps_its_disk(stage, writer, TRIES + 1)
        stage.has_told("start", "end")
