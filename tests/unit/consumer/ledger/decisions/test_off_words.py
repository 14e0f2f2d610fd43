"""A person's word that a host is powered off, on each database: it stands, and what ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.ledger import DecisionKind, Ledger, NoSuchHostError, WrongStateError
from consumer.ledger.database.engine import database_now
from consumer.ledger.database.tables import off_words
from handlers.notification import Operation, Phase, Source
from tests.unit.consumer.ledger.making import (
    CONNECTOR,
    accept,
    at_once,
    claim_one,
    due_case,
    seen,
    told,
)

HOST = "compute1"


def said(ledger: Ledger, host: str = HOST, until: datetime | float = 3600.0) -> None:
    """Let a person say it."""
    ledger.attest_off(host, until, "anna", "unplugged")


def now(ledger: Ledger) -> datetime:
    """Return the time of the database."""
    return ledger._database.read(database_now)


def later(ledger: Ledger, seconds: float) -> None:
    """Let time go by for the words: all that is on record of them grows older."""

    def shift(connection: sa.Connection) -> None:
        for row in connection.execute(sa.select(off_words)).all():
            at = {
                name: getattr(row, name) - timedelta(seconds=seconds)
                for name in ("said_at", "until")
            }
            one = off_words.update().where(off_words.c.word_id == row.word_id)
            connection.execute(one.values(at))

    ledger._database.write(shift)


def test_it_stands_until_its_time(ledger: Ledger) -> None:
    """Said for an hour -> it stands, by host; after the hour it does not, and stays on record."""
    said(ledger)
    word = ledger.off_word(HOST)
    assert word is not None
    assert (word.host, word.said_by, word.reason) == (HOST, "anna", "unplugged")
    assert ledger.hosts_off() == (word,)
    assert ledger.off_word("compute2") is None
    assert ledger.off_word("COMPUTE1") is None
    later(ledger, 3601.0)
    assert ledger.off_word(HOST) is None
    assert ledger.hosts_off() == ()
    (record,) = ledger.off_words()
    assert (record.word.host, record.ended_at) == (HOST, None)
    assert ledger.take_ended_words() == (), "that it has run out is nothing to tell"


def test_it_is_a_decision(ledger: Ledger) -> None:
    """Said and revoked -> both are for the log of the service, with host, time and reason."""
    said(ledger)
    ledger.revoke_off(HOST, "bob", "it was the wrong one")
    assert ledger.off_word(HOST) is None
    first, second = ledger.take_decisions()
    assert (first.kind, first.detail["host"]) == (DecisionKind.ATTESTED, HOST)
    assert (second.kind, second.actor, second.reason) == (
        DecisionKind.REVOKED, "bob", "it was the wrong one",
    )  # fmt: skip
    with pytest.raises(NoSuchHostError, match=HOST):
        ledger.revoke_off(HOST, "bob", "again")


def test_said_anew_is_one_word(ledger: Ledger) -> None:
    """Said twice -> the later one stands alone, the earlier one is on record as ended."""
    said(ledger)
    ledger.attest_off(HOST, 7200.0, "bob", "still")
    (word,) = ledger.hosts_off()
    assert word.said_by == "bob"
    assert [one.ended_why for one in ledger.off_words()] == [None, "said anew"]


@pytest.mark.parametrize("until", [0.0, -5.0, 31 * 86400.0, datetime(2020, 1, 1, tzinfo=UTC)])
def test_no_time_that_is_past_or_far(ledger: Ledger, until: datetime | float) -> None:
    """No end, an end that is past, or one that is months off -> refused."""
    with pytest.raises(WrongStateError, match="until"):
        said(ledger, until=until)
    assert ledger.hosts_off() == ()


def test_another_cloud_has_its_own_hosts(ledger: Ledger) -> None:
    """A host of the same name in another cloud on the same database -> not meant."""
    said(ledger)
    other = Ledger.__new__(Ledger)
    other.__dict__.update(ledger.__dict__)
    other._cloud = "other"
    assert other.off_word(HOST) is None
    with pytest.raises(NoSuchHostError):
        other.revoke_off(HOST, "bob", "why")
    assert ledger.off_word(HOST) is not None


def sign(**fields: Any) -> Any:
    """Return a message of the compute's own."""
    known = {"source": Source.NOVA_VERSIONED, "publisher_id": f"nova-compute:{HOST}"}
    return told(Operation.DETACH, Phase.START, **(known | fields))


