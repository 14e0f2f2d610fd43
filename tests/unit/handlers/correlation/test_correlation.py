"""What notifications do to cases: the rules in handlers/correlation/correlation.py, one by one."""

from __future__ import annotations

import cProfile
import dataclasses
import itertools
import pstats
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from handlers.case import Case, CaseState, Conclusion, Trigger
from handlers.correlation.correlation import Changes, Recorded, correlate
from handlers.correlation.matching import Signal, Timing
from handlers.notification import (
    Notification,
    NotifiedAttachment,
    Operation,
    Phase,
    Source,
)
from tests.unit.consumer.ledger.making import (
    ATTACHMENT,
    CONNECTOR,
    INSTANCE,
    NOW,
    REQUEST,
    attach_error,
    known,
    other,
    released,
    seen,
    told,
)

TIMING = Timing(attach_deadline_seconds=900, detach_deadline_seconds=600, error_settle_seconds=15)
SETTLED_AT = NOW + timedelta(seconds=15)
LATER = NOW + timedelta(hours=1)
START = told(attachment_id=ATTACHMENT, request_id=REQUEST)
END = told(Operation.ATTACH, Phase.END, attachment_id=ATTACHMENT)
CINDER_END = told(Operation.ATTACH, Phase.END, attachment_id=ATTACHMENT, request_id=REQUEST)
NOVA_START = told(request_id=REQUEST, instance_id=INSTANCE, source=Source.NOVA_VERSIONED)
NOVA_END, LEGACY_END = (
    told(Operation.ATTACH, Phase.END, request_id=REQUEST, instance_id=INSTANCE, source=source)
    for source in (Source.NOVA_VERSIONED, Source.NOVA_LEGACY)
)
DETACH_START = told(Operation.DETACH, attachment_id=ATTACHMENT, request_id="req-2")
DETACH_END = told(Operation.DETACH, Phase.END, request_id="req-2")
UNPROVEN_END = told(Operation.ATTACH, Phase.END, instance_id=INSTANCE, request_id="req-9")
EXCEPTION = told(None, Phase.ERROR, volume_id=None, request_id=REQUEST)

OPEN_STATES = [state for state in CaseState if state is not CaseState.CLOSED]
BEYOND_WAITING = [state for state in OPEN_STATES if state is not CaseState.WAITING]
FOR_A_PERSON = [CaseState.PARKED, CaseState.AWAITING_APPROVAL]
NOT_FOR_A_PERSON = [s for s in OPEN_STATES if s not in FOR_A_PERSON]


def after(
    notifications: Sequence[Notification],
    cases: Sequence[Case] = (),
    orphans: Sequence[Notification] = (),
    intents: dict[str, str] | None = None,
    now: datetime = NOW,
    *,
    claimed: Sequence[str] = (),
) -> Changes:
    """Correlate; new cases are called new-1, new-2, ..."""
    numbers = itertools.count(1)
    return correlate(
        Recorded(
            cloud="default",
            cases=tuple(cases),
            claimed=frozenset(claimed),
            orphans=tuple(Signal.of(o) for o in orphans),
            intents=intents or {},
        ),
        notifications,
        timing=TIMING,
        now=now,
        new_id=lambda: f"new-{next(numbers)}",
    )


def one(changes: Changes) -> Case:
    """Return the only case that was opened or changed."""
    (case,) = (*changes.opened, *(after for _, after in changes.changed))
    return case


# --- starts ---


@pytest.mark.parametrize(
    ("operation", "seconds"), [(Operation.ATTACH, 900), (Operation.DETACH, 600)]
)
def test_start_opens(operation: Operation, seconds: int) -> None:
    """A start without a case -> one that waits until its operation's deadline."""
    start = told(operation, attachment_id=ATTACHMENT)
    changes = after([start])
    case = one(changes)
    assert changes.opened == (case,)
    assert (case.state, case.trigger) == (CaseState.WAITING, Trigger.DEADLINE)
    assert case.next_attempt_at == NOW + timedelta(seconds=seconds)
    assert changes.filed == {start.message_id: case.case_id}


def test_start_repeated() -> None:
    """A repeated start -> it joins; the deadline stays where it was."""
    case = one(after([other(START)], [known()], now=LATER))
    assert case.next_attempt_at == known().next_attempt_at
    assert (case.state, case.starts) == (CaseState.WAITING, 2)


