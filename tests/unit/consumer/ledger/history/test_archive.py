"""What is over is moved out of the way, whole, and comes back where it is asked for."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from consumer.ledger import (
    Archived,
    CaseRecord,
    Filter,
    HistoryKind,
    Ledger,
    NoSuchCaseError,
    Pruned,
    Replay,
    Replayed,
    WrongStateError,
)
from consumer.ledger.database.engine import LOCK_WAIT_SECONDS
from consumer.ledger.database.tables import (
    ARCHIVE_OF,
    cases,
    claims,
    history,
    metadata,
    notifications,
)
from handlers.case import CaseState, ClaimLostError
from handlers.notification import Operation, Phase
from tests.unit.consumer.ledger.ageing import (
    DAY,
    OF_A_CASE,
    age,
    counted,
    finish_all,
    finished_volumes,
    send_all,
    worked,
)
from tests.unit.consumer.ledger.making import (
    accept,
    arrival,
    at_once,
    attach_error,
    claim_one,
    due_case,
    make_due,
    outcome,
    renew,
    told,
)

ARCHIVE = tuple(ARCHIVE_OF[table] for table in OF_A_CASE)


def archived(ledger: Ledger, **fields: object) -> CaseRecord:
    """Make a case, let it end and be told of, put it away; return what it was before."""
    claim = worked(ledger, **fields)
    send_all(ledger)
    age(ledger, 3)
    record = ledger.case(claim.case.case_id)
    assert ledger.archive(2 * DAY, limit=100).cases == 1
    return record


def sent(delivery_id: str = "replay:1") -> Replay:
    """Return a replay."""
    return Replay(delivery_id, "0" * 64, "replay", "alice", "again")


def everything(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables."""
    with ledger._database.engine.connect() as connection:
        return {
            table.name: sorted((tuple(r) for r in connection.execute(sa.select(table))), key=str)
            for table in metadata.tables.values()
        }


# --- what is moved ------------------------------------------------------------------------------


def test_moved_whole(ledger: Ledger) -> None:
    """A case that was closed 3 days ago, archive 2 -> all its rows are there, none is here."""
    before = worked(ledger)
    send_all(ledger)
    rows = counted(ledger, *OF_A_CASE)
    age(ledger, 3)
    record = ledger.case(before.case.case_id)
    assert ledger.archive(2 * DAY, limit=100) == Archived(cases=1)
    assert counted(ledger, *OF_A_CASE) == [0] * 5
    assert counted(ledger, *ARCHIVE) == rows
    assert ledger.case(before.case.case_id) == record
    assert ledger.archive(2 * DAY, limit=100) == Archived()


def test_another_cloud_is_left_alone(ledger: Ledger, ledger_url: str) -> None:
    """Two clouds in one database -> each moves, sees and sends round its own only."""
    worked(ledger)
    send_all(ledger)
    age(ledger, 3)
    with contextlib.closing(Ledger(ledger_url, cloud="other")) as other:
        assert other.archive(DAY, limit=100) == Archived()
        (case,) = ledger.cases()
        assert ledger.archive(DAY, limit=100).cases == 1
        assert other.cases() == ()
        with pytest.raises(NoSuchCaseError):
            other.replay(sent(), case.case_id)
        assert other.prune(0.0, limit=100) == Pruned()


def test_message_without_a_case_is_forgotten(ledger: Ledger) -> None:
    """Messages whose start never came -> forgotten when they are old; the younger ones stay."""
    accept(ledger, told(Operation.DETACH, Phase.END, volume_id="vol-8"))
    age(ledger, 3)
    accept(ledger, told(Operation.DETACH, Phase.END, volume_id="vol-9"))
    assert ledger.archive(2 * DAY, limit=100) == Archived(forgotten=1)
    assert counted(ledger, notifications, *ARCHIVE) == [1, 0, 0, 0, 0, 0]


def test_in_small_batches(ledger: Ledger) -> None:
    """More than fits into one batch -> the oldest first; told that there may be more."""
    finished_volumes(ledger, 5)
    done = [ledger.archive(DAY, limit=2) for _ in range(3)]
    assert [(a.cases, a.full) for a in done] == [(2, True), (2, True), (1, False)]
    assert counted(ledger, *ARCHIVE[:2]) == [5, 5]


# --- what it means ------------------------------------------------------------------------------


