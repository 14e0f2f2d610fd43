"""Connections that break at the worst moment, and servers that fail over, on real servers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from consumer.ledger import Arrival, Ledger, LedgerUnavailableError
from handlers.case import CaseState, StepKind
from tests.services import ledgers
from tests.services.cutting import CuttingProxy
from tests.services.database import PrivateDatabase
from tests.unit.consumer.ledger.making import (
    accept,
    announcement,
    arrival,
    attach_error,
    claim_one,
    due_case,
    outcome,
    places,
    renew,
    told,
)

pytestmark = pytest.mark.integration
OWN_ID = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT CONNECTION_ID()"}
# As it goes over the wire: BEGIN ... READ COMMITTED has the word, too.
COMMIT = {"postgresql": b"COMMIT\0", "mariadb": b"\x03COMMIT"}
KILL = {"postgresql": "SELECT pg_terminate_backend({0})", "mariadb": "KILL {0}"}


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> PrivateDatabase:
    """Give each server in turn."""
    shared: PrivateDatabase = request.getfixturevalue(request.param)
    return shared


@pytest.fixture
def url(server: PrivateDatabase) -> Iterator[str]:
    """Give the URL of a fresh database, for a user whom read-only binds."""
    fresh = ledgers.on(server)
    yield server.as_plain_user(fresh)
    server.drop_database(fresh)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with contextlib.closing(Ledger(url)) as made:
        yield made


@pytest.fixture
def way(server: PrivateDatabase) -> Iterator[CuttingProxy]:
    """Give a way to the server that can be cut."""
    with CuttingProxy(server.port) as made:
        yield made


@pytest.fixture
def far(ledger: Ledger, url: str, way: CuttingProxy) -> Iterator[Ledger]:
    """Give the same ledger by that way."""
    there = sa.make_url(url).set(port=way.port).render_as_string(hide_password=False)
    with contextlib.closing(Ledger(there)) as made:
        ledgers.ask(made)
        yield made


@contextlib.contextmanager
def read_only(server: PrivateDatabase) -> Iterator[None]:
    """Let the server refuse writes, as one that is a standby by now."""
    server.set_read_only(on=True)
    try:
        yield
    finally:
        server.set_read_only(on=False)


def test_connection_killed_in_a_transaction(ledger: Ledger, server: PrivateDatabase) -> None:
    """The connection is killed between two statements -> all of it again on another, once."""
    database, tries = ledger._database, []

    def work(connection: sa.Connection) -> None:
        own = connection.exec_driver_sql(OWN_ID[server.name]).scalar_one()
        connection.exec_driver_sql(
            "INSERT INTO claims (cloud, volume_id, fence) VALUES ('c', 'v', 7)"
        )
        tries.append(own)
        if len(tries) == 1:
            server.execute(KILL[server.name].format(own))
        connection.exec_driver_sql("UPDATE claims SET fence = fence + 1")

    database.write(work)
    assert len(set(tries)) == 2
    fences = database.read(lambda c: c.exec_driver_sql("SELECT fence FROM claims").scalars().all())
    assert fences == [8]


def test_every_pooled_connection_killed(ledger: Ledger, server: PrivateDatabase) -> None:
    """All connections are ended while nobody uses them -> nobody notices."""
    accept(ledger, told())
    server.cut_connections()
    accept(ledger, told(volume_id="vol-2"))
    assert len(ledger.cases()) == 2


def test_answer_to_the_commit_of_accept_is_lost(
    far: Ledger, way: CuttingProxy, server: PrivateDatabase
) -> None:
    """Accepted, the answer lost -> accepted once; the batch counts as known, and no case twice."""
    way.cut_at(COMMIT[server.name])
    accepted = far.accept([arrival(attach_error())])
    assert way.cuts == 1
    assert (accepted.stored, accepted.duplicates) == (0, 1)
    assert len(far.cases()) == 1


def test_answer_to_the_commit_of_finish_is_lost(
    far: Ledger, way: CuttingProxy, server: PrivateDatabase
) -> None:
    """Finished, the answer lost -> finished once, announced once, and no error."""
    due_case(far)
    claim = claim_one(far)
    way.cut_at(COMMIT[server.name])
    far.finish(claim, outcome(CaseState.CLOSED, announcements=(announcement("end"),)))
    assert way.cuts == 1
    record = far.case(claim.case.case_id)
    assert (record.case.state, len(record.outbox)) == (CaseState.CLOSED, 1)


def test_answer_to_the_commit_of_an_intent_is_lost(
    far: Ledger, way: CuttingProxy, server: PrivateDatabase
) -> None:
    """Meant, the answer lost -> written once, its start announced once, and the call may go on."""
    due_case(far)
    claim = claim_one(far)
    way.cut_at(COMMIT[server.name])
    far.casefile(claim).intend(
        StepKind.NOVA_DETACH, request_id="req-own", target={}, evidence={}, lease_seconds=60,
        announcement=announcement("start"),
    )  # fmt: skip
    assert way.cuts == 1
    record = far.case(claim.case.case_id)
    assert (len(record.intents), len(record.outbox)) == (1, 1)


def test_answer_to_the_commit_of_pruning_is_lost(
    far: Ledger, way: CuttingProxy, server: PrivateDatabase
) -> None:
    """Forgotten, the answer lost -> no error, and nothing that was not to be forgotten is gone."""
    due_case(far)
    far.finish(claim_one(far), outcome(CaseState.CLOSED))
    due_case(far, volume_id="vol-2", request_id="req-2")
    time.sleep(0.01)
    way.cut_at(COMMIT[server.name])
    far.prune(0.0, limit=10)
    assert way.cuts == 1
    assert [case.volume_id for case in far.cases()] == ["vol-2"]


def test_answer_to_a_statement_is_lost(far: Ledger, way: CuttingProxy) -> None:
    """The connection breaks in the midst of accept -> nothing of the first try is kept."""
    way.cut_at(b"INSERT INTO cases")
    accepted = far.accept([arrival(attach_error())])
    assert way.cuts == 1
    assert (accepted.stored, len(far.cases()), len(places(far))) == (1, 1, 1)


def test_server_that_stays_read_only(ledger: Ledger, server: PrivateDatabase) -> None:
    """Failed over, and the address still leads to the standby -> unavailable, not refused rows."""
    accept(ledger, told())
    with read_only(server), pytest.raises(LedgerUnavailableError, match=r"read.only"):
        accept(ledger, told(volume_id="vol-2"))
    accept(ledger, told(volume_id="vol-2"))
    assert len(ledger.cases()) == 2


def test_server_that_is_read_only_for_a_moment(ledger: Ledger, server: PrivateDatabase) -> None:
    """Failed over, and the address leads to the new one soon -> the batch is in, once."""
    batch = [arrival(told(volume_id=f"vol-{number}")) for number in range(3)]
    accept(ledger, told(volume_id="vol-9"))
    with read_only(server):
        back = threading.Timer(0.5, lambda: server.set_read_only(on=False))
        back.start()
        try:
            until_taken(ledger, batch)
        finally:
            back.join()
    assert len(ledger.cases()) == 4


def until_taken(ledger: Ledger, batch: list[Arrival]) -> None:
    """Try as a listener does: again, as long as the ledger is unavailable."""
    ends_at = time.monotonic() + 30
    while True:
        try:
            ledger.accept(batch)
        except LedgerUnavailableError:
            assert time.monotonic() < ends_at
            time.sleep(0.05)
        else:
            return


def test_worker_that_lost_its_claim_in_an_outage(ledger: Ledger, server: PrivateDatabase) -> None:
    """The server restarts while a case is in hand -> claim and fence outlive it."""
    due_case(ledger)
    claim = claim_one(ledger)
    with server.killed():
        pass
    renew(ledger, claim, 600)
    ledger.finish(claim, outcome(CaseState.CLOSED))
    assert ledger.case(claim.case.case_id).case.state is CaseState.CLOSED