def test_detach_start() -> None:
    """A detach's start while the attach is open -> a case of its own."""
    changes = after([DETACH_START], [known()])
    assert [case.operation for case in changes.opened] == [Operation.DETACH]
    assert changes.changed == ()


def test_start_of_another() -> None:
    """A start of another attachment -> a case of its own."""
    changes = after([told(attachment_id="att-2", request_id=REQUEST)], [known()])
    assert [case.attachment_id for case in changes.opened] == ["att-2"]


@pytest.mark.parametrize("state", [CaseState.DUE, CaseState.SETTLING])
def test_start_beyond_waiting(state: CaseState) -> None:
    """A start of a case beyond waiting -> history, and a newer signal."""
    before = known(state=state, next_attempt_at=None)
    case = one(after([other(START)], [before]))
    assert (case.state, case.next_attempt_at) == (state, None)
    assert case.signal_seq == before.signal_seq + 1


def test_start_overtaken_by_its_end() -> None:
    """Another service's start of a case that its end closed -> its history; it stays closed."""
    closed = known(
        state=CaseState.CLOSED, conclusion=Conclusion.ENDED, next_attempt_at=None, starts=0
    )
    case = one(after([other(START)], [closed]))
    assert (case.case_id, case.state, case.starts) == (closed.case_id, CaseState.CLOSED, 1)


def test_repeated_start_overtaken_by_the_end() -> None:
    """Cinder's start again, after the end -> the case settles, as it would in order."""
    closed = known(
        state=CaseState.CLOSED, conclusion=Conclusion.ENDED, next_attempt_at=None, starts=1
    )
    case = one(after([other(START)], [closed]))
    assert (case.state, case.conclusion) == (CaseState.SETTLING, None)
    assert case.next_attempt_at == NOW + timedelta(seconds=TIMING.error_settle_seconds)


@pytest.mark.parametrize("conclusion", [c for c in Conclusion if c is not Conclusion.ENDED])
def test_start_after_judgement(conclusion: Conclusion) -> None:
    """A start for a case that was judged and closed -> a new one."""
    closed = known(state=CaseState.CLOSED, conclusion=conclusion, next_attempt_at=None)
    changes = after([other(START)], [closed])
    assert [case.state for case in changes.opened] == [CaseState.WAITING]


def test_end_kept_until_the_case_knows_its_attachment() -> None:
    """An end that names an attachment the case does not know yet -> its own once a start does."""
    nova = told(source=Source.NOVA_VERSIONED, instance_id=INSTANCE, request_id=REQUEST)
    changes = after([nova, START], orphans=[END])
    assert one(changes).end_seen
    assert changes.adopted == {END.message_id: "new-1"}


def test_messages_fill_in() -> None:
    """Messages that each know a part -> the case knows all of it."""
    nova = told(
        source=Source.NOVA_VERSIONED, instance_id=INSTANCE, request_id=REQUEST, host="compute1"
    )
    cinder = dataclasses.replace(START, backend="labhost@lab", attachments=(seen("reserved"),))
    end = dataclasses.replace(
        END,
        request_id="req-2",
        attachments=(seen("attached", host="compute1", connector=CONNECTOR),),
    )
    case = one(after([nova, cinder, end]))
    assert (case.attachment_id, case.instance_id) == (ATTACHMENT, INSTANCE)
    assert (case.host, case.backend, case.connector) == ("compute1", "labhost@lab", CONNECTOR)
    assert case.request_ids == (REQUEST, "req-2")


def test_foreign_attachment() -> None:
    """A message that shows another attachment's row -> nothing is filled in from it."""
    attachment = seen("attached", attachment_id="att-2", instance_id="inst-2", connector=CONNECTOR)
    case = one(after([dataclasses.replace(START, attachments=(attachment,))]))
    assert (case.connector, case.instance_id) == (None, None)


@pytest.mark.parametrize("state", FOR_A_PERSON)
def test_start_for_a_person(state: CaseState) -> None:
    """A new try of what a person has -> it stays there, and is looked at by the try's deadline."""
    before = known(state=state, next_attempt_at=NOW + timedelta(days=1))
    case = one(after([other(START)], [before]))
    assert (case.state, case.next_attempt_at) == (state, NOW + timedelta(seconds=900))
    sooner = known(state=state, next_attempt_at=NOW)
    assert one(after([other(START)], [sooner])).next_attempt_at == NOW


