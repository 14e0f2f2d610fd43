"""The ledger against everything that may come, in any order: a state machine on a real SQLite.

Two processes share one ledger. Messages come in any order, more than once; attempts end in any way,
or never; publishers die; what is over is archived, brought back, forgotten. After every step the
ledger is compared with what was done to it.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from consumer.ledger import CaseRecord, Claim, Ledger, Outgoing, Replay
from consumer.ledger.database.tables import (
    archived_cases,
    archived_history,
    archived_notifications,
    archived_outbox,
    cases,
    claims,
    history,
    notifications,
    outbox,
)
from handlers.case import CaseState, ClaimLostError, PausedError, StepKind, StepResult
from handlers.notification import Notification, Operation, Phase
from tests.services import ledgers
from tests.unit.consumer.ledger.making import (
    announcement,
    arrival,
    attach_error,
    expire_leases,
    make_due,
    outcome,
    released,
    told,
)

VOLUMES = ("vol-1", "vol-2")
ATTACHMENTS = ("att-1", "att-2", None)
INSTANCES = ("inst-1", "inst-2", None)
REQUESTS = ("req-1", "req-2", "req-3", None)


@st.composite
def messages(draw: st.DrawFn) -> Notification:
    """Make any message about a few volumes, attachments, instances and requests."""
    named = {
        "attachment_id": draw(st.sampled_from(ATTACHMENTS)),
        "instance_id": draw(st.sampled_from(INSTANCES)),
        "request_id": draw(st.sampled_from(REQUESTS)),
    }
    kind = draw(st.sampled_from(["ordinary", "ordinary", "ordinary", "exception", "released"]))
    if kind == "exception":
        return told(None, Phase.ERROR, volume_id=None, request_id=named["request_id"])
    volume_id = draw(st.sampled_from(VOLUMES))
    if kind == "released":
        return released(volume_id=volume_id, request_id=named["request_id"])
    operation, phase = draw(st.sampled_from(Operation)), draw(st.sampled_from(Phase))
    return told(operation, phase, volume_id=volume_id, **named)


class LedgerMachine(RuleBasedStateMachine):
    """What listeners, workers, publishers and people do, in any order."""

    sent_messages = Bundle("sent_messages")
    held_claims = Bundle("held_claims")
    taken = Bundle("taken")

    @initialize()
    def start(self) -> None:
        """Make an empty ledger, as two processes see it."""
        self.directory = Path(tempfile.mkdtemp(prefix="detachd-ledger-"))
        url = ledgers.sqlite_in(self.directory)
        self.processes = (Ledger(url), Ledger(url))
        self.ledger = self.processes[0]
        self.accepted: set[str] = set()
        self.put_away: set[tuple[str, str]] = set()
        self.current: dict[str, Claim] = {}
        self.live: set[str] = set()
        self.fences: dict[str, int] = defaultdict(int)
        self.announced: dict[str, list[str]] = defaultdict(list)
        self.settled: set[int] = set()
        self.met: set[str] = set()
        self.numbers = itertools.count(1)
        self.paused = False

    def teardown(self) -> None:
        """Remove the ledger."""
        for process in getattr(self, "processes", ()):
            process.close()
        if hasattr(self, "directory"):
            shutil.rmtree(self.directory)

    # --- the listener ---

    @rule(
        target=sent_messages,
        batch=st.lists(messages(), min_size=1, max_size=5),
        which=st.sampled_from([0, 1]),
    )
    def messages_come(self, batch: list[Notification], which: int) -> list[Notification]:
        """Take in new messages -> all stored."""
        accepted = self.processes[which].accept([arrival(m) for m in batch])
        assert (accepted.stored, accepted.duplicates, accepted.rejected) == (len(batch), 0, ())
        self.accepted |= {m.message_id for m in batch}
        return batch

    @rule(batch=sent_messages, more=st.lists(messages(), max_size=2))
    def messages_are_redelivered(self, batch: list[Notification], more: list[Notification]) -> None:
        """Redeliver known messages among new ones -> counted, nothing else; forgotten ones anew."""
        forgotten = [m for m in batch if m.message_id not in self.accepted]
        accepted = self.ledger.accept([arrival(m) for m in [*batch, *more]])
        new = len(more) + len(forgotten)
        assert (accepted.stored, accepted.duplicates) == (new, len(batch) - len(forgotten))
        self.accepted |= {m.message_id for m in [*forgotten, *more]}

    # --- workers ---

    @rule()
    def time_passes(self) -> None:
        """All that time moves is due."""
        make_due(self.ledger)

    @rule(
        target=held_claims,
        limit=st.integers(1, 3),
        deadlines=st.booleans(),
        which=st.sampled_from([0, 1]),
    )
    def claim(self, limit: int, deadlines: bool, which: int) -> MultipleResults[Claim]:
        """Claim -> only volumes that nobody has, each with a fence higher than ever before."""
        got = self.processes[which].claim(
            f"w{which}", limit=limit, lease_seconds=3600, deadlines=deadlines
        )
        assert len(got) <= limit
        for claim in got:
            assert deadlines or claim.case.state is not CaseState.WAITING
            self._claimed(claim)
        return multiple(*got)

    def _claimed(self, claim: Claim) -> None:
        volume = claim.case.volume_id
        assert volume not in self.live, "two workers on one volume"
        assert claim.fence > self.fences[volume], "a fence that is not new"
        self.live.add(volume)
        self.current[volume] = claim
        self.fences[volume] = claim.fence
        self.met.add(volume)

    @rule()
    def every_lease_runs_out(self) -> None:
        """Workers and publishers die, and their leases run out."""
        expire_leases(self.ledger)
        self.live.clear()

    @rule(claim=held_claims, announces=st.booleans())
    def intend(self, claim: Claim, announces: bool) -> None:
        """Mean a call -> written only by who has the volume, and only while not paused."""
        request_id = f"req-own-{next(self.numbers)}"
        casefile = self.ledger.casefile(claim)
        volume = claim.case.volume_id
        try:
            casefile.intend(
                StepKind.NOVA_DETACH, request_id=request_id, target={}, evidence={},
                lease_seconds=3600,
                announcement=announcement("start", n=request_id) if announces else None,
            )  # fmt: skip
        except ClaimLostError:
            assert not (self._is_current(claim) and volume in self.live)
        except PausedError:
            assert self.paused
        else:
            assert self._is_current(claim)
            assert volume in self.live
            assert not self.paused
            self.announced[claim.case.case_id] += [request_id] if announces else []
            casefile.result(request_id, StepResult.DONE, "")

    @rule(claim=held_claims)
    def locate(self, claim: Claim) -> None:
        """Say where the volume is -> written only by who has it, and where nobody had said."""
        case_id = claim.case.case_id
        before = self.ledger.case(case_id).case.backend
        try:
            self.ledger.casefile(claim).locate("lab@found")
        except ClaimLostError:
            assert not self._is_current(claim)
            assert self.ledger.case(case_id).case.backend == before
        else:
            assert self._is_current(claim)
            assert self.ledger.case(case_id).case.backend == (before or "lab@found")

    @rule(
        claim=consumes(held_claims),
        state=st.sampled_from([s for s in CaseState if s is not CaseState.WAITING]),
        mended=st.booleans(),
    )
    def finish(self, claim: Claim, state: CaseState, mended: bool) -> None:
        """Finish -> by its owner only; a newer signal leaves the case due, whatever the outcome."""
        case_id = claim.case.case_id
        mark = f"finish-{next(self.numbers)}"
        told_now = (announcement("end", n=mark), announcement("parked", n=f"{mark}-parked"))
        newer = self._signals(case_id) != claim.case.signal_seq
        delay = 0.0 if state in (CaseState.DUE, CaseState.SETTLING) else None
        came_to = outcome(state, mended=mended, announcements=told_now, delay_seconds=delay)
        try:
            self.ledger.finish(claim, came_to)
        except ClaimLostError:
            assert not self._is_current(claim)
            return
        self._ended(claim)
        unreached = newer and state is CaseState.PARKED
        self.announced[case_id] += [mark] if unreached else [mark, f"{mark}-parked"]
        assert self.ledger.case(case_id).case.state is (CaseState.DUE if newer else state)

    @rule(claim=consumes(held_claims))
    def hand_back(self, claim: Claim) -> None:
        """Hand back -> free at once, by its owner only."""
        try:
            self.ledger.release(claim)
        except ClaimLostError:
            assert not self._is_current(claim)
            return
        self._ended(claim)

    @rule(claim=consumes(held_claims))
    def worker_dies(self, claim: Claim) -> None:
        """Let a worker never be heard of again: its lease has to run out."""

    # --- the publisher ---

    @rule(target=taken, limit=st.integers(1, 4), which=st.sampled_from([0, 1]))
    def take(self, limit: int, which: int) -> MultipleResults[Outgoing]:
        """Take announcements -> never one whose elder of the same case is not settled."""
        got = self.processes[which].outbox_lease(f"p{which}", limit=limit, lease_seconds=3600)
        for out in got:
            assert out.outbox_id not in self.settled, "sent already"
            own = sa.select(outbox.c.outbox_id).where(outbox.c.case_id == out.case_id)
            elder = {
                attachment.outbox_id
                for attachment in self._all(own)
                if attachment.outbox_id < out.outbox_id
            }
            assert elder <= self.settled
        return multiple(*got)

    @rule(out=consumes(taken), routed=st.booleans())
    def settle(self, out: Outgoing, routed: bool) -> None:
        """Confirm an announcement, or tell that it had no queue."""
        (self.ledger.outbox_sent if routed else self.ledger.outbox_unrouted)([out.outbox_id])
        self.settled.add(out.outbox_id)

    @rule(out=consumes(taken))
    def sending_fails(self, out: Outgoing) -> None:
        """Tell that an announcement was not confirmed: it is due again."""
        self.ledger.outbox_failed(out.outbox_id, "no broker", 0.0)

    # --- time ---

    @rule(
        state=st.sampled_from([CaseState.CLOSED, CaseState.PARKED]),
        volume_id=st.sampled_from(VOLUMES),
        sends=st.booleans(),
        limit=st.integers(1, 3),
        which=st.sampled_from([0, 1]),
    )
    def forget(self, state: CaseState, volume_id: str, sends: bool, limit: int, which: int) -> None:
        """Prune all that is over by now -> closed cases without unsent announcements, no others.

        With each go its messages and announcements, and nothing else but messages without a case.
        Something is worked off before, so that it is over, and what it announced is sent or not.
        """
        self.messages_come([attach_error(volume_id=volume_id)], which)
        self._work_off(state, sends=sends)
        before, told, kept, volumes = self._states(), self._places(), self._kept(), self._volumes()
        unsent = self._unsent()
        pruned = self.processes[which].prune(0.0, limit=limit)
        gone = before.keys() - self._states().keys()
        assert len(gone) == pruned.cases <= 2 * limit, "so many from each place"
        assert {before[case_id] for case_id in gone} <= {CaseState.CLOSED.value}
        assert not gone & unsent
        lost, lost_there = told - self._places(), kept - self._kept()
        assert {pair for pair in told | kept if pair[1] in gone} <= lost | lost_there
        assert {case_id for _, case_id in lost | lost_there} <= gone | {None}
        assert pruned.notifications == len(lost) + len(lost_there)
        self.accepted -= {message_id for message_id, _ in lost}
        self.put_away -= lost_there
        self.met -= volumes - self._volumes()
        for case_id in gone:
            self.announced.pop(case_id, None)

    @rule(
        state=st.sampled_from([CaseState.CLOSED, CaseState.PARKED]),
        volume_id=st.sampled_from(VOLUMES),
        sends=st.booleans(),
        limit=st.integers(1, 3),
        which=st.sampled_from([0, 1]),
    )
    def archive(
        self, state: CaseState, volume_id: str, sends: bool, limit: int, which: int
    ) -> None:
        """Archive all that is over by now -> shown and listed as before, and out of the way.

        Only closed cases without unsent announcements go, whole; messages without a case are
        forgotten.
        """
        self.messages_come([attach_error(volume_id=volume_id)], which)
        self._work_off(state, sends=sends)
        shown, told, volumes = self._shown(), self._places(), self._volumes()
        here, unsent = self._here(), self._unsent()
        done = self.processes[which].archive(0.0, limit=limit)
        assert self._shown() == shown
        moved = here - self._here()
        assert len(moved) == done.cases <= limit
        assert {shown[case_id].case.state for case_id in moved} <= {CaseState.CLOSED}
        assert not moved & unsent
        gone = told - self._places()
        of_moved = {pair for pair in gone if pair[1] is not None}
        assert {case_id for _, case_id in of_moved} == {c for _, c in told} & moved
        assert len(gone - of_moved) == done.forgotten
        self.accepted -= {message_id for message_id, _ in gone}
        self.put_away |= of_moved
        self.met -= volumes - self._volumes()

    # --- people ---

    @rule(number=st.integers(0, 5), which=st.sampled_from([0, 1]))
    def replay_archived(self, number: int, which: int) -> None:
        """Replay a case that was archived -> due here, with all that it had.

        But for a message that came again since: that one is where it was filed then.
        """
        there = [
            attachment.case_id for attachment in self._all(sa.select(archived_cases.c.case_id))
        ]
        if not there:
            return
        case_id = sorted(there)[number % len(there)]
        before = self.ledger.case(case_id)
        replay = Replay(f"replay:{next(self.numbers)}", "0" * 64, "replay", "alice", "again")
        assert self.processes[which].replay(replay, case_id).before is CaseState.CLOSED
        after = self.ledger.case(case_id)
        assert after.case.state is CaseState.DUE
        assert after.history[:-1] == before.history
        assert (after.intents, after.outbox) == (before.intents, before.outbox)
        back = {m for m, c in self.put_away if c == case_id} - self.accepted
        assert {told.notification.message_id for told in after.notifications} == back
        own = self._all(sa.select(outbox.c.outbox_id).where(outbox.c.case_id == case_id))
        self.settled |= {attachment.outbox_id for attachment in own}  # under numbers of today
        self.accepted |= back
        self.put_away = {pair for pair in self.put_away if pair[1] != case_id}

    @rule()
    def pause(self) -> None:
        """Pause."""
        self.ledger.pause("alice", "maintenance")
        self.paused = True

    @rule()
    def resume(self) -> None:
        """Resume."""
        self.processes[1].resume("bob")
        self.paused = False

    @rule()
    def rearm(self) -> None:
        """Send everything that is parked round again."""
        for case in self.ledger.cases(state=CaseState.PARKED):
            replay = Replay(f"replay:{next(self.numbers)}", "0" * 64, "replay", "alice", "again")
            self.ledger.replay(replay, case.case_id)

    # --- what always holds ---

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each accepted message is in exactly one place: its case, or kept for its start."""
        attachments = self._all(sa.select(notifications.c.message_id, notifications.c.case_id))
        assert sorted(attachment.message_id for attachment in attachments) == sorted(self.accepted)
        assert {attachment.case_id for attachment in attachments} - {None} <= self._here()
        assert self._kept() == self.put_away

    @invariant()
    def announced_once_and_in_order(self) -> None:
        """Each announced transition is exactly one outbox row, in the order of its writing."""
        found: dict[str, list[str]] = defaultdict(list)
        for table in (outbox, archived_outbox):
            for attachment in self._all(sa.select(table).order_by(table.c.outbox_id)):
                found[attachment.case_id].append(attachment.payload["n"])
        assert found == {k: v for k, v in self.announced.items() if v}

    @invariant()
    def one_worker_a_volume(self) -> None:
        """Owner, case and fence of each volume are those of the last claim that was given out."""
        for attachment in self._all(sa.select(claims).where(claims.c.volume_id != "")):
            if (
                attachment.volume_id not in self.met
            ):  # for the first time, or again: its fences go on
                assert attachment.fence >= self.fences[attachment.volume_id], "a fence that fell"
                self.met.add(attachment.volume_id)
                self.fences[attachment.volume_id] = attachment.fence
            assert attachment.fence == self.fences[attachment.volume_id], (
                "a fence that nobody was told"
            )
            current = self.current.get(attachment.volume_id)
            told_last = (current.owner, current.case.case_id) if current else (None, None)
            assert (attachment.owner, attachment.case_id) == told_last

    @invariant()
    def states_hold(self) -> None:
        """Check that closed cases are never due, others have their time, all their beginning."""
        there = self._all(sa.select(archived_cases))
        assert {attachment.state for attachment in there} <= {CaseState.CLOSED.value}
        for attachment in [*self._all(sa.select(cases)), *there]:
            closed = attachment.state == CaseState.CLOSED.value
            assert (
                (attachment.closed_at is not None) == (attachment.conclusion is not None) == closed
            )
            assert not (closed and attachment.next_attempt_at)
            moved_by_time = attachment.state in ("waiting", "due", "settling")
            assert attachment.next_attempt_at is not None or not moved_by_time
        begun = [
            attachment.case_id
            for lines in (history, archived_history)
            for attachment in self._all(sa.select(lines.c.case_id).where(lines.c.kind == "opened"))
        ]
        assert sorted(begun) == sorted(self._states())

    # --- looking ---

    def _all(
        self, statement: sa.Select[tuple[object, ...]]
    ) -> list[sa.CinderAttachment[tuple[object, ...]]]:
        return self.ledger._database.read(lambda c: list(c.execute(statement)))

    def _work_off(self, state: CaseState, *, sends: bool) -> None:
        make_due(self.ledger)
        delay = 0.0 if state in (CaseState.DUE, CaseState.SETTLING) else None
        for claim in self.ledger.claim("w", limit=3, lease_seconds=3600, deadlines=True):
            self._claimed(claim)
            mark = f"finish-{next(self.numbers)}"
            told = (announcement("end", n=mark),)
            self.ledger.finish(claim, outcome(state, announcements=told, delay_seconds=delay))
            self.announced[claim.case.case_id].append(mark)
            self._ended(claim)
        while sends and (taken := self.ledger.outbox_lease("p", limit=9, lease_seconds=3600)):
            self.ledger.outbox_sent([out.outbox_id for out in taken])
            self.settled |= {out.outbox_id for out in taken}

    def _here(self) -> set[str]:
        """Return the cases that can be worked on."""
        return {attachment.case_id for attachment in self._all(sa.select(cases.c.case_id))}

    def _states(self) -> dict[str, str]:
        attachments = [*self._all(sa.select(cases)), *self._all(sa.select(archived_cases))]
        assert len({attachment.case_id for attachment in attachments}) == len(attachments), (
            "a case in two places"
        )
        return {attachment.case_id: attachment.state for attachment in attachments}

    def _shown(self) -> dict[str, CaseRecord]:
        """Return every case as people see it."""
        listed = [case.case_id for case in self.ledger.cases(limit=1000)]
        assert len(set(listed)) == len(listed)
        return {case_id: self.ledger.case(case_id) for case_id in listed}

    def _unsent(self) -> set[str]:
        return {
            attachment.case_id
            for attachment in self._all(sa.select(outbox))
            if attachment.due_at is not None
        }

    def _places(self) -> set[tuple[str, str | None]]:
        attachments = self._all(sa.select(notifications))
        return {(attachment.message_id, attachment.case_id) for attachment in attachments}

    def _kept(self) -> set[tuple[str, str]]:
        """Return the messages in the archive, each with its case."""
        attachments = self._all(sa.select(archived_notifications))
        return {(attachment.message_id, attachment.case_id) for attachment in attachments}

    def _volumes(self) -> set[str]:
        return {attachment.volume_id for attachment in self._all(sa.select(claims))}

    def _signals(self, case_id: str) -> int | None:
        """Return how many signals the case has had, None where it is forgotten."""
        own = sa.select(cases.c.signal_seq).where(cases.c.case_id == case_id)
        return next((int(attachment.signal_seq) for attachment in self._all(own)), None)

    def _is_current(self, claim: Claim) -> bool:
        """Tell whether the volume was neither given back nor claimed again since."""
        return self.current.get(claim.case.volume_id) is claim

    def _ended(self, claim: Claim) -> None:
        assert self._is_current(claim)
        del self.current[claim.case.volume_id]
        self.live.discard(claim.case.volume_id)