@pytest.mark.parametrize(
    ("fields", "age_seconds", "ends"),
    [
        ({}, -1.0, True),
        ({"publisher_id": f"compute.{HOST}", "source": Source.NOVA_LEGACY}, -1.0, True),
        ({}, 30.0, True),
        ({}, 600.0, False),
        ({"published_at": None}, None, True),
        ({"publisher_id": "nova-compute:compute10"}, -1.0, False),
        ({"publisher_id": "volume.a@lab", "source": Source.CINDER, "host": HOST}, -1.0, False),
    ],
    ids=[
        "its nova-compute", "the same in the old form", "just before, as its clock may be behind",
        "long before: a message that waited", "that does not say when", "another host's",
        "Cinder's of a detach, which names the host of the row",
    ],
)  # fmt: skip
def test_a_message_of_the_host_ends_it(
    ledger: Ledger, fields: dict[str, Any], age_seconds: float | None, *, ends: bool
) -> None:
    """A message that the host itself published since -> ended, and a person is to be told, once."""
    said(ledger)
    if age_seconds is not None:
        fields = {"published_at": now(ledger) - timedelta(seconds=age_seconds)} | fields
    accept(ledger, sign(**fields))
    assert (ledger.off_word(HOST) is None) is ends
    untold = ledger.take_ended_words()
    assert [one.word.host for one in untold] == ([HOST] if ends else [])
    assert all("it sent" in (one.ended_why or "") for one in untold)
    assert ledger.take_ended_words() == ()


def test_an_attach_for_the_host_ends_it(ledger: Ledger) -> None:
    """Cinder tells of an attach with the host's connector -> its compute asked for it: alive."""
    said(ledger)
    start = told(Operation.ATTACH, Phase.START, host=HOST, published_at=now(ledger))
    accept(ledger, start)
    assert ledger.off_word(HOST) is None
    (one,) = ledger.take_ended_words()
    assert "asked for a connection" in (one.ended_why or "")


def test_a_session_is_a_new_one_only_where_the_word_counted(ledger: Ledger) -> None:
    """A session before the word counted for the volume -> it stands; after -> ended."""
    said(ledger)
    due_case(ledger)
    file = ledger.casefile(claim_one(ledger))
    file.heard_of(HOST, "a session", seen_anew=True)
    assert file.off_word(HOST) is not None
    file.word_counted(HOST)
    file.word_counted(HOST)
    assert [one.volumes for one in ledger.off_words()] == [1]
    file.heard_of("compute2", "a session", seen_anew=True)
    assert file.off_word(HOST) is not None
    file.heard_of(HOST, "a session", seen_anew=True)
    assert file.off_word(HOST) is None
    (one,) = ledger.take_ended_words()
    assert (one.ended_by, one.ended_why) == ("detachd", "a session")


def test_a_later_word_has_counted_for_nothing_yet(ledger: Ledger) -> None:
    """It counted, was revoked, and is said anew -> an old session does not end the new word."""
    said(ledger)
    due_case(ledger)
    file = ledger.casefile(claim_one(ledger))
    file.word_counted(HOST)
    said(ledger)
    file.heard_of(HOST, "a session", seen_anew=True)
    assert file.off_word(HOST) is not None


def test_several_services_tell_of_it_once(ledger: Ledger) -> None:
    """Two services ask at once -> one of them tells."""
    said(ledger)
    assert ledger.heard_of(HOST, "its nova-compute is up")
    assert not ledger.heard_of(HOST, "its nova-compute is up")
    found = at_once(*(ledger.take_ended_words for _ in range(4)))
    assert sum(len(one) for one in found if isinstance(one, tuple)) == 1


def test_which_hosts_are_known(ledger: Ledger) -> None:
    """A connector or a message named it -> known; a name that nothing named -> not."""
    assert not ledger.knows_host(HOST)
    row = seen("attaching", host=HOST, connector=CONNECTOR)
    accept(ledger, told(host=HOST, attachment_id=row.attachment_id, attachments=(row,)))
    assert ledger.knows_host(HOST)
    assert not ledger.knows_host("compute")