# --- errors ---


@pytest.mark.parametrize("state", NOT_FOR_A_PERSON)
def test_error_settles(state: CaseState) -> None:
    """An error of an open case -> due when errors have settled."""
    case = one(after([attach_error()], [known(state=state)]))
    assert (case.state, case.trigger) == (CaseState.DUE, Trigger.ERROR)
    assert case.next_attempt_at == SETTLED_AT


def test_error_not_later() -> None:
    """An error of a case that is due sooner -> it stays due sooner."""
    case = one(after([attach_error()], [known(state=CaseState.DUE, next_attempt_at=NOW)]))
    assert case.next_attempt_at == NOW


@pytest.mark.parametrize("state", FOR_A_PERSON)
def test_error_for_a_person(state: CaseState) -> None:
    """An error of a case that a person has -> it stays there, and is looked at when settled."""
    case = one(after([attach_error()], [known(state=state, next_attempt_at=None)]))
    assert (case.state, case.next_attempt_at, case.signal_seq) == (state, SETTLED_AT, 2)


@pytest.mark.parametrize("state", FOR_A_PERSON)
def test_sweep_of_the_other_operation(state: CaseState) -> None:
    """A sweep finds by its status what a person has by its messages -> no other case is opened."""
    found = told(Operation.ATTACH, Phase.ERROR, attachment_id=ATTACHMENT, source=Source.SWEEP)
    of_it = known(operation=Operation.DETACH, state=state, next_attempt_at=LATER)
    changes = after([found], [of_it])
    assert (changes.opened, changes.filed[found.message_id]) == ((), of_it.case_id)
    assert one(changes).next_attempt_at == LATER
    detaching = told(Operation.DETACH, Phase.ERROR, attachment_id=ATTACHMENT, source=Source.SWEEP)
    of_attach = known(state=state, next_attempt_at=LATER)
    assert after([detaching], [of_attach]).opened != (), "it does not know of the wish"
    elsewhere = dataclasses.replace(of_it, attachment_id="att-2")
    assert after([found], [elsewhere]).opened != ()


@pytest.mark.parametrize("state", [CaseState.DUE, CaseState.WAITING])
def test_sweep_of_the_other_operation_while_it_is_looked_at(state: CaseState) -> None:
    """The row of a detach that is open is seen by its status -> its case is due, and no other."""
    found = told(Operation.ATTACH, Phase.ERROR, attachment_id=ATTACHMENT, source=Source.SWEEP)
    of_it = known(operation=Operation.DETACH, state=state, next_attempt_at=LATER)
    changes = after([found], [of_it])
    assert (changes.opened, one(changes).state) == ((), CaseState.DUE)


@pytest.mark.parametrize("state", [CaseState.DUE, CaseState.PARKED, CaseState.SETTLING])
def test_sweep_finds_detaching_what_was_reset_by_hand(state: CaseState) -> None:
    """A person wrote the status, and a sweep sees `detaching` -> nobody is known to want it."""
    found = told(Operation.DETACH, Phase.ERROR, attachment_id=ATTACHMENT, source=Source.SWEEP)
    reset = known(state=state, trigger=Trigger.RESET, next_attempt_at=LATER)
    assert after([found], [reset]).opened == ()
    told_of = told(Operation.DETACH, Phase.START, attachment_id=ATTACHMENT)
    assert after([told_of], [reset]).opened != (), "a detach that begins is a wish"
    another = dataclasses.replace(reset, attachment_id="att-2")
    assert after([found], [another]).opened != ()


APART = {"attachment_id": None, "source": Source.SWEEP}


@pytest.mark.parametrize("operation", [Operation.ATTACH, Operation.DETACH])
@pytest.mark.parametrize("instance_id", [INSTANCE, None])
def test_sweep_of_the_whole_volume(operation: Operation, instance_id: str | None) -> None:
    """A block device or an access without a row, and a case of that volume -> a look of it."""
    found = told(Operation.ATTACH, Phase.ERROR, instance_id=instance_id, host="c-9", **APART)
    for state in FOR_A_PERSON:
        of_it = known(operation=operation, state=state, next_attempt_at=LATER, host=None)
        changes = after([found], [of_it])
        assert changes.opened == ()
        case = one(changes)
        assert (case.state, case.next_attempt_at) == (state, SETTLED_AT)
        assert case.host is None, "the access that was found need not be the attachment's"


