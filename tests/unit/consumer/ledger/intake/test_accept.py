"""Taking notifications in, on each database: hop 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from consumer.ledger import Accepted, Ledger
from consumer.ledger.database.tables import connectors, history
from handlers.case import CaseState, Conclusion, StepKind
from handlers.notification import Notification, Operation, Phase, Source
from tests.unit.consumer.ledger.breaking import slow_down
from tests.unit.consumer.ledger.making import (
    ATTACHMENT,
    CONNECTOR,
    REQUEST,
    VOLUME,
    accept,
    age_notifications,
    arrival,
    at_once,
    attach_error,
    claim_one,
    due_case,
    ids,
    make_due,
    other,
    outcome,
    places,
    seen,
    told,
)

START = told(attachment_id=ATTACHMENT, request_id=REQUEST)
END = told(Operation.ATTACH, Phase.END, attachment_id=ATTACHMENT)
NOVA_START, NOVA_END = (
    told(Operation.ATTACH, phase, request_id=REQUEST, source=Source.NOVA_VERSIONED)
    for phase in (Phase.START, Phase.END)
)
EXCEPTION = told(None, Phase.ERROR, volume_id=None, request_id=REQUEST)
MANY = 20


def dialect(ledger: Ledger) -> str:
    """Return which database this is."""
    return ledger._database.engine.dialect.name


def test_stored(ledger: Ledger) -> None:
    """A notification with everything in it -> read back equal, with where it came from."""
    notification = told(
        attachment_id=ATTACHMENT,
        instance_id="inst-1",
        request_id=REQUEST,
        own_request_id="req-own",
        host="compute1",
        backend="labhost@lab",
        volume_status="reserved",
        project_id="p",
        user_id="u",
        fault="ClientException: größer als \N{SNOWMAN}",
        attachments=(seen("attached", host="compute1", connector=CONNECTOR), seen("reserved")),
        published_at=datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
    )
    came = arrival(notification)
    accept(ledger, notification)
    (case,) = ledger.cases()
    (record,) = ledger.case(case.case_id).notifications
    assert record.notification == notification
    assert (record.body_sha256, record.bus) == (came.body_sha256, came.bus)
    assert case.opened_at == record.received_at


def test_healthy_pair(ledger: Ledger) -> None:
    """A start and, in a later batch, its end -> one case, opened and closed, both in it."""
    assert ledger.accept([arrival(START)]) == Accepted(stored=1, opened=1)
    assert ledger.accept([arrival(END)]) == Accepted(stored=1, closed=1)
    (case,) = ledger.cases()
    assert (case.state, case.conclusion) == (CaseState.CLOSED, Conclusion.ENDED)
    assert case.closed_at is not None
    assert set(places(ledger).values()) == {case.case_id}


def test_empty_batch(ledger: Ledger) -> None:
    """Nothing to accept -> nothing stored, no error."""
    assert ledger.accept([]) == Accepted()


def test_duplicates(ledger: Ledger) -> None:
    """The same message twice in a batch and again later -> stored once, counted, no signal."""
    assert ledger.accept([arrival(START), arrival(START)]) == Accepted(1, 1, 1)
    assert ledger.accept([arrival(START), arrival(END)]) == Accepted(1, 1, 0, 1)
    assert ledger.accept([arrival(START)]) == Accepted(duplicates=1)
    assert places(ledger).keys() == {START.message_id, END.message_id}


def test_end_first(ledger: Ledger) -> None:
    """An end, later its start -> kept without a case, then one case that is closed at once."""
    accept(ledger, END)
    assert places(ledger) == {END.message_id: None}
    assert ledger.accept([arrival(START)]) == Accepted(stored=1, opened=1, closed=1)
    (case,) = ledger.cases()
    assert set(places(ledger).values()) == {case.case_id}


def test_old_end(ledger: Ledger) -> None:
    """An end older than the deadline, then a start -> that is another try: it waits."""
    accept(ledger, END)
    age_notifications(ledger, 901)
    accept(ledger, START)
    assert [case.state for case in ledger.cases()] == [CaseState.WAITING]
    assert places(ledger)[END.message_id] is None


def test_exception_first(ledger: Ledger) -> None:
    """An error without a volume, later the start of its request -> the case is due."""
    accept(ledger, EXCEPTION)
    accept(ledger, START)
    (case,) = ledger.cases()
    assert case.state is CaseState.DUE
    assert set(places(ledger).values()) == {case.case_id}


def test_exception_later(ledger: Ledger) -> None:
    """A start, later an error without a volume of its request -> the case is due."""
    accept(ledger, START)
    accept(ledger, EXCEPTION)
    (case,) = ledger.cases()
    assert case.state is CaseState.DUE
    assert places(ledger)[EXCEPTION.message_id] == case.case_id


def test_end_in_hand(ledger: Ledger) -> None:
    """The end of a waiting case that a worker has in hand -> not closed under its hands."""
    accept(ledger, START)
    make_due(ledger)
    claim = claim_one(ledger)
    accept(ledger, END)
    record = ledger.case(claim.case.case_id)
    assert record.case.state is CaseState.DUE
    assert (record.case.end_seen, record.case.signal_seq) == (True, claim.case.signal_seq + 1)


def test_own_calls(ledger: Ledger) -> None:
    """What our own call causes -> history of its case, even after the case was closed."""
    case_id = due_case(ledger)
    claim = claim_one(ledger)
    casefile = ledger.casefile(claim)
    casefile.intend(
        StepKind.CINDER_UNRESERVE,
        request_id="req-ours",
        target={},
        evidence={},
        lease_seconds=1,
        announcement=None,
    )
    ledger.finish(claim, outcome(CaseState.CLOSED))
    own = told(Operation.DETACH, attachment_id=ATTACHMENT, request_id="req-ours")
    assert ledger.accept([arrival(own)]) == Accepted(stored=1)
    assert places(ledger)[own.message_id] == case_id


def test_connectors(ledger: Ledger) -> None:
    """Connectors of several attachments' rows -> the last known of each compute host."""
    second = dataclasses.replace(CONNECTOR, host="compute2", initiator="iqn.two")
    newer = dataclasses.replace(CONNECTOR, ip="10.0.0.9")
    rows = (
        seen("attached", host="compute1", connector=CONNECTOR),
        seen("attached", attachment_id="att-2", host=None, connector=second),
    )
    accept(ledger, told(attachments=rows))
    accept(ledger, told(attachments=(seen("attached", host="compute1", connector=newer),)))
    due_case(ledger, volume_id="vol-9")
    casefile = ledger.casefile(claim_one(ledger))
    assert casefile.connector_of("compute1") == newer
    assert casefile.connector_of("compute2") == second
    assert casefile.connector_of("compute3") is None


