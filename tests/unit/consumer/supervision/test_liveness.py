"""A process is dead only when the kernel says so, and only then do its leases end early."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.ledger import Ledger, Replica
from consumer.supervision import liveness
from consumer.supervision.liveness import Heartbeat, SignOfLife
from handlers.case import ClaimLostError
from tests.bus import new_ledger, running, until
from tests.unit.consumer.ledger.making import claim_one, due_case, renew

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these names")

HOLDS = """
import os, sys, time
from consumer.supervision.liveness import SignOfLife
sign = SignOfLife(sys.argv[1])
sign.hold()
print(sign.place, flush=True)
if sys.argv[2:] == ["fork"] and os.fork() == 0:
    time.sleep(3600)
time.sleep(3600)
"""


@contextlib.contextmanager
def another(owner: str, *arguments: str, within: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """Run a process that lives under this name; give its pid and its place."""
    command = [*within, sys.executable, "-c", HOLDS, owner, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            assert process.stdout is not None
            yield process.pid, process.stdout.readline().strip()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_one_that_runs_lives_and_one_that_was_killed_is_dead() -> None:
    """Another process holds its name -> alive; it is killed -> dead."""
    with another("a:1") as (pid, place):
        assert place == liveness.place()
        assert not liveness.is_dead("a:1")
        os.kill(pid, signal.SIGKILL)
        until(lambda: liveness.is_dead("a:1"))


def test_one_that_is_frozen_lives() -> None:
    """A process is frozen, and may go on at any moment -> it is not dead."""
    with another("a:2") as (pid, _):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        assert not liveness.is_dead("a:2")


def test_what_a_process_has_forked_keeps_it_alive() -> None:
    """The process was killed, but one that it forked has its connections still -> not dead."""
    with another("a:3", "fork") as (pid, _):
        until(lambda: bool(_children(pid)))
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        assert not liveness.is_dead("a:3")


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")


def test_another_network_namespace_is_another_place() -> None:
    """A container with its own network -> its name looks free from here, but its place differs."""
    unshared = ("unshare", "--net")
    if subprocess.run([*unshared, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this process may not make a network namespace")
    with another("a:4", within=unshared) as (_, place):
        assert place not in ("None", liveness.place())
        assert liveness.is_dead("a:4")


def test_a_name_that_is_taken_gives_no_place() -> None:
    """Somebody holds the name of a service already -> nothing is concluded about that service."""
    first, second = SignOfLife("a:5"), SignOfLife("a:5")
    first.hold()
    second.hold()
    assert first.place == liveness.place()
    assert second.place is None
    first.let_go()
    assert liveness.is_dead("a:5")


def test_a_system_without_such_names_gives_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc does not show the namespace -> no place."""
    monkeypatch.setattr(liveness, "NAMESPACE", Path("/nowhere/net"))
    sign = SignOfLife("a:6")
    sign.hold()
    assert sign.place is None
    sign.let_go()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give a ledger with one due case."""
    with new_ledger(tmp_path) as made:
        due_case(made)
        yield made


def me() -> Replica:
    """Return a replica on this machine."""
    return Replica("me", "here", os.getpid(), "0", liveness.place())


def test_claim_of_a_dead_process_is_free_at_once(ledger: Ledger) -> None:
    """A process dies with a claim of an hour -> another on its machine has the volume at once."""
    with another("dead:1") as (pid, place):
        ledger.beat(Replica("dead:1", "here", pid, "0", place))
        claim = claim_one(ledger, "dead:1", lease_seconds=3600.0)
        with running(Heartbeat(ledger, me(), beat_seconds=0.02)):
            time.sleep(0.2)
            assert not ledger.claim("me", limit=1, lease_seconds=60.0, deadlines=True)
            os.kill(pid, signal.SIGKILL)
            until(lambda: not ledger.claiming_at(place))
    again = claim_one(ledger, "me")
    assert again.fence == claim.fence + 1
    assert again.case.crashes == 1
    with pytest.raises(ClaimLostError):
        renew(ledger, claim, 60.0)


@pytest.mark.parametrize("place", [None, "another boot", "another network"])
def test_claim_of_another_place_is_kept(ledger: Ledger, place: str | None) -> None:
    """The owner is on another machine, or on one that is not known -> its lease stays."""
    ledger.beat(Replica("far:1", "there", 1, "0", place))
    claim_one(ledger, "far:1", lease_seconds=3600.0)
    with running(Heartbeat(ledger, me(), beat_seconds=0.02)):
        time.sleep(0.2)
    assert not ledger.claim("me", limit=1, lease_seconds=60.0, deadlines=True)


def test_one_that_abandoned_an_attempt_stays_on_record(ledger: Ledger) -> None:
    """A service stops with a call that has not returned -> it can still be proven dead after it."""
    here = liveness.place()
    ledger.beat(Replica("slow:1", "here", 1, "0", here))
    claim_one(ledger, "slow:1", lease_seconds=3600.0)
    ledger.leave("slow:1")
    with running(Heartbeat(ledger, me(), beat_seconds=0.02)):
        until(lambda: not ledger.claiming_at(here))
    assert claim_one(ledger, "me").fence == 2