def test_sweep_of_the_whole_volume_about_another_server() -> None:
    """A block device of a server, and a case of another server -> a case of its own."""
    found = told(Operation.ATTACH, Phase.ERROR, instance_id="another", **APART)
    assert after([found], [known(state=CaseState.PARKED)]).opened != ()


@pytest.mark.parametrize("state", FOR_A_PERSON)
def test_sweep_for_a_person(state: CaseState) -> None:
    """A sweep finds again the attachment that a person has -> no look: it is the same each time."""
    error = attach_error()
    found = dataclasses.replace(error, source=Source.SWEEP, attachment_id=ATTACHMENT)
    case = one(after([found], [known(state=state, next_attempt_at=LATER)]))
    assert (case.state, case.next_attempt_at) == (state, LATER)


def test_error_opens() -> None:
    """An error without a case -> one that is due when errors have settled."""
    changes = after([attach_error()])
    assert [(c.state, c.trigger) for c in changes.opened] == [(CaseState.DUE, Trigger.ERROR)]
    assert one(changes).next_attempt_at == SETTLED_AT


def test_exception_moves_all() -> None:
    """An error without a volume -> every open case of its request is due."""
    attach = known(case_id="a")
    detach = known(case_id="d", operation=Operation.DETACH, attachment_id="att-2")
    changes = after([EXCEPTION], [attach, detach, known(case_id="x", request_ids=("req-9",))])
    assert {c.case_id: c.state for _, c in changes.changed} == {
        "a": CaseState.DUE,
        "d": CaseState.DUE,
    }
    assert changes.filed == {EXCEPTION.message_id: "a"}


def test_exception_kept() -> None:
    """An error without volume or case -> kept; its later start opens a due case."""
    kept = after([EXCEPTION])
    assert (kept.opened, kept.filed) == ((), {EXCEPTION.message_id: None})
    started = after([START], orphans=[EXCEPTION])
    assert one(started).state is CaseState.DUE
    assert started.adopted == {EXCEPTION.message_id: "new-1"}


# --- ends ---


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(END, id="the same attachment, another request"),
        pytest.param(
            told(Operation.ATTACH, Phase.END, request_id=REQUEST), id="the same request, no row"
        ),
    ],
)
def test_end_closes(end: Notification) -> None:
    """A proven end of a case that waits -> closed, ended."""
    case = one(after([end], [known()]))
    assert (case.state, case.conclusion) == (CaseState.CLOSED, Conclusion.ENDED)
    assert (case.end_seen, case.next_attempt_at) == (True, None)


def test_end_after_repeats() -> None:
    """A proven end after a repeated start -> settles: the first try may finish late."""
    case = one(after([END], [known(starts=2)]))
    assert (case.state, case.end_seen) == (CaseState.SETTLING, True)
    assert case.next_attempt_at == SETTLED_AT


def test_end_that_nova_has_yet_to_say() -> None:
    """Cinder's end of what Nova began -> noted, and Nova's own is waited for until the deadline."""
    case = one(after([END], [known(nova_started=True)]))
    assert (case.state, case.end_seen) == (CaseState.WAITING, True)
    assert case.next_attempt_at == known().next_attempt_at


@pytest.mark.parametrize("source", [Source.NOVA_VERSIONED, Source.NOVA_LEGACY])
def test_end_that_nova_says(source: Source) -> None:
    """Nova's end, after Cinder's or before it -> closed, ended; Cinder's is then history."""
    nova = told(Operation.ATTACH, Phase.END, request_id=REQUEST, source=source)
    for order in ([END, nova], [nova, END]):
        case = one(after(order, [known(nova_started=True)]))
        assert (case.state, case.conclusion) == (CaseState.CLOSED, Conclusion.ENDED)


@pytest.mark.parametrize("order", list(itertools.permutations([START, NOVA_START, CINDER_END])))
def test_end_that_nova_never_says(order: Sequence[Notification]) -> None:
    """Both starts and Cinder's end, in whatever order, and no end of Nova's -> waited for."""
    case = one(after(order))
    assert (case.state, case.end_seen) == (CaseState.WAITING, True)
    assert case.next_attempt_at is not None


SECOND_START = told(attachment_id=ATTACHMENT, request_id=REQUEST)