def test_any_order_of_anything() -> None:
    """Anything in any order -> no double claim, nothing lost, each announcement once, in order."""
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=settings().max_examples // 3,  # each is thirty steps
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )


FORGETTING = st.fixed_dictionaries({
    "state": st.sampled_from([CaseState.CLOSED, CaseState.PARKED]),
    "volume_id": st.sampled_from(VOLUMES),
    "sends": st.booleans(),
    "limit": st.integers(1, 3),
    "which": st.sampled_from([0, 1]),
})  # fmt: skip


@given(
    rounds=st.lists(
        st.tuples(
            st.lists(messages(), max_size=2),
            FORGETTING,
            st.sampled_from(["archive", "archive", "forget", "replay"]),
        ),
        max_size=6,
    )
)
@settings(max_examples=settings().max_examples // 5, suppress_health_check=list(HealthCheck))
def test_only_what_is_over_is_archived_and_forgotten(rounds: list[Any]) -> None:
    """Cases end in any way, are archived, replayed, forgotten, come again -> all of it holds.

    The machine above does so too, but seldom gets as far.
    """
    machine = LedgerMachine()
    try:
        machine.start()
        for batch, how, what in rounds:
            if batch:
                machine.messages_come(batch, 0)
            match what:
                case "archive":
                    machine.archive(**how)
                case "forget":
                    machine.forget(**how)
                case _:
                    machine.replay_archived(how["limit"], how["which"])
            machine.nothing_is_lost()
            machine.announced_once_and_in_order()
            machine.one_worker_a_volume()
            machine.states_hold()
            machine.every_lease_runs_out()
    finally:
        machine.teardown()
