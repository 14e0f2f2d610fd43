"""What is finished long ago is forgotten, and nothing else, on each database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from consumer.ledger import BodyState, Claim, Ledger, Pruned, Replay
from consumer.ledger.database.engine import LOCK_WAIT_SECONDS
from consumer.ledger.database.tables import (
    ARCHIVE_OF,
    cases,
    claims,
    connectors,
    decisions,
    fences,
    metadata,
    off_words,
    off_words_counted,
    quarantine,
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
    CONNECTOR,
    accept,
    arrival,
    at_once,
    attach_error,
    claim_one,
    due_case,
    make_due,
    outcome,
    renew,
    seen,
    told,
)


def test_forgotten_with_all_that_belongs_to_it(ledger: Ledger) -> None:
    """A case closed 91 days ago, retention 90 -> no row of it is left, of a newer one all are."""
    worked(ledger)
    send_all(ledger)
    age(ledger, 91)
    newer = worked(ledger, volume_id="vol-2", request_id="req-2")
    send_all(ledger)
    before = counted(ledger, *OF_A_CASE)
    assert ledger.prune(90 * DAY, limit=100) == Pruned(cases=1, notifications=1)
    assert [n * 2 for n in counted(ledger, *OF_A_CASE)] == before
    assert [c.case_id for c in ledger.cases()] == [newer.case.case_id]
    assert ledger.prune(90 * DAY, limit=100) == Pruned()


def test_id_of_a_forgotten_announcement_is_not_given_again(ledger: Ledger) -> None:
    """A publisher tells late of what is forgotten by now -> nothing else counts as sent."""
    worked(ledger)
    (out,) = ledger.outbox_lease("slow", limit=9, lease_seconds=60)
    ledger.outbox_sent([out.outbox_id])
    age(ledger, 91)
    assert ledger.prune(90 * DAY, limit=100).cases == 1
    worked(ledger, volume_id="vol-2", request_id="req-2")
    ledger.outbox_sent([out.outbox_id])
    assert ledger.outbox_pending()[0] == 1


def test_repetitions_are_known_for_as_long_as_retention(ledger: Ledger) -> None:
    """Every message that came within retention, redelivered after pruning -> a duplicate."""
    old = [attach_error(), told(Operation.DETACH, Phase.END, volume_id="vol-9")]
    accept(ledger, *old)
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    age(ledger, 8)
    recent = [
        attach_error(volume_id="vol-2", request_id="req-2"),
        told(Operation.DETACH, Phase.END, volume_id="vol-8"),
        told(None, Phase.ERROR, volume_id=None, request_id="req-nobody's"),
    ]
    accept(ledger, *recent)
    make_due(ledger)
    ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    age(ledger, 6)
    assert ledger.prune(7 * DAY, limit=100) == Pruned(cases=1, notifications=2)
    accepted = ledger.accept([arrival(message) for message in recent])
    assert (accepted.stored, accepted.duplicates) == (0, 3)


def test_replay_keeps_its_case(ledger: Ledger) -> None:
    """A case that a person sends round again before it is due for pruning -> open, so kept."""
    claim = worked(ledger)
    send_all(ledger)
    age(ledger, 91)
    ledger.replay(Replay("replay:1", "0" * 64, "replay", "alice", "again"), claim.case.case_id)
    assert ledger.prune(90 * DAY, limit=100) == Pruned()
    again = claim_one(ledger)
    assert again.case.case_id == claim.case.case_id


def test_connector_of_a_host_survives(ledger: Ledger) -> None:
    """The case that taught a host's connector is forgotten -> the connector is still known."""
    row = seen("attached", host="compute1", connector=CONNECTOR)
    accept(ledger, told(attachment_id="att-1", attachments=(row,)))
    accept(ledger, told(Operation.ATTACH, Phase.END, attachment_id="att-1"))
    age(ledger, 1000)
    assert ledger.prune(DAY, limit=100).cases == 1
    assert counted(ledger, cases, connectors) == [0, 1]
    claim = ledger.casefile(_claimed(ledger, volume_id="vol-2", request_id="req-2"))
    assert claim.connector_of("compute1") == CONNECTOR