@pytest.mark.parametrize(
    "order", list(itertools.permutations([START, SECOND_START, NOVA_START, CINDER_END]))
)
def test_end_among_repeated_starts(order: Sequence[Notification]) -> None:
    """Cinder's start twice, Nova's and Cinder's end, in whatever order -> it settles soon."""
    case = one(after(order))
    assert (case.state, case.starts, case.end_seen) == (CaseState.SETTLING, 2, True)
    assert case.next_attempt_at == SETTLED_AT


def test_repeated_start_of_a_claimed_case() -> None:
    """A repeated start when the end was seen and a worker has the case -> the worker decides."""
    before = known(nova_started=True, end_seen=True, starts=1)
    case = one(after([SECOND_START], [before], claimed=[before.case_id]))
    assert (case.state, case.signal_seq) == (CaseState.WAITING, before.signal_seq + 1)


ALL_FIVE = [START, NOVA_START, CINDER_END, NOVA_END, LEGACY_END]


@pytest.mark.parametrize("order", list(itertools.permutations(ALL_FIVE)))
def test_end_that_all_say(order: Sequence[Notification]) -> None:
    """What a healthy attach tells, in whatever order -> closed, ended."""
    case = one(after(order))
    assert (case.state, case.conclusion) == (CaseState.CLOSED, Conclusion.ENDED)
    assert case.next_attempt_at is None


def test_second_end() -> None:
    """Nova's own ends after that -> a newer signal, nothing else."""
    settling = known(state=CaseState.SETTLING, end_seen=True, next_attempt_at=SETTLED_AT)
    nova = told(Operation.ATTACH, Phase.END, request_id=REQUEST, instance_id=INSTANCE)
    case = one(after([nova], [settling]))
    assert (case.state, case.next_attempt_at) == (CaseState.SETTLING, SETTLED_AT)
    assert case.signal_seq == settling.signal_seq + 1


@pytest.mark.parametrize("state", BEYOND_WAITING)
def test_end_beyond_waiting(
    state: CaseState,
) -> None:
    """A proven end of a case beyond waiting -> noted, and due now."""
    case = one(after([END], [known(state=state, next_attempt_at=LATER)]))
    assert (case.state, case.end_seen) == (CaseState.DUE, True)
    assert (case.next_attempt_at, case.signal_seq) == (NOW, 2)


def test_end_in_hand() -> None:
    """A proven end of a waiting case in hand -> noted, the diagnosis decides."""
    case = one(after([END], [known()], claimed=[known().case_id]))
    assert (case.state, case.end_seen, case.signal_seq) == (CaseState.DUE, True, 2)


def test_unproven_end() -> None:
    """An unproven end of a waiting case -> looked at sooner, never closed."""
    case = one(after([UNPROVEN_END], [known()]))
    assert (case.state, case.trigger) == (CaseState.WAITING, Trigger.END)
    assert (case.next_attempt_at, case.end_seen) == (SETTLED_AT, False)


@pytest.mark.parametrize("state", BEYOND_WAITING)
def test_unproven_end_beyond_waiting(state: CaseState) -> None:
    """An unproven end of a case beyond waiting -> due when settled."""
    case = one(after([UNPROVEN_END], [known(state=state, next_attempt_at=None)]))
    assert (case.state, case.next_attempt_at) == (CaseState.DUE, SETTLED_AT)
    assert case.end_seen is False


def test_end_that_names_nothing() -> None:
    """An end that may be the only case's -> a look sooner, nothing learned; its start gets it."""
    end = told(Operation.ATTACH, Phase.END, request_id="req-9")
    changes = after([end], [known()])
    case = one(changes)
    assert (case.state, case.next_attempt_at) == (CaseState.WAITING, SETTLED_AT)
    assert (case.request_ids, case.end_seen) == (known().request_ids, False)
    assert changes.filed == {end.message_id: case.case_id}
    start = told(attachment_id="att-2", request_id="req-9")
    both = after([end, start], [known()])
    (opened,) = both.opened
    assert (opened.attachment_id, opened.only_ended) == ("att-2", True)
    assert set(both.filed.values()) == {opened.case_id}


def test_start_that_names_nothing() -> None:
    """A start in a request of its own that names nothing -> a case of its own, not the only one's.

    So does Cinder's start of a second server's attach, where it shows both rows.
    """
    changes = after([told(request_id="req-9")], [known()])
    assert [case.attachment_id for case in changes.opened] == [None]
    assert changes.changed == ()