def test_clouds_are_apart(ledger: Ledger, ledger_url: str) -> None:
    """Two clouds in one database, one volume id -> each sees and claims its own case."""
    elsewhere = Ledger(ledger_url, cloud="elsewhere")
    accept(ledger, attach_error())
    accept(elsewhere, attach_error())
    make_due(ledger)
    mine, theirs = claim_one(ledger), claim_one(elsewhere)
    assert mine.case.case_id != theirs.case.case_id
    assert [case.case_id for case in elsewhere.cases()] == [theirs.case.case_id]
    elsewhere.close()


# --- what a database refuses ---


def long_id(notification: Notification) -> Notification:
    """Return it with an id longer than the column."""
    return dataclasses.replace(notification, volume_id="v" * 256)


def with_nul(notification: Notification) -> Notification:
    """Return it with a character that PostgreSQL cannot store."""
    return dataclasses.replace(notification, event_type="volume.attach\0start")


def half_a_pair(notification: Notification) -> Notification:
    """Return it with half a surrogate pair, which no encoding has."""
    return dataclasses.replace(notification, publisher_id="volume.\ud800")


def without_volume(notification: Notification) -> Notification:
    """Return what the parser never gives: a start that names no volume."""
    return dataclasses.replace(notification, volume_id=None)


@pytest.mark.parametrize(
    ("spoil", "databases"),
    [
        (long_id, {"postgresql", "mariadb"}),
        (with_nul, {"postgresql"}),
        (half_a_pair, {"sqlite", "postgresql", "mariadb"}),
        (without_volume, {"sqlite", "postgresql", "mariadb"}),
    ],
)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_bad_row(
    ledger: Ledger,
    spoil: Callable[[Notification], Notification],
    databases: set[str],
    place: int,
) -> None:
    """One row that the database refuses -> it alone is rejected, with the reason."""
    good = [told(attachment_id=f"att-{n}", volume_id=f"vol-{n}") for n in range(6)]
    bad = spoil(told(attachment_id="att-bad"))
    batch = [*good[:place], bad, *good[place:]]
    accepted = ledger.accept([arrival(n) for n in batch])
    if dialect(ledger) not in databases:
        assert (accepted.stored, accepted.rejected) == (7, ()), "this one stores it as it is"
        return
    assert (accepted.stored, accepted.opened) == (6, 6)
    ((rejected, reason),) = accepted.rejected
    assert rejected.notification == bad
    assert 0 < len(reason) <= 500
    assert places(ledger).keys() == set(ids(good))