def _claimed(ledger: Ledger, **fields: object) -> Claim:
    due_case(ledger, **fields)
    return claim_one(ledger)


def test_quarantined_body_is_kept_until_it_is_decided(ledger: Ledger) -> None:
    """Old bodies: held -> kept for ever; replayed and discarded -> forgotten; again -> held."""
    for number, state in enumerate([None, BodyState.REPLAYED, BodyState.DISCARDED]):
        ledger.quarantine("bus", "key", f"{number}" * 64, 10, "no JSON", "...")
        if state is not None:
            body = ledger.quarantined_body(f"{number}" * 64)
            assert ledger.decide_quarantined(body, state, actor="alice", decision="")
    age(ledger, 91)
    ledger.quarantine("bus", "key", "2" * 64, 10, "no JSON", "...")
    assert ledger.prune(90 * DAY, limit=100) == Pruned(bodies=1)
    assert {body.body_sha256[0] for body in ledger.quarantined()} == {"0", "2"}


def test_in_small_batches(ledger: Ledger) -> None:
    """More than fits into one batch -> the oldest first; told that there may be more."""
    for number in range(5):
        accept(ledger, attach_error(volume_id=f"vol-{number}", request_id=f"req-{number}"))
        make_due(ledger)
        ledger.finish(claim_one(ledger), outcome(CaseState.CLOSED))
    age(ledger, 91)
    done = [ledger.prune(90 * DAY, limit=2) for _ in range(3)]
    assert [(p.cases, p.full) for p in done] == [(2, True), (2, True), (1, False)]
    assert counted(ledger, *OF_A_CASE, claims) == [0, 0, 0, 0, 0, _gates(ledger)]


def test_another_cloud_is_left_alone(ledger: Ledger, ledger_url: str) -> None:
    """Two clouds in one database -> each forgets its own only."""
    worked(ledger)
    send_all(ledger)
    age(ledger, 91)
    other = Ledger(ledger_url, cloud="other")
    assert other.prune(DAY, limit=100) == Pruned()
    other.close()


# --- claims and fences --------------------------------------------------------------------------


def test_volume_that_comes_back_gets_a_new_fence(ledger: Ledger) -> None:
    """A volume is forgotten and met again -> its fences go on above all that were given out."""
    claim = worked(ledger)
    ledger.replay(Replay("replay:1", "0" * 64, "replay", "alice", ""), claim.case.case_id)
    claim = claim_one(ledger)
    ledger.finish(claim, outcome(CaseState.CLOSED))
    send_all(ledger)
    age(ledger, 91)
    assert claim.fence == 2
    assert ledger.prune(90 * DAY, limit=100).cases == 1
    again = _claimed(ledger, request_id="req-new")
    assert again.fence == 3
    with pytest.raises(ClaimLostError):
        ledger.finish(claim, outcome(CaseState.CLOSED))


def test_volume_in_hand_is_not_forgotten(ledger: Ledger) -> None:
    """An old case goes while another of its volume is worked -> the claim holds on."""
    worked(ledger)
    send_all(ledger)
    age(ledger, 91)
    claim = _claimed(ledger, request_id="req-new")
    assert ledger.prune(90 * DAY, limit=100).cases == 1
    renew(ledger, claim, 600)
    ledger.finish(claim, outcome(CaseState.CLOSED))


def _gates(ledger: Ledger) -> int:
    gate = sa.select(sa.func.count()).where(claims.c.volume_id == "")
    return ledger._database.read(lambda c: c.execute(gate).scalar_one())


# --- beside everything else ---------------------------------------------------------------------


def test_two_prune_at_once(ledger: Ledger, second: Ledger) -> None:
    """Two replicas prune at the same time -> each case is forgotten once, none is left."""
    finished_volumes(ledger, 60)

    def work(mine: Ledger) -> Callable[[], int]:
        return lambda: sum(mine.prune(90 * DAY, limit=7).cases for _ in range(12))

    done = at_once(work(ledger), work(second))
    while (more := ledger.prune(90 * DAY, limit=100).cases) > 0:
        done.append(more)
    assert sum(int(str(number)) for number in done) == 60
    assert counted(ledger, *OF_A_CASE) == [0] * 5