def test_other_operation() -> None:
    """An end of the other operation -> the case is untouched."""
    changes = after([told(Operation.DETACH, Phase.END, attachment_id=ATTACHMENT)], [known()])
    assert (changes.opened, changes.changed) == ((), ())


def test_early_end() -> None:
    """An end without a case -> kept, and its start opens and closes at once."""
    kept = after([END])
    assert (kept.opened, kept.filed) == ((), {END.message_id: None})
    started = after([START], orphans=[END])
    assert [(c.state, c.conclusion) for c in started.opened] == [
        (CaseState.CLOSED, Conclusion.ENDED)
    ]
    assert started.adopted == {END.message_id: "new-1"}
    assert [move.after for move in started.moves] == [CaseState.WAITING, CaseState.CLOSED]


def test_early_end_in_batch() -> None:
    """An end before its start in one batch -> one closed case with both."""
    changes = after([END, START])
    assert one(changes).state is CaseState.CLOSED
    assert changes.filed == {END.message_id: "new-1", START.message_id: "new-1"}


def test_early_end_of_another() -> None:
    """A kept end of another attachment -> the start waits for its own."""
    changes = after([START], orphans=[dataclasses.replace(END, attachment_id="att-2")])
    assert one(changes).state is CaseState.WAITING
    assert changes.adopted == {}


def test_early_error_and_end() -> None:
    """A kept error and a kept end -> the error is not hidden by the end."""
    case = one(after([START], orphans=[END, EXCEPTION]))
    assert (case.state, case.end_seen) == (CaseState.DUE, True)


def test_end_after_close() -> None:
    """An end of a closed case -> its history; it does not close a later start."""
    closed = known(state=CaseState.CLOSED, conclusion=Conclusion.MENDED, next_attempt_at=None)
    late = other(START)
    changes = after([END, late], [closed])
    assert changes.filed[END.message_id] == closed.case_id
    assert [(c.case_id, c.state) for c in changes.opened] == [("new-1", CaseState.WAITING)]


# --- UC5 ---


def test_released() -> None:
    """A row released unasked, its attach case open -> that case is due."""
    case = one(after([released()], [known()]))
    assert (case.operation, case.state) == (Operation.ATTACH, CaseState.DUE)
    assert (case.released_unasked, case.trigger) == (True, Trigger.RELEASED_UNASKED)
    assert case.next_attempt_at == SETTLED_AT


def test_released_opens() -> None:
    """A row released unasked, no case -> an attach case that is due."""
    (case,) = after([released()]).opened
    assert (case.operation, case.state) == (Operation.ATTACH, CaseState.DUE)
    assert (case.released_unasked, case.attachment_id) == (True, ATTACHMENT)


def test_released_end() -> None:
    """The detach's end that follows -> history of the attach case; nothing closes."""
    end = told(Operation.DETACH, Phase.END, request_id=REQUEST)
    changes = after([released(), end])
    case = one(changes)
    assert (case.state, case.trigger) == (CaseState.DUE, Trigger.RELEASED_UNASKED)
    assert changes.filed[end.message_id] == case.case_id


def test_released_early_end() -> None:
    """The detach's end overtook the signature -> adopted as history."""
    end = told(Operation.DETACH, Phase.END, request_id=REQUEST)
    changes = after([released()], orphans=[end])
    assert one(changes).state is CaseState.DUE
    assert changes.adopted == {end.message_id: "new-1"}


def test_released_detach_case() -> None:
    """A detach case of the same request is open -> the detach's end is its own."""
    detach = known(case_id="d", operation=Operation.DETACH)
    end = told(Operation.DETACH, Phase.END, request_id=REQUEST)
    changes = after([released(), end], [detach])
    assert changes.filed[end.message_id] == "d"


def test_released_not_elsewhere() -> None:
    """Another attachment's detach is open -> the end does not stray to it."""
    elsewhere = known(
        case_id="d", operation=Operation.DETACH, attachment_id="att-2", request_ids=("req-9",)
    )
    end = told(Operation.DETACH, Phase.END, request_id=REQUEST)
    changes = after([end], [known(released_unasked=True, state=CaseState.DUE), elsewhere])
    assert changes.filed[end.message_id] == "case-1"


