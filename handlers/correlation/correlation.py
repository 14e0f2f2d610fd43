"""What a notification does to the cases: pure, table-tested, and the only place that decides it.

``matching`` says which case a message is about, and whether that is proven. The case key is (cloud,
volume, operation, attachment). A message fills in what its case does not know yet: attachment,
instance, host, backend, connector. The questions are asked in this order:

1. **Our own call**: a message whose request id is that of one of our intents is history of that
   intent's case and moves nothing.
2. **Released unasked** (UC5's signature): it joins or opens the *attach* case of that attachment
   and makes it due when errors have settled. It never closes a case. The detach's end that follows
   in the same request is history of that case and brings its diagnosis forward. Where the start
   shows several rows that are reserved, the end tells which of them it was. An older Cinder
   sends that end alone: it is kept, and the attach case of its request whose row it does not show
   any more is suspected too, until a start of the backend's own tells otherwise.
3. **Start**: it opens a case that waits until the operation's deadline, or joins one. A repeated
   start does not move the deadline. A detach's start never joins an attach case. A start that comes
   after the end of its operation is the history of that case, closed or not, and the case comes to
   what it would have come to had the start come first. Where it repeats Cinder's start, the case
   settles, since the try that had timed out may still finish late. Where it is Nova's, and Nova
   has not said that it ended, the case waits for that.
4. **Error**, and what a sweep found unchanged for too long: it makes the case due when errors have
   settled (sooner if a look was planned sooner), or opens one that is. An error that names no
   volume moves every open case of its request; where there is none, it is kept for a later start.
   A status that was written by hand is like an error of the volume: it joins any open case of it,
   one that waits for a person included. Where it is available without an attachment, nothing of it
   could be diagnosed; what the backend still holds is found by the sweep, with the host.
5. **End**, proven to be of the same attachment: it closes a case that waits and that no worker has
   claimed. Where Cinder's start was repeated, the case settles instead, since the try that timed
   out may still finish late and undo it. Where Nova has begun, only Nova's end closes the case: a
   nova-compute that dies in between leaves its own record wrong and sends no more. In any other
   open state the end is noted (``end_seen``) and the case is due now, so that the diagnosis
   decides; a second end changes nothing for a case that settles. Where the start of a detach
   showed several rows, its end tells which of them went: the one that it shows no more.
6. **End**, not proven: it brings the diagnosis forward until errors have settled and never closes a
   case. An end that names neither attachment nor instance does so to the only open case, and is
   filed there until its own start comes.
7. **What an end is worth**: little, as the backend is not asked. So a case that would be closed by
   it settles instead, and is looked at once more, where something about the volume is unusual or
   the budget allows it. For the messages that follow it is the same as a closed one. One look is
   enough for a volume (``transitions.superfluous``).
8. **Signal**: something else happened to the volume (deleted, unmanaged, transferred, or a server
   left a row of it behind). It brings the look at the open cases of the volume forward, and opens
   one that is looked at once, within the same budget. It proves nothing.
9. **End of a closed case**: it is history of that case. An end without any case is kept for its
   start: when that comes, the case opens and closes at once. A kept message is offered to a case
   again whenever a start or an error has added to what the case knows.

In all of them: only ends, resets and deletions move a case that is parked or awaits approval; the
others are its history. Each message of a case that a worker may be diagnosing (claimed, or not
waiting) raises ``signal_seq``, so that a diagnosis made without it is made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import assert_never

from handlers.case import FOR_A_PERSON, Case, CaseState, Trigger
from handlers.correlation.matching import (
    Signal,
    Timing,
    asked_the_backend,
    begins_anew,
    companion,
    concerned_by,
    find,
    find_bare,
    find_given_up,
    find_likely,
    find_only,
    find_proven,
    find_reset,
    find_swept,
    shares_request,
    unusual_company,
)
from handlers.correlation.transitions import (
    AfterEnd,
    absorb,
    absorb_signal,
    count_signal,
    due,
    ended,
    forward,
    looked_at_by,
    note_end,
    opened,
    overtaken,
    settling,
    superfluous,
    tell_apart,
    told_apart,
)
from handlers.notification import Notification, Operation, Phase, Source


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger holds that the new notifications may be about.

    ``cases``: the open ones and those closed a short while ago, oldest first. ``claimed``: the ids
    of those that a worker has claimed. ``orphans``: ends and errors that still wait for their
    start, those included that are filed, without proof, under the only case that there was.
    ``intents``: request id to case id.
    """

    cloud: str
    cases: tuple[Case, ...]
    claimed: frozenset[str]
    orphans: tuple[Signal, ...]
    intents: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A case came to another state; ``before`` is None when it was opened."""

    case_id: str
    message_id: str
    before: CaseState | None
    after: CaseState


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """What the notifications come to.

    ``changed``: each case as it was and as it is to be. ``filed``: message id to case id, None for
    an orphan. ``adopted``: the same for what had been an orphan before. ``second_looks``: how many
    ended cases are to be looked at once more.
    """

    opened: tuple[Case, ...]
    changed: tuple[tuple[Case, Case], ...]
    filed: Mapping[str, str | None]
    adopted: Mapping[str, str]
    moves: tuple[Move, ...]
    second_looks: int = 0


def correlate(
    recorded: Recorded,
    notifications: Sequence[Notification],
    *,
    timing: Timing,
    now: datetime,
    new_id: Callable[[], str],
    spare_looks: int = 0,
) -> Changes:
    """Return what these notifications, in this order, change. ``now`` is the time of receipt.

    ``spare_looks``: how many cases may be looked at once more although nothing about them is
    unusual. Raises ValueError for a notification without the volume or operation that it must have.
    """
    batch = _Batch(recorded, timing, now, new_id, spare_looks)
    for notification in notifications:
        batch.apply(notification)
    return batch.changes()


class _Batch:
    """The cases while one batch is worked in."""

    def __init__(
        self,
        recorded: Recorded,
        timing: Timing,
        now: datetime,
        new_id: Callable[[], str],
        spare_looks: int,
    ) -> None:
        self._cloud = recorded.cloud
        self._claimed = recorded.claimed
        self._before = {case.case_id: case for case in recorded.cases}
        self._cases = dict(self._before)
        # A batch may be about hundreds of volumes: what is about one must not read all the cases.
        self._by_volume: dict[str | None, dict[str, Case]] = {}
        for case in recorded.cases:
            self._by_volume.setdefault(case.volume_id, {})[case.case_id] = case
        self._orphans = {signal.message_id: signal for signal in recorded.orphans}
        self._stored_orphans = frozenset(self._orphans)
        self._intents = recorded.intents
        self._timing = timing
        self._now = now
        self._settled_at = now + timedelta(seconds=timing.error_settle_seconds)
        self._look_at = now + timedelta(seconds=timing.second_look_seconds)
        self._new_id = new_id
        self._spare_looks = spare_looks
        self._looked_at_again: set[str] = set()
        self._filed: dict[str, str | None] = {}
        self._adopted: dict[str, str] = {}
        self._moves: list[Move] = []

    def changes(self) -> Changes:
        new = [case for case_id, case in self._cases.items() if case_id not in self._before]
        pairs = ((before, self._cases[case_id]) for case_id, before in self._before.items())
        changed = [(before, after) for before, after in pairs if after is not before]
        return Changes(
            tuple(new), tuple(changed), self._filed, self._adopted, tuple(self._moves),
            len(self._looked_at_again),
        )  # fmt: skip

    def apply(self, notification: Notification) -> None:
        signal = Signal.of(notification)
        # What our own call caused is history of the case that made it, and says nothing new.
        own = next((r for r in signal.request_ids if r in self._intents), None)
        if own is not None:
            self._file(signal, self._intents[own])
        elif notification.released_unasked:
            self._released(notification, signal)
            self._look_once(signal)
        else:
            self._by_phase(notification, signal)
            self._look_once(signal)

    def _look_once(self, signal: Signal) -> None:
        """Leave out the second looks that another look at the volume makes superfluous."""
        touched = {self._cases[case_id].volume_id for case_id in self._looked_at_again}
        for volume_id in touched | {signal.volume_id}:
            for before, after in superfluous(list(self._of(volume_id))):
                self._move(after, signal)
                if not after.open:
                    self._looked_at_again.discard(before.case_id)

    def _by_phase(self, notification: Notification, signal: Signal) -> None:
        match signal.phase:
            case Phase.START:
                self._start(notification, signal)
            case Phase.ERROR if signal.operation is None or signal.volume_id is None:
                self._error_of_request(signal)
            case Phase.ERROR:
                self._error(notification, signal)
            case Phase.END:
                self._end(notification, signal)
            case Phase.SIGNAL:
                self._signal(notification, signal)
            case _:
                assert_never(signal.phase)

    # --- each kind of message -------------------------------------------------------------------

    def _start(self, notification: Notification, signal: Signal) -> None:
        operation = _operation(signal)
        self._unsuspect(notification, signal)
        case = self._found(signal, operation) or find_bare(signal, operation, self._open(signal))
        if case is None:
            deadline_at = self._deadline_at(operation)
            self._open_case(notification, operation, Trigger.DEADLINE, deadline_at)
            return
        updated = self._absorbed(case, notification)
        # A new operation on what a person has: it is looked at when that one should have ended.
        if updated.state in FOR_A_PERSON:
            updated = looked_at_by(updated, self._deadline_at(operation))
        claimed = case.case_id in self._claimed
        self._put(overtaken(updated, self._after_end(updated, signal), claimed=claimed), signal)
        self._offer_orphans(case.case_id)

    def _suspect(self, end: Signal) -> None:
        """Suspect a leak of the attach whose row this end, which no detach began, shows no more."""
        others = find_only(end, Operation.DETACH, self._open(end))
        given_up = None if others else find_given_up(end, self._open(end))
        if given_up is not None and not given_up.released_unasked:
            suspected = dataclasses.replace(self._counted(given_up), released_unasked=True)
            self._move(settling(suspected, Trigger.RELEASED_UNASKED, self._settled_at), end)

    def _released_among(self, before: Case, after: Case, end: Signal) -> None:
        """Suspect a leak of the attach whose row Cinder's API began to delete beside another one.

        Its start shows several rows that are reserved, and not which of them goes; the end does.
        """
        row = told_apart(before, after)
        if row is None or not row.unasked:
            return
        own = dataclasses.replace(end, attachment_id=row.attachment_id, instance_id=row.instance_id)
        match = find_proven(own, Operation.ATTACH, self._open(end))
        if match is not None and match.proven:
            attach = self._counted(absorb_signal(match.case, own))
            suspected = dataclasses.replace(attach, released_unasked=True)
            self._move(settling(suspected, Trigger.RELEASED_UNASKED, self._settled_at), end)

    def _unsuspect(self, notification: Notification, signal: Signal) -> None:
        """Drop the suspicion that an end raised which had overtaken this start of the backend's."""
        for case in self._open(signal):
            if case.released_unasked and asked_the_backend(notification, case):
                self._move(dataclasses.replace(case, released_unasked=False), signal)

    def _released(self, notification: Notification, signal: Signal) -> None:
        trigger = Trigger.RELEASED_UNASKED
        if found := self._found(signal, Operation.ATTACH):
            case = dataclasses.replace(self._absorbed(found, notification), released_unasked=True)
            self._put(settling(case, trigger, self._settled_at), signal)
            self._offer_orphans(case.case_id)
            return
        self._open_case(notification, Operation.ATTACH, trigger, self._settled_at)

    def _error(self, notification: Notification, signal: Signal) -> None:
        operation = _operation(signal)
        trigger = _trigger(notification)
        if notification.source is Source.SWEEP:
            self._sighted(notification, signal)
            return
        found = self._found(signal, operation) or find_only(signal, operation, self._open(signal))
        found = found or find_reset(notification, self._open(signal))
        if found is not None:
            case = self._absorbed(found, notification)
            move = due if notification.reset else settling  # a person has just moved it
            self._put(move(case, trigger, self._settled_at), signal)
            self._offer_orphans(case.case_id)
            return
        self._open_case(notification, operation, trigger, self._settled_at)

    def _sighted(self, notification: Notification, signal: Signal) -> None:
        """Move the case that a sweep has found again, or open one.

        A person who has the case was told of its attachment; what the sweep found of the volume as
        a whole may be news, and need not be of that attachment.
        """
        case, whole = find_swept(notification, self._open(signal)), signal.attachment_id is None
        if case is None:
            self._open_case(notification, _operation(signal), Trigger.SWEEP, self._settled_at)
            return
        of_another = whole and case.attachment_id is not None
        updated = self._counted(case) if of_another else self._absorbed(case, notification)
        if whole and case.state in FOR_A_PERSON:
            self._put(looked_at_by(updated, self._settled_at), signal)
        else:
            self._put(settling(updated, Trigger.SWEEP, self._settled_at), signal)
        self._offer_orphans(case.case_id)

    def _error_of_request(self, signal: Signal) -> None:
        of_request = [c for c in self._cases.values() if _may_have_failed(c, signal)]
        if not of_request:
            self._keep(signal)
        for case in of_request:
            updated = self._counted(absorb_signal(case, signal))
            self._put(settling(updated, Trigger.ERROR, self._settled_at), signal)

    def _end(self, notification: Notification, signal: Signal) -> None:
        operation, cases = _operation(signal), self._open(signal)
        if (match := find_proven(signal, operation, cases)) and match.proven:
            case = tell_apart(match.case, signal)
            updated = note_end(self._absorbed(case, notification), signal)
            self._put(self._ended(updated, signal), signal)
            self._released_among(match.case, case, signal)
        elif match is None and (released := companion(signal, cases)):
            updated = self._absorbed(released, notification)
            self._put(due(updated, updated.trigger, self._settled_at), signal)
        elif likely := match or find_likely(signal, operation, cases):
            self._put(forward(self._absorbed(likely.case, notification), self._settled_at), signal)
        elif closed := self._ended_before(signal, operation):
            updated = note_end(self._absorbed(closed, notification), signal)
            self._put(self._ended(updated, signal), signal)
        elif closed := self._closed_before(signal, operation):
            self._file(signal, closed.case_id)
        else:
            self._keep(signal)
            if only := find_only(signal, operation, cases):
                self._put(forward(self._counted(only), self._settled_at), signal)
            else:
                self._suspect(signal)

    def _signal(self, notification: Notification, signal: Signal) -> None:
        """Bring a look at the volume forward, or open a case for one within the budget.

        A deletion moves also what waits for a person, and opens nothing. What concerns a server is
        only stored: which volumes that are is asked of Cinder.
        """
        self._filed[signal.message_id] = None
        if signal.volume_id is None:
            return
        concerned = concerned_by(signal, (c for c in self._of(signal.volume_id) if c.open))
        move = due if notification.tells_of_deletion else settling
        for case in reversed(concerned):
            counted = self._counted(case)
            moved = counted if case.only_ended else move(counted, Trigger.SIGNAL, self._settled_at)
            self._put(moved, signal)
        if not (concerned or notification.tells_of_deletion) and self._may_look(notification):
            self._open_for_look(notification, signal)

    def _may_look(self, notification: Notification) -> bool:
        # What we found ourselves had its budget when it was looked for.
        ours = notification.source is Source.SWEEP
        return ours or len(self._looked_at_again) < self._spare_looks

    def _open_for_look(self, notification: Notification, signal: Signal) -> None:
        """Open a case for a look at the volume: nothing says that anything is wrong.

        What a server left was asked for ``second_look_seconds`` after the message that told of the
        server. That message counts as the first clean look, as an end does.
        """
        told_ago = self._timing.second_look_seconds if notification.source is Source.SWEEP else 0.0
        case = opened(
            notification, Operation.ATTACH, Trigger.SIGNAL,
            cloud=self._cloud, case_id=self._new_id(), now=self._now, due_at=self._settled_at,
        )  # fmt: skip
        self._looked_at_again.add(case.case_id)
        first_clean_at = self._now - timedelta(seconds=told_ago)
        self._put(dataclasses.replace(case, first_clean_at=first_clean_at), signal)

    # --- a new case, and what came before its start ---------------------------------------------

    def _open_case(
        self, notification: Notification, operation: Operation, trigger: Trigger, due_at: datetime
    ) -> None:
        case_id = self._new_id()
        case = opened(
            notification, operation, trigger,
            cloud=self._cloud, case_id=case_id, now=self._now, due_at=due_at,
        )  # fmt: skip
        self._put(case, Signal.of(notification))
        self._offer_orphans(case_id)

    def _offer_orphans(self, case_id: str) -> None:
        """Give a case the messages that were kept for it, as it has learned what it is about."""
        volume_id = self._cases[case_id].volume_id
        # A batch may hold the messages of a hundred volumes, and each start comes here.
        of_volume = [s for s in self._orphans.values() if s.volume_id in (None, volume_id)]
        # Errors first, so that an end does not hide them.
        for orphan in sorted(of_volume, key=lambda s: s.phase is Phase.END):
            self._offer(case_id, orphan)
        for orphan in of_volume:
            if orphan.message_id in self._orphans:
                self._suspect(orphan)

    def _offer(self, case_id: str, orphan: Signal) -> None:
        before = self._cases[case_id]
        adopting = self._adopting(before, orphan)
        if adopting is not None:
            self._move(adopting, orphan)
            self._released_among(before, adopting, orphan)
            del self._orphans[orphan.message_id]
            stored = orphan.message_id in self._stored_orphans
            (self._adopted if stored else self._filed)[orphan.message_id] = case_id

    def _adopting(self, case: Case, orphan: Signal) -> Case | None:
        updated = self._counted(absorb_signal(case, orphan))
        if orphan.phase is Phase.ERROR:
            of_case = _may_have_failed(case, orphan)
            return settling(updated, Trigger.ERROR, self._settled_at) if of_case else None
        own = orphan.operation is case.operation
        if own and (found := find_proven(orphan, case.operation, [case])):
            if found.proven:
                updated = tell_apart(updated, orphan)
            updated = note_end(updated, orphan)
            return self._ended(updated, orphan) if case.open or case.only_ended else updated
        return updated if companion(orphan, [case]) else None

    # --- what a case learns ---------------------------------------------------------------------

    def _absorbed(self, case: Case, notification: Notification) -> Case:
        return self._counted(absorb(case, notification))

    def _counted(self, case: Case) -> Case:
        return count_signal(case, claimed=case.case_id in self._claimed)

    def _ended(self, case: Case, signal: Signal) -> Case:
        after = self._after_end(case, signal)
        return ended(case, after, claimed=case.case_id in self._claimed)

    def _after_end(self, case: Case, signal: Signal) -> AfterEnd:
        return AfterEnd(
            now=self._now,
            settled_at=self._settled_at,
            deadline_at=self._deadline_at(case.operation),
            look_at=self._look_at,
            unusual=signal.shows_others or unusual_company(case, self._of(case.volume_id)),
            spare=len(self._looked_at_again) < self._spare_looks,
        )

    def _deadline_at(self, operation: Operation) -> datetime:
        return self._now + timedelta(seconds=self._timing.deadline_seconds(operation))

    # --- the cases of the batch -----------------------------------------------------------------

    def _of(self, volume_id: str | None) -> Collection[Case]:
        return self._by_volume.get(volume_id, {}).values()

    def _open(self, signal: Signal) -> list[Case]:
        """Return the volume's cases whose operation may go on still, or that were looked at."""
        of_volume = self._of(signal.volume_id)
        return [case for case in of_volume if case.open and not case.only_ended]

    def _found(self, signal: Signal, operation: Operation) -> Case | None:
        """Return the open case that a start or error is about, else the ended one that it proves.

        The next operation of the same instance must not be taken for one that has ended.
        """
        if match := find(signal, operation, self._open(signal)):
            return match.case
        before = self._ended_before(signal, operation)
        return None if before is None or begins_anew(signal, before) else before

    def _closed_before(self, signal: Signal, operation: Operation) -> Case | None:
        closed = [c for c in self._of(signal.volume_id) if not c.open or c.only_ended]
        match = find_proven(signal, operation, closed)
        return match.case if match else companion(signal, closed)

    def _ended_before(self, signal: Signal, operation: Operation) -> Case | None:
        """Return the case that this belongs to and that an end, not a diagnosis, has closed."""
        ended = (case for case in self._of(signal.volume_id) if case.only_ended)
        match = find_proven(signal, operation, ended)
        return match.case if match and match.proven else None

    def _put(self, case: Case, signal: Signal) -> None:
        self._move(case, signal)
        self._file(signal, case.case_id)

    def _move(self, case: Case, signal: Signal) -> None:
        before = self._cases.get(case.case_id)
        if before is None or before.state is not case.state:
            state = before.state if before else None
            self._moves.append(Move(case.case_id, signal.message_id, state, case.state))
        if case.only_ended and case.open:
            self._looked_at_again.add(case.case_id)
        self._cases[case.case_id] = case
        self._by_volume.setdefault(case.volume_id, {})[case.case_id] = case

    def _file(self, signal: Signal, case_id: str) -> None:
        """File a message under its case; one that moves several cases is filed under the first."""
        if self._filed.get(signal.message_id) is None:
            self._filed[signal.message_id] = case_id

    def _keep(self, signal: Signal) -> None:
        self._orphans[signal.message_id] = signal
        self._filed[signal.message_id] = None


def _trigger(error: Notification) -> Trigger:
    return Trigger.RESET if error.reset else Trigger.ERROR


def _may_have_failed(case: Case, error: Signal) -> bool:
    """Tell whether an error that names only its request may be about this case.

    One that ended at the first try is not meant: an attach that fails is cleaned up by a detach of
    the same request, which ends well.
    """
    in_question = case.open and (not case.only_ended or case.starts > 1)
    return in_question and shares_request(error, case)


def _operation(signal: Signal) -> Operation:
    if signal.operation is None:
        raise ValueError(f"notification {signal.message_id} names no operation")
    return signal.operation