def test_volumes_that_come_back_while_they_are_forgotten(ledger: Ledger, second: Ledger) -> None:
    """New errors of the very volumes that are pruned, claimed at once -> each worked by one."""
    finished_volumes(ledger, 40)
    stop = threading.Event()

    def forget() -> None:
        while not stop.is_set():
            second.prune(90 * DAY, limit=3)

    def come_back() -> list[str]:
        try:
            for n in range(40):
                accept(ledger, attach_error(volume_id=f"vol-{n}", request_id=f"new-{n}"))
            make_due(ledger)
            return finish_all(ledger, 40)
        finally:
            stop.set()

    _, worked_on = at_once(forget, come_back)
    assert sorted(worked_on) == sorted(f"vol-{n}" for n in range(40))
    while ledger.prune(90 * DAY, limit=100).cases:
        pass
    assert len(ledger.cases(limit=100)) == 40


def test_locked_volume_is_passed_over(ledger: Ledger, second: Ledger) -> None:
    """A listener holds a volume -> pruning does not wait for it, and takes the others."""
    if ledger._database.file is not None:
        pytest.skip("SQLite has one writer: it is waited for")
    finished_volumes(ledger, 2)
    row = sa.select(claims).where(claims.c.volume_id == "vol-0").with_for_update()
    with ledger._database.engine.begin() as connection:
        connection.execute(row)
        began = time.monotonic()
        assert second.prune(90 * DAY, limit=10).cases == 1
        assert time.monotonic() - began < LOCK_WAIT_SECONDS
    assert second.prune(90 * DAY, limit=10).cases == 1


def test_decisions_of_people_go_once_they_are_logged(ledger: Ledger) -> None:
    """Old decisions -> those that a service logged are deleted, the others wait for it."""
    ledger.pause("alice", "logged")
    assert len(ledger.take_decisions()) == 1
    ledger.resume("alice", "not logged yet")
    time.sleep(0.01)
    assert ledger.prune(90 * DAY, limit=10).full is False
    ledger.prune(0.0, limit=10)
    with ledger._database.engine.connect() as connection:
        assert list(connection.execute(sa.select(decisions.c.reason)).scalars()) == [
            "not logged yet"
        ]
    assert [decision.reason for decision in ledger.take_decisions()] == ["not logged yet"]


def test_words_for_hosts_go_once_their_time_is_over(ledger: Ledger) -> None:
    """A word that is over, one that counted among them -> deleted; one that stands -> kept."""
    for host in ("compute1", "compute2"):
        ledger.attest_off(host, 0.5 if host == "compute1" else 3600.0, "alice", "unplugged")
    due_case(ledger)
    ledger.casefile(claim_one(ledger)).word_counted("compute1")
    time.sleep(0.6)
    ledger.prune(90 * DAY, limit=10)
    assert len(ledger.off_words()) == 2
    ledger.prune(0.0, limit=10)
    assert [said.word.host for said in ledger.off_words()] == ["compute2"]


def test_every_table_that_grows_is_thought_of() -> None:
    """A table is added -> it is decided here whether and how it is pruned."""
    said = {off_words, off_words_counted, fences}
    pruned = {*OF_A_CASE, *ARCHIVE_OF.values(), claims, decisions, quarantine, *said}
    # As many as there are hosts, pauses, services, volumes in transition or attached now (and with
    # learned clients, within a week), servers of which something was told within a day, backends,
    # and what had a stuck volume in two days.
    kept_by_what_there_is = {
        "connectors", "pauses", "replicas", "sweeps", "sightings", "rounds", "inventory",
        "server_looks", "breakers", "allowances", "learned_clients",
    }  # fmt: skip
    assert {t.name for t in metadata.tables.values()} - {t.name for t in pruned} == (
        kept_by_what_there_is
    )


def test_times_are_the_database_s(ledger: Ledger) -> None:
    """Retention of nothing at all -> what is closed now goes: the database's clock decides."""
    worked(ledger)
    send_all(ledger)
    time.sleep(0.01)
    assert ledger.prune(0.0, limit=10).cases == 1