@pytest.mark.parametrize("state", FOR_A_PERSON)
def test_released_parked(state: CaseState) -> None:
    """UC5's signature for a parked case -> noted; the end that follows moves it."""
    parked = known(state=state, next_attempt_at=None)
    noted = one(after([released()], [parked]))
    assert (noted.state, noted.released_unasked) == (state, True)
    moved = one(after([told(Operation.DETACH, Phase.END, request_id=REQUEST)], [noted]))
    assert moved.state is CaseState.DUE


OLD_END = told(Operation.DETACH, Phase.END, publisher_id="volume.labhost", request_id=REQUEST)
"""How an older Cinder ends what its API deleted without asking the backend: no start came."""


def test_released_without_a_start() -> None:
    """The end of a detach that none began, of the request of a failed attach -> suspected, due."""
    changes = after([OLD_END], [known()])
    case = one(changes)
    assert (case.state, case.trigger) == (CaseState.DUE, Trigger.RELEASED_UNASKED)
    assert (case.released_unasked, case.next_attempt_at) == (True, SETTLED_AT)
    assert changes.filed[OLD_END.message_id] is None, "its start may still come"


@pytest.mark.parametrize(
    ("case", "end"),
    [
        (known(starts=0), OLD_END),
        (known(end_seen=True, state=CaseState.DUE), OLD_END),
        (known(attachment_id=None), OLD_END),
        (known(request_ids=("req-9",)), OLD_END),
        (known(), dataclasses.replace(OLD_END, attachments=(seen("reserved"),))),
        (known(), dataclasses.replace(OLD_END, source=Source.NOVA_LEGACY)),
        (known(), dataclasses.replace(OLD_END, publisher_id="volume.labhost@lab")),
    ],
    ids=[
        "the backend was never asked", "the attach ended well", "which row is not known",
        "of another request", "the row is there still", "Nova says so", "the backend says so",
    ],
)  # fmt: skip
def test_not_released_without_a_start(case: Case, end: Notification) -> None:
    """One thing otherwise -> nothing is suspected."""
    changes = after([end], [case])
    assert not any(changed.released_unasked for _, changed in changes.changed)


def test_not_released_beside_another_detach() -> None:
    """Two attaches of the request, or a detach case that the end may be of -> not suspected."""
    twin = known(case_id="twin", attachment_id="att-2")
    detach = known(case_id="d", operation=Operation.DETACH, request_ids=("req-9",))
    for beside in (twin, detach):
        changes = after([OLD_END], [known(), beside])
        assert not any(changed.released_unasked for _, changed in changes.changed)


def test_released_without_a_start_and_before_the_attach() -> None:
    """That end overtook the attach's own start -> suspected as well."""
    start = told(
        Operation.ATTACH, attachments=(seen("reserved"),), attachment_id=ATTACHMENT,
        request_id=REQUEST,
    )  # fmt: skip
    (case,) = after([start], orphans=[OLD_END]).opened
    assert (case.released_unasked, case.state) == (True, CaseState.DUE)


@pytest.mark.parametrize("status", ["attaching", "attached"])
def test_released_start_comes_late(status: str) -> None:
    """The backend's own start comes after the end -> it was asked: no suspicion is left."""
    start = told(
        Operation.DETACH, publisher_id="volume.labhost@lab", attachments=(seen(status),),
        attachment_id=ATTACHMENT, request_id=REQUEST,
    )  # fmt: skip
    changes = after([OLD_END, start], [known()])
    attach = next(c for _, c in changes.changed if c.operation is Operation.ATTACH)
    assert not attach.released_unasked
    (detach,) = changes.opened
    assert detach.end_seen, "its end was kept for it"


def test_released_start_of_the_api_comes_late() -> None:
    """The same, and the start is the API's: UC5's signature -> suspected as before."""
    assert one(after([OLD_END, released()], [known()])).released_unasked


def test_ordinary_detach() -> None:
    """An ordinary detach from start to end -> closed; the attach case is untouched."""
    changes = after([DETACH_START, DETACH_END], [known()])
    (detach,) = changes.opened
    assert (detach.operation, detach.state) == (Operation.DETACH, CaseState.CLOSED)
    assert changes.changed == ()


# --- our own calls ---


