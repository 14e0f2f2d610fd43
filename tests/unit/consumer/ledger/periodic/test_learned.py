"""The clients that were learned for attachments, on each database."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.tables import learned_clients
from consumer.ledger.periodic.learned import FORGOTTEN
from drivers.base import ClientInstance
from handlers.case import LearnedClient
from tests.unit.consumer.ledger.making import ATTACHMENT, VOLUME, claim_one, due_case

HIGHEST = 2**64 - 1
AGAIN_SECONDS = 3600.0


def client(ledger: Ledger, number: int = 1, cookie: int = HIGHEST) -> ClientInstance:
    """Return a client as a look has just seen it."""
    return ClientInstance(f"192.0.2.1:0/{number}", f"client.{number}", cookie, now(ledger))


def seen(of: ClientInstance, attachment_id: str = ATTACHMENT) -> LearnedClient:
    """Return what a look teaches of it."""
    return LearnedClient(attachment_id, "compute1", "storage-1@rbd", of)


def now(ledger: Ledger) -> datetime:
    """Return the time of the database."""
    return ledger._database.read(database_now)


def later(ledger: Ledger, by: timedelta) -> None:
    """Let time go by: all that is on record grows older."""

    def shift(connection: sa.Connection) -> None:
        for row in connection.execute(sa.select(learned_clients)).mappings().all():
            keys = [column == row[column.name] for column in learned_clients.primary_key.columns]
            times = {name: row[name] - by for name in ("listed_at", "looked_at")}
            connection.execute(learned_clients.update().where(*keys).values(times))

    ledger._database.write(shift)


def test_what_was_learned_is_read_back(ledger: Ledger) -> None:
    """A client with the highest cookie there is -> the same, of this volume and attachment only."""
    one = client(ledger)
    assert ledger.learned.learn(VOLUME, seen(one)) is None
    assert ledger.learned.of_volume(VOLUME) == {ATTACHMENT: one}
    assert ledger.learned.of_volume("vol-2") == {}
    assert ledger.learned.of_volume(VOLUME.upper()) == {}


def test_another_client_replaces_it_and_the_same_one_is_only_seen_again(ledger: Ledger) -> None:
    """The guest was started anew -> the new one counts, and the one before is told, once."""
    first, second = client(ledger), client(ledger, 2)
    ledger.learned.learn(VOLUME, seen(first))
    assert ledger.learned.learn(VOLUME, seen(client(ledger))) is None
    before = ledger.learned.learn(VOLUME, seen(second))
    assert before is not None
    assert (before.address, before.client, before.cookie) == (
        first.address, first.client, first.cookie,
    )  # fmt: skip
    assert ledger.learned.learn(VOLUME, seen(second)) is None
    assert ledger.learned.of_volume(VOLUME) == {ATTACHMENT: second}


def test_who_was_never_looked_at_comes_first(ledger: Ledger) -> None:
    """Listed, and one looked at -> the others first, each once; the one when its time has come."""
    ledger.learned.learn(VOLUME, seen(client(ledger)))
    ledger.learned.note_attached([(VOLUME, ATTACHMENT), ("vol-2", "att-2"), ("vol-3", "att-3")])
    taken = ledger.learned.take(5, AGAIN_SECONDS)
    assert sorted(one.attachment_id for one in taken) == ["att-2", "att-3"]
    assert ledger.learned.take(5, AGAIN_SECONDS) == ()
    later(ledger, timedelta(seconds=AGAIN_SECONDS))
    (first,) = ledger.learned.take(1, AGAIN_SECONDS)
    assert (first.attachment_id, first.backend) == (ATTACHMENT, "storage-1@rbd")
    assert ATTACHMENT in ledger.learned.of_volume(VOLUME), "that it is listed takes nothing away"


def test_backends_that_need_no_looks_get_none(ledger: Ledger) -> None:
    """A volume is on a backend whose driver knows hosts -> it is not due any more."""
    ledger.learned.note_attached([("vol-2", "att-2"), ("vol-3", "att-3")])
    ledger.learned.note_backend("vol-2", "att-2", "storage-2@iscsi")
    (only,) = ledger.learned.take(5, AGAIN_SECONDS, besides=["storage-2@iscsi"])
    assert only.attachment_id == "att-3"


def test_two_services_never_take_the_same(ledger: Ledger, second: Ledger) -> None:
    """One takes what is due -> for the other it is not."""
    ledger.learned.note_attached([("vol-2", "att-2")])
    assert len(ledger.learned.take(5, AGAIN_SECONDS)) == 1
    assert second.learned.take(5, AGAIN_SECONDS) == ()


def test_attachments_that_are_gone_are_forgotten(ledger: Ledger) -> None:
    """Not listed for a week -> forgotten; one that is listed stays, and one with an open case."""
    ledger.learned.learn("vol-2", seen(client(ledger), "att-2"))
    ledger.learned.learn("vol-3", seen(client(ledger), "att-3"))
    ledger.learned.learn(VOLUME, seen(client(ledger)))
    due_case(ledger)
    later(ledger, FORGOTTEN)
    ledger.learned.note_attached([("vol-3", "att-3")])
    assert ledger.learned.forget(100) == 1
    assert ledger.learned.of_volume("vol-2") == {}
    assert set(ledger.learned.of_volume("vol-3")) == {"att-3"}
    assert set(ledger.learned.of_volume(VOLUME)) == {ATTACHMENT}


@pytest.mark.parametrize("attachment_id", [ATTACHMENT, "att-2"])
def test_a_case_file_knows_those_of_its_volume(ledger: Ledger, attachment_id: str) -> None:
    """A case is worked on -> what its look learns is kept, and read by the next one."""
    due_case(ledger)
    file = ledger.casefile(claim_one(ledger))
    one = client(ledger)
    assert file.learn(seen(one, attachment_id)) is None
    assert file.learned_clients() == {attachment_id: one}