def test_repetition_of_an_archived_message_is_news(ledger: Ledger) -> None:
    """An error comes once more after its case was archived -> a case of its own, the old one stays.

    While it was not archived, it was known.
    """
    error = attach_error()
    accept(ledger, error)
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    assert ledger.accept([arrival(error)]).duplicates == 1
    age(ledger, 3)
    assert ledger.archive(2 * DAY, limit=100).cases == 1
    accepted = ledger.accept([arrival(error)])
    assert (accepted.stored, accepted.opened) == (1, 1)
    assert sorted(case.state.value for case in ledger.cases()) == ["closed", "due"]


def test_end_for_an_archived_case_is_nobody_s(ledger: Ledger) -> None:
    """The end of an operation whose case is archived -> kept for its start, as any unknown end."""
    record = archived(ledger)
    end = told(Operation.ATTACH, Phase.END, attachment_id="att-1", request_id="req-1")
    accept(ledger, end)
    assert ledger.case(record.case.case_id) == record
    assert counted(ledger, cases, notifications) == [0, 1]


def test_volume_that_comes_back_gets_a_new_fence(ledger: Ledger) -> None:
    """All of a volume is archived, and it is met again -> its fences go on above the old ones."""
    claim = worked(ledger)
    send_all(ledger)
    age(ledger, 3)
    assert ledger.archive(2 * DAY, limit=100).cases == 1
    assert counted(ledger, claims) == [_gates(ledger)]
    due_case(ledger, request_id="req-new")
    again = claim_one(ledger)
    assert again.fence > claim.fence
    with pytest.raises(ClaimLostError):
        ledger.finish(claim, outcome(CaseState.CLOSED))


def test_volume_in_hand_stays_claimed(ledger: Ledger) -> None:
    """An old case is archived while another of its volume is worked -> the claim holds on."""
    old = worked(ledger)
    send_all(ledger)
    age(ledger, 3)
    due_case(ledger, request_id="req-new")
    claim = claim_one(ledger)
    assert ledger.archive(2 * DAY, limit=100).cases == 1
    renew(ledger, claim, 600)
    ledger.finish(claim, outcome(CaseState.CLOSED))
    assert ledger.case(old.case.case_id).case.state is CaseState.CLOSED


def _gates(ledger: Ledger) -> int:
    gate = sa.select(sa.func.count()).where(claims.c.volume_id == "")
    return ledger._database.read(lambda c: c.execute(gate).scalar_one())


# --- what people see ----------------------------------------------------------------------------


def test_listed_with_the_others(ledger: Ledger) -> None:
    """Cases here and in the archive -> one list, the newest first, narrowed as ever."""
    finished_volumes(ledger, 3)
    ledger.archive(DAY, limit=2)
    parked = worked(ledger, CaseState.PARKED, volume_id="vol-9", backend="h@b", request_id="r9")
    before = [c.case_id for c in ledger.cases()]
    send_all(ledger)
    age(ledger, 50)
    due_case(ledger, volume_id="vol-10", request_id="r10")
    assert ledger.archive(DAY, limit=9).cases == 1
    newest, *others = ledger.cases()
    assert newest.volume_id == "vol-10"
    assert [c.case_id for c in others] == before
    assert [c.case_id for c in ledger.cases(limit=3)] == [newest.case_id, *before[:2]]
    assert [c.case_id for c in ledger.cases(state=CaseState.PARKED)] == [parked.case.case_id]
    of_backend = ledger.list_cases(Filter(backend="h@b")).cases
    assert [c.case_id for c in of_backend] == [parked.case.case_id]
    assert [c.volume_id for c in ledger.cases(volume_id="vol-1")] == ["vol-1"]
    assert len(ledger.cases(state=CaseState.CLOSED)) == 3
    # For a person: what is parked first, what is closed last, page by page the same.
    listing = ledger.list_cases(Filter())
    assert [c.volume_id for c in listing.cases[:2]] == ["vol-9", "vol-10"]
    assert listing.total == len(listing.cases) == 5
    pages = [ledger.list_cases(Filter(limit=2, skip=n)).cases for n in (0, 2, 4)]
    assert [c.case_id for page in pages for c in page] == [c.case_id for c in listing.cases]
    # Both begin with it.
    assert ledger.list_cases(Filter(volume="vol-1")).total == 2
    assert ledger.list_cases(Filter(rule="none")).total == 0
    assert ledger.list_cases(Filter(since=newest.opened_at)).cases == (newest,)
    assert ledger.backends_on_record() == ("h@b", *ledger.backends_on_record()[1:])
    assert ledger.list_cases(Filter(project="none")).total == 0
    counts = ledger.counts_by_backend()
    assert counts["h@b"][CaseState.PARKED].count == 1
    assert sum(n.count for by in counts.values() for n in by.values()) == 2
    assert sum(count.count for count in ledger.counts().values()) == 2