def test_words_are_scrubbed(ledger: Ledger) -> None:
    """A fault's text with NUL and half a pair in it -> stored with both replaced, not refused."""
    assert ledger.accept([arrival(attach_error(fault="a\0b\ud800c"))]).stored == 1
    (case,) = ledger.cases()
    (record,) = ledger.case(case.case_id).notifications
    assert record.notification.fault == "a\ufffdb?c"


def test_missing_table(ledger: Ledger) -> None:
    """A table is gone -> an error, and nothing of the batch counts as bad or stored."""
    with ledger._database.engine.begin() as connection:
        history.drop(connection)
    with pytest.raises(Exception, match="history"):
        ledger.accept([arrival(START), arrival(END)])
    assert places(ledger) == {}


# --- two listeners at once ---


@pytest.fixture
def busy(ledger: Ledger, second: Ledger) -> list[str]:
    """Return volumes that the ledger knows already, in two processes that are slow."""
    volumes = [f"vol-{number}" for number in range(MANY)]
    for volume in volumes:  # an end without a case is kept; it is too far off to matter
        accept(ledger, told(Operation.DETACH, Phase.END, volume_id=volume))
    slow_down(ledger, second)
    return volumes


def one_by_one(ledger: Ledger, notifications: Sequence[Notification]) -> Callable[[], object]:
    """Take in each message in a batch of its own."""
    return lambda: [accept(ledger, notification) for notification in notifications]


def test_two_listeners_same_messages(ledger: Ledger, second: Ledger, busy: list[str]) -> None:
    """Two listeners take in the same batches at once -> each message once, each case once."""
    starts = [told(attachment_id=f"att-{v}", volume_id=v) for v in busy]
    batches = [starts[n : n + 5] for n in range(0, MANY, 5)]
    at_once(
        lambda: [accept(ledger, *batch) for batch in batches],
        lambda: [accept(second, *batch) for batch in batches],
    )
    assert len(places(ledger)) == 2 * MANY
    assert len(ledger.cases(limit=1000)) == MANY


def test_two_listeners_one_attachment(ledger: Ledger, second: Ledger, busy: list[str]) -> None:
    """Two listeners each get a start of one attachment at once -> never two cases for it."""
    starts = [told(attachment_id=f"att-{v}", volume_id=v) for v in busy]
    again = [other(start) for start in starts]
    at_once(one_by_one(ledger, starts), one_by_one(second, again))
    assert len(ledger.cases(limit=1000)) == MANY