@pytest.mark.parametrize(
    "notification",
    [
        told(attachment_id="att-9", request_id="req-ours"),
        told(Operation.DETACH, Phase.END, attachment_id=ATTACHMENT, own_request_id="req-ours"),
        attach_error(request_id="req-ours"),
    ],
)
def test_own_call(
    notification: Notification,
) -> None:
    """A message that our own call caused -> history of its case, nothing moves."""
    changes = after([notification], [known()], intents={"req-ours": "case-1"})
    assert (changes.opened, changes.changed, changes.moves) == ((), (), ())
    assert changes.filed == {notification.message_id: "case-1"}


# --- what cannot be ---


@pytest.mark.parametrize("missing", [{"operation": None}, {"volume_id": None}])
def test_incomplete(missing: dict[str, None]) -> None:
    """A start without operation or volume -> refused by its message id."""
    start = dataclasses.replace(START, **missing)
    with pytest.raises(ValueError, match=start.message_id):
        after([start])


def test_request_ids_bounded() -> None:
    """Request ids without end -> the case keeps the 50 seen last."""
    starts = [told(attachment_id=ATTACHMENT, own_request_id=f"req-{n}") for n in range(80)]
    case = one(after([START, *starts, other(START)]))
    assert len(case.request_ids) == 50
    assert case.request_ids[-1] == REQUEST, "seen last"


# --- a status that was written by hand ---

ROW = NotifiedAttachment(ATTACHMENT, "attached", INSTANCE, None, None)
RESET = dataclasses.replace(
    told(Operation.ATTACH, Phase.ERROR, attachment_id=ATTACHMENT, instance_id=INSTANCE),
    event_type="volume.reset_status.start",
    attachments=(ROW,),
    volume_status="in-use",
)
RESET_DONE = dataclasses.replace(
    told(Operation.ATTACH, Phase.ERROR, request_id=RESET.request_id),
    event_type="volume.reset_status.end",
    volume_status="available",
)


@pytest.mark.parametrize("order", [[RESET, RESET_DONE], [RESET_DONE, RESET]])
def test_reset_opens(order: Sequence[Notification]) -> None:
    """A status is reset on a volume with a row -> one case, due soon, no end seen."""
    case = one(after(order))
    assert (case.state, case.attachment_id, case.end_seen) == (CaseState.DUE, ATTACHMENT, False)
    assert case.next_attempt_at == SETTLED_AT


@pytest.mark.parametrize("state", OPEN_STATES)
@pytest.mark.parametrize("operation", list(Operation))
def test_reset_joins(operation: Operation, state: CaseState) -> None:
    """A reset while the volume has an open case, parked ones too -> that case is due."""
    case = one(after([RESET], [known(operation=operation, state=state)]))
    assert (case.case_id, case.state) == (known().case_id, CaseState.DUE)


def test_reset_that_shows_no_row() -> None:
    """Reset to available or in-use, no row is shown -> a case: a host may still be let in."""
    for status in ("available", "in-use"):
        case = one(after([dataclasses.replace(RESET_DONE, volume_status=status)]))
        assert (case.state, case.trigger) == (CaseState.DUE, Trigger.RESET)


def test_attach_after_a_reset() -> None:
    """A volume whose rows a reset dropped is attached to the next server -> still one case."""
    changes = after([RESET_DONE, START])
    case = one(changes)
    assert (case.state, case.attachment_id) == (CaseState.DUE, ATTACHMENT)


# --- what a batch costs ---


@pytest.mark.parametrize("phase", [Phase.START, Phase.ERROR])
def test_batch_of_many_volumes(phase: Phase) -> None:
    """Four times as many volumes in a batch -> four times the work, not sixteen times."""
    few, many = (_calls_made(_of_many_volumes(phase, number)) for number in (50, 200))
    assert many <= 4.2 * few


def _of_many_volumes(phase: Phase, number: int) -> list[Notification]:
    """Return an attach of each of so many volumes that began or failed, and its end."""
    message = told(Operation.ATTACH, phase, attachment_id=ATTACHMENT, request_id=REQUEST)
    begun = [
        dataclasses.replace(message, message_id=f"begun-{n}", volume_id=f"vol-{n}")
        for n in range(number)
    ]
    ends = [dataclasses.replace(END, message_id=f"end-{n}", volume_id=f"vol-{n}")
            for n in range(number)]  # fmt: skip
    return [*begun, *ends]


def _calls_made(notifications: Sequence[Notification]) -> int:
    profile = cProfile.Profile()
    profile.runcall(after, notifications)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