def test_shown_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    """The beginning of the id of an archived case -> it; of one here and one there -> told so."""
    record = archived(ledger)
    case_id = record.case.case_id
    assert ledger.case(case_id[:8].upper()) == record
    other = due_case(ledger, volume_id="vol-2")
    with ledger._database.engine.begin() as connection:
        for table in (notifications, history):
            connection.execute(table.delete())
        twin = cases.update().where(cases.c.case_id == other)
        connection.execute(twin.values(case_id=f"{case_id[:8]}-twin"))
    with pytest.raises(NoSuchCaseError, match="several cases begin with"):
        ledger.case(case_id[:8])


def test_archived_case_is_not_to_be_approved(ledger: Ledger) -> None:
    """Approve what is archived -> refused for its state, and it stays where it is."""
    case_id = archived(ledger).case.case_id
    before = everything(ledger)
    with pytest.raises(WrongStateError, match=f"{case_id} is closed"):
        ledger.approve(case_id[:8], "alice", "", plan="f" * 64)
    assert everything(ledger) == before


# --- coming back --------------------------------------------------------------------------------


def test_archived_case_goes_round_again(ledger: Ledger) -> None:
    """A person replays an archived case -> here again, whole, due now, and worked as any other."""
    before = archived(ledger)
    case_id = before.case.case_id
    due_case(ledger, volume_id="vol-2", request_id="req-2")  # whose numbers are the old one's
    ledger.finish(claim_one(ledger), outcome(CaseState.PARKED))
    assert ledger.replay(sent(), case_id[:8]) == Replayed(case_id, CaseState.CLOSED)
    assert counted(ledger, *ARCHIVE) == [0] * 5
    record = ledger.case(case_id)
    assert record.case.state is CaseState.DUE
    assert record.history[:-1] == before.history
    assert record.history[-1].kind is HistoryKind.REARMED
    assert (record.notifications, record.intents, record.outbox) == (
        before.notifications, before.intents, before.outbox,
    )  # fmt: skip
    again = claim_one(ledger)
    assert again.case.case_id == case_id
    assert again.case.intents == before.case.intents
    ledger.finish(again, outcome(CaseState.CLOSED))
    assert ledger.case(case_id).history[-1].kind is HistoryKind.CONCLUDED
    age(ledger, 3)
    ended = ledger.case(case_id)
    assert ledger.archive(2 * DAY, limit=9).cases == 1
    assert ledger.case(case_id) == ended


def test_the_same_replay_twice(ledger: Ledger) -> None:
    """One replay of an archived case, delivered twice, archived in between -> done once."""
    case_id = archived(ledger).case.case_id
    assert not ledger.replay(sent(), case_id).repeated
    assert ledger.replay(sent(), case_id).repeated
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    age(ledger, 3)
    assert ledger.archive(2 * DAY, limit=9).cases == 1
    assert ledger.replay(sent(), case_id).repeated
    assert counted(ledger, cases, claims) == [0, _gates(ledger)], "no row of the volume either"


def test_message_that_came_again_meanwhile_stays_where_it_is(ledger: Ledger) -> None:
    """An archived case's message was filed anew, then the case is replayed -> each in one place."""
    error = attach_error()
    accept(ledger, error)
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    (old,) = ledger.cases()
    age(ledger, 3)
    assert ledger.archive(2 * DAY, limit=9).cases == 1
    accept(ledger, error)
    (new,) = ledger.cases(state=CaseState.DUE)
    ledger.replay(sent(), old.case_id)
    found = {case_id: ledger.case(case_id).notifications for case_id in (old.case_id, new.case_id)}
    assert [len(told) for told in found.values()] == [0, 1]
    assert counted(ledger, *ARCHIVE) == [0] * 5