def test_two_listeners_start_and_end(ledger: Ledger, second: Ledger, busy: list[str]) -> None:
    """One listener gets the starts, another the ends, at once -> each pair meets and is closed."""
    starts = [told(attachment_id=f"att-{v}", volume_id=v) for v in busy]
    ends = [told(Operation.ATTACH, Phase.END, attachment_id=f"att-{v}", volume_id=v) for v in busy]
    at_once(one_by_one(ledger, starts), one_by_one(second, ends))
    assert {case.state for case in ledger.cases(limit=1000)} == {CaseState.CLOSED}
    stored = places(ledger)
    assert all(stored[message_id] for message_id in ids([*starts, *ends]))


def test_two_listeners_start_and_exception(ledger: Ledger, second: Ledger, busy: list[str]) -> None:
    """One gets the starts, another their errors without a volume, at once -> every case is due."""
    starts = [told(volume_id=v, request_id=f"req-{v}") for v in busy]
    errors = [dataclasses.replace(other(EXCEPTION), request_id=f"req-{v}") for v in busy]
    at_once(one_by_one(ledger, starts), one_by_one(second, errors))
    assert {case.state for case in ledger.cases(limit=1000)} == {CaseState.DUE}


def test_listener_and_worker(ledger: Ledger, second: Ledger, busy: list[str]) -> None:
    """A signal and a finish of one case at once -> whichever was second knows of the first."""
    accept(ledger, *(attach_error(volume_id=v, request_id=f"req-{v}") for v in busy))
    make_due(ledger)
    claims = ledger.claim("w1", limit=MANY, lease_seconds=60, deadlines=True)
    volumes = [claim.case.volume_id for claim in claims]
    ends = [told(Operation.ATTACH, Phase.END, volume_id=v, request_id=f"req-{v}") for v in volumes]
    at_once(
        lambda: [ledger.finish(claim, outcome(CaseState.PARKED)) for claim in claims],
        one_by_one(second, ends),
    )
    assert len(claims) == MANY
    assert {case.state for case in ledger.cases(limit=1000)} == {CaseState.DUE}
    assert all(ledger.case(claim.case.case_id).case.end_seen for claim in claims)


def test_same_host_learned_twice(ledger: Ledger, second: Ledger) -> None:
    """Two listeners learn the connectors of the same hosts at once -> both batches are stored."""
    hosts = [f"compute{n}" for n in range(10)]

    def batch(order: list[str]) -> list[Notification]:
        return [
            told(
                volume_id=f"{VOLUME}-{h}",
                attachments=(seen("attached", host=h, connector=CONNECTOR),),
            )
            for h in order
        ]

    at_once(
        lambda: [accept(ledger, *batch(hosts)) for _ in range(10)],
        lambda: [accept(second, *batch(hosts[::-1])) for _ in range(10)],
    )
    with ledger._database.engine.begin() as connection:
        counted = connection.execute(sa.select(sa.func.count()).select_from(connectors))
        assert counted.scalar_one() == 10
    assert len(places(ledger)) == 200


@pytest.mark.parametrize(
    ("order", "state"),
    [
        ([NOVA_START, START, END], CaseState.WAITING),
        ([START, END, NOVA_START], CaseState.WAITING),
        ([NOVA_START, START, END, NOVA_END], CaseState.CLOSED),
        ([START, END, NOVA_END, NOVA_START], CaseState.CLOSED),
    ],
    ids=["Nova never ended", "and it began late", "all ended", "and it began late"],
)
def test_what_nova_said_is_kept(
    ledger: Ledger, order: Sequence[Notification], state: CaseState
) -> None:
    """Each message in a batch of its own -> what Nova said before is known to those that follow."""
    for notification in order:
        accept(ledger, notification)
    (case,) = ledger.cases()
    assert case.state is state