def test_original_of_an_archived_case_opens_another(ledger: Ledger) -> None:
    """An original notification is replayed whose case is archived -> as one never seen."""
    error = attach_error()
    accept(ledger, error)
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    age(ledger, 3)
    assert ledger.archive(2 * DAY, limit=9).cases == 1
    assert ledger.replay(sent(), error).before is None


# --- forgetting ---------------------------------------------------------------------------------


def test_forgotten_from_the_archive(ledger: Ledger) -> None:
    """Archived and older than retention -> no row is left; one younger, and one here, are."""
    archived(ledger)
    age(ledger, 80)
    younger = archived(ledger, volume_id="vol-2", request_id="req-2")
    age(ledger, 10)
    worked(ledger, volume_id="vol-3", request_id="req-3")
    rows = counted(ledger, *ARCHIVE)
    assert ledger.prune(90 * DAY, limit=100) == Pruned(cases=1, notifications=1)
    assert [2 * n for n in counted(ledger, *ARCHIVE)] == rows
    assert {case.volume_id for case in ledger.cases()} == {"vol-2", "vol-3"}
    assert ledger.case(younger.case.case_id).intents == younger.intents
    assert ledger.prune(90 * DAY, limit=100) == Pruned()


def test_forgotten_in_small_batches(ledger: Ledger) -> None:
    """More in the archive than fits into one batch -> told that there may be more."""
    finished_volumes(ledger, 3)
    ledger.archive(DAY, limit=9)
    done = [ledger.prune(90 * DAY, limit=2) for _ in range(2)]
    assert [(p.cases, p.full) for p in done] == [(2, True), (1, False)]
    assert counted(ledger, *ARCHIVE) == [0] * 5


def test_forgotten_at_the_moment_of_its_replay(ledger: Ledger, second: Ledger) -> None:
    """One replays what another forgets just then -> whole and due, or gone, and told so."""
    for number in range(8):
        record = archived(ledger, volume_id=f"vol-{number}", request_id=f"req-{number}")
        replay = _either(ledger, sent(f"replay:{number}"), record.case.case_id)
        forgotten, came_back = at_once(lambda: second.prune(0.0, limit=9).cases, replay)
        assert (forgotten, came_back) in [(1, False), (0, True)]
        assert counted(ledger, *ARCHIVE) == [0] * 5
        assert counted(ledger, notifications) == [int(bool(came_back))]
        if came_back:
            ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
            time.sleep(0.01)
            assert ledger.prune(0.0, limit=9).cases == 1


def _either(ledger: Ledger, replay: Replay, case_id: str) -> Callable[[], bool]:
    def work() -> bool:
        try:
            return ledger.replay(replay, case_id).before is CaseState.CLOSED
        except NoSuchCaseError:
            return False

    return work


# --- beside everything else ---------------------------------------------------------------------


def test_two_move_at_once(ledger: Ledger, second: Ledger) -> None:
    """Two replicas move at the same time -> each case is moved once, whole, and none is left."""
    finished_volumes(ledger, 60)
    rows = counted(ledger, *OF_A_CASE)

    def work(mine: Ledger) -> Callable[[], int]:
        return lambda: sum(mine.archive(DAY, limit=7).cases for _ in range(12))

    done = at_once(work(ledger), work(second))
    while (more := ledger.archive(DAY, limit=100).cases) > 0:
        done.append(more)
    assert sum(int(str(number)) for number in done) == 60
    assert counted(ledger, *OF_A_CASE) == [0] * 5
    assert counted(ledger, *ARCHIVE) == rows


def test_killed_at_any_moment(ledger: Ledger) -> None:
    """The process dies before any of the statements of a move -> all has been moved, or nothing."""
    finished_volumes(ledger, 3)
    before = _without_gate(ledger)
    ends = []
    for number in itertools.count(1):
        with _dying(ledger, number) as alive, contextlib.suppress(_DeadError):
            ledger.archive(DAY, limit=9)
        if alive():
            break
        ends.append(_without_gate(ledger) == before)
        assert ends[-1] or counted(ledger, *OF_A_CASE) == [0] * 5, number
    assert ends.count(True) > 10
    assert counted(ledger, *OF_A_CASE) == [0] * 5
    assert counted(ledger, *ARCHIVE[:2]) == [3, 3]


def _without_gate(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    rows = everything(ledger)
    return rows | {"claims": [row for row in rows["claims"] if row[1]]}


def test_replay_killed_at_any_moment(ledger: Ledger) -> None:
    """The process dies before any of the statements of a replay -> the case is where it was."""
    case_id = archived(ledger).case.case_id
    before = everything(ledger)
    for number in itertools.count(1):
        with _dying(ledger, number) as alive, contextlib.suppress(_DeadError):
            ledger.replay(sent(), case_id)
        if alive():
            break
        assert everything(ledger) == before, number
    assert number > 10
    assert ledger.case(case_id).case.state is CaseState.DUE


class _DeadError(BaseException):
    """The process dies here."""


@contextlib.contextmanager
def _dying(ledger: Ledger, number: int) -> Iterator[Callable[[], bool]]:
    """Let it die before its so many-th statement; tell whether it has lived on."""
    left = itertools.count(number - 1, -1)
    died = threading.Event()

    def die(*_: object) -> None:
        if next(left) == 0:
            died.set()
            raise _DeadError

    event.listen(ledger._database.engine, "before_cursor_execute", die)
    try:
        yield lambda: not died.is_set()
    finally:
        event.remove(ledger._database.engine, "before_cursor_execute", die)


def test_volumes_that_come_back_while_they_are_moved(ledger: Ledger, second: Ledger) -> None:
    """New errors of the very volumes whose cases are moved -> each is worked, by one."""
    finished_volumes(ledger, 40)
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            second.archive(DAY, limit=3)

    def come_back() -> list[str]:
        try:
            for n in range(40):
                accept(ledger, attach_error(volume_id=f"vol-{n}", request_id=f"new-{n}"))
            make_due(ledger)
            return finish_all(ledger, 40)
        finally:
            stop.set()

    _, worked_on = at_once(move, come_back)
    assert sorted(worked_on) == sorted(f"vol-{n}" for n in range(40))
    while ledger.archive(DAY, limit=100).cases:
        pass
    assert counted(ledger, cases, ARCHIVE_OF[cases]) == [40, 40]
    assert len(ledger.cases(limit=100)) == 80


def test_shown_while_it_is_moved(ledger: Ledger, second: Ledger) -> None:
    """One looks at a case again and again while it is moved -> it is always there, and whole."""
    for number in range(6):
        claim = worked(ledger, volume_id=f"vol-{number}", request_id=f"req-{number}")
        send_all(ledger)
        age(ledger, 3)
        record = ledger.case(claim.case.case_id)
        stop = threading.Event()

        def look(case_id: str, seen: threading.Event) -> list[CaseRecord]:
            found = [second.case(case_id)]
            while not seen.is_set():
                found.append(second.case(case_id))
                assert case_id in {case.case_id for case in second.cases()}
            return found

        def move(seen: threading.Event) -> None:
            try:
                assert ledger.archive(2 * DAY, limit=9).cases == 1
            finally:
                seen.set()

        looks, _ = at_once(lambda i=claim.case.case_id, s=stop: look(i, s), lambda s=stop: move(s))
        assert all(found == record for found in looks)  # type: ignore[attr-defined]


def test_locked_volume_is_passed_over(ledger: Ledger, second: Ledger) -> None:
    """A listener holds a volume -> moving does not wait for it, and takes the others."""
    if ledger._database.file is not None:
        pytest.skip("SQLite has one writer: it is waited for")
    finished_volumes(ledger, 2)
    row = sa.select(claims).where(claims.c.volume_id == "vol-0").with_for_update()
    with ledger._database.engine.begin() as connection:
        connection.execute(row)
        began = time.monotonic()
        assert second.archive(DAY, limit=10).cases == 1
        assert time.monotonic() - began < LOCK_WAIT_SECONDS
    assert second.archive(DAY, limit=10).cases == 1


def test_listed_by_project_here_and_in_the_archive(ledger: Ledger) -> None:
    """Two cases of a project, one archived -> both by the project, and no other's."""
    for number, project in enumerate(("p-1", "p-2")):
        worked(ledger, volume_id=f"vol-{number}", request_id=f"r{number}", project_id=project)
    send_all(ledger)
    age(ledger, 50)
    assert ledger.archive(DAY, limit=9).cases == 2
    due_case(ledger, volume_id="vol-2", request_id="r2", project_id="p-1")
    due_case(ledger, volume_id="vol-3", request_id="r3")
    listing = ledger.list_cases(Filter(project="p-1"))
    assert [case.volume_id for case in listing.cases] == ["vol-2", "vol-0"]
    assert listing.total == 2
