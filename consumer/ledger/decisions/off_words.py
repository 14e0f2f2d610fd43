"""People's words that compute hosts are powered off: how they begin, count and end.

1. A new word for a host ends the one before it.
2. It ends at its time, when a person revokes it, and by itself when the host is heard of again.
3. A word that a sign of life ends has ended in the transaction that stores this sign.
4. A word that ended by itself is logged by one service, once (``take_untold``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from consumer.ledger.database.engine import database_now
from consumer.ledger.database.prepared import insert_absent
from consumer.ledger.database.tables import connectors, notifications, off_words, off_words_counted
from consumer.ledger.decisions.decisions import DecisionKind, Word, decide
from consumer.ledger.errors import NoSuchHostError, WrongStateError
from handlers.case import OffWord
from handlers.notification import Notification, Operation, Phase

DETACHD = "detachd"
"""Who ends a word by itself."""
SKEW = timedelta(seconds=60)
"""How far the clock of a host may be behind the database's: a message whose time is so much before
the word may have been sent after it. A word that ends without need is said again; a host that is
alive and taken for dead loses a disk."""
LONGEST = timedelta(days=30)


@dataclasses.dataclass(frozen=True, slots=True)
class SaidOff:
    """A word on record, also one that has ended; ``volumes`` is for how many volumes it counted."""

    word: OffWord
    ended_at: datetime | None
    ended_by: str | None
    ended_why: str | None
    volumes: int


def attest(
    connection: sa.Connection, cloud: str, host: str, until: datetime | float, said: Word
) -> OffWord:
    """Write down that a host is powered off until then; see ``Ledger.attest_off``."""
    now = database_now(connection)
    ends = until if isinstance(until, datetime) else now + timedelta(seconds=until)
    if not now < ends <= now + LONGEST:
        raise WrongStateError(f"--until must be later than now, and {LONGEST.days} days at most")
    # The new one counts from now on, also where it ends earlier than the one before.
    _end(connection, cloud, host, Word(said.actor, "said anew"))
    row = {
        "cloud": cloud, "host": host, "said_by": said.actor, "said_at": now, "until": ends,
        "reason": said.reason,
    }  # fmt: skip
    connection.execute(off_words.insert(), row)
    detail = {"host": host, "until": ends.isoformat(timespec="seconds")}
    decide(connection, cloud, DecisionKind.ATTESTED, said, now, detail=detail)
    return OffWord(host, said.actor, now, ends, said.reason)


def revoke(connection: sa.Connection, cloud: str, host: str, said: Word) -> None:
    """End the word for a host. Raises NoSuchHostError where none stands."""
    now = database_now(connection)
    if not _end(connection, cloud, host, said):
        raise NoSuchHostError(
            f"no word says that host {host} is powered off; `detachd host list` shows all words"
        )
    decide(connection, cloud, DecisionKind.REVOKED, said, now, detail={"host": host})


def standing(connection: sa.Connection, cloud: str, host: str | None = None) -> tuple[OffWord, ...]:
    """Return the words that stand now, of one host or of all."""
    wanted = _standing(cloud, database_now(connection))
    if host is not None:
        wanted = sa.and_(wanted, off_words.c.host == host)
    rows = connection.execute(sa.select(off_words).where(wanted).order_by(off_words.c.word_id))
    return tuple(_word(row) for row in rows)


def of_host(connection: sa.Connection, cloud: str, host: str) -> OffWord | None:
    """Return the word that stands now for a host."""
    words = standing(connection, cloud, host)
    return words[-1] if words else None


def every(connection: sa.Connection, cloud: str, limit: int) -> tuple[SaidOff, ...]:
    """Return the words on record, the newest first."""
    counted = (
        sa.select(sa.func.count())
        .where(off_words_counted.c.word_id == off_words.c.word_id)
        .scalar_subquery()
    )
    newest = (
        sa.select(off_words, counted.label("volumes"))
        .where(off_words.c.cloud == cloud)
        .order_by(off_words.c.word_id.desc())
        .limit(limit)
    )
    return tuple(
        SaidOff(_word(row), row.ended_at, row.ended_by, row.ended_why, row.volumes)
        for row in connection.execute(newest)
    )


def known(connection: sa.Connection, cloud: str, host: str) -> bool:
    """Tell whether a notification or a connector ever named this compute host."""
    named = (
        sa.select(connectors.c.host).where(connectors.c.cloud == cloud, connectors.c.host == host),
        sa.select(notifications.c.host)
        .where(notifications.c.cloud == cloud, notifications.c.host == host)
        .limit(1),
    )
    return any(connection.execute(one).first() is not None for one in named)


def counted(connection: sa.Connection, cloud: str, host: str, volume_id: str) -> None:
    """Record that the word for a host counted in a look at this volume."""
    now = database_now(connection)
    ids = connection.execute(
        sa.select(off_words.c.word_id).where(_standing(cloud, now), off_words.c.host == host)
    ).scalars()
    if rows := [{"word_id": i, "volume_id": volume_id, "counted_at": now} for i in ids]:
        keys = ("word_id", "volume_id")
        absent = insert_absent(connection.dialect.name, off_words_counted, keys)
        connection.execute(absent, rows)


def heard_of(
    connection: sa.Connection, cloud: str, host: str, why: str, seen_anew_on: str | None = None
) -> bool:
    """End the word for a host that was heard of again; return whether there was one.

    ``seen_anew_on``: only where it has counted for this volume, so that the session is a new one.
    """
    now = database_now(connection)
    if seen_anew_on is not None:
        counted_before = (
            sa.select(off_words.c.word_id)
            .join(off_words_counted, off_words_counted.c.word_id == off_words.c.word_id)
            .where(
                _standing(cloud, now),
                off_words.c.host == host,
                off_words_counted.c.volume_id == seen_anew_on,
            )
        )
        if connection.execute(counted_before).first() is None:
            return False
    return _end(connection, cloud, host, Word(DETACHD, why)) > 0


def hear(connection: sa.Connection, cloud: str, told: Iterable[Notification]) -> None:
    """End the words for hosts that these messages show to be alive: of one transaction's batch."""
    signs = _signs(told)
    # Without a sign of life no statement is run: this is in the transaction of each batch.
    if not signs:
        return
    for word in standing(connection, cloud):
        why, published_at = signs.get(word.host, ("", None))
        if why and (published_at is None or published_at > word.said_at - SKEW):
            _end(connection, cloud, word.host, Word(DETACHD, why))


def _signs(told: Iterable[Notification]) -> Mapping[str, tuple[str, datetime | None]]:
    """Return the hosts that sent a message or asked for a connection, with the last time of each.

    A message that does not say when it was published is taken for a new one.
    """
    found: dict[str, tuple[str, datetime | None]] = {}
    for n in told:
        for host, why in _alive(n):
            _, before = found.get(host, (why, n.published_at))
            # A message without a time stays without one: it is taken for new, whatever came before.
            found[host] = (why, _later(before, n.published_at))
    return found


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the later of two times; None where one is not known, which counts as now."""
    return None if one is None or other is None else max(one, other)


def _alive(n: Notification) -> Iterable[tuple[str, str]]:
    # nova-compute:HOST is a versioned notification's, compute.HOST a legacy one's.
    service, _, host = n.publisher_id.replace("nova-compute:", "compute.", 1).partition(".")
    if service == "compute" and host:
        yield host, f"it sent {n.event_type}"
    begins = n.operation is Operation.ATTACH and n.phase is Phase.START
    if begins and n.host is not None:
        yield n.host, f"it asked for a connection ({n.event_type})"


def take_untold(connection: sa.Connection, cloud: str) -> tuple[SaidOff, ...]:
    """Return words that ended by themselves and that no service has told of; no other gets them."""
    now = database_now(connection)
    untold = sa.and_(
        off_words.c.cloud == cloud,
        off_words.c.ended_by == DETACHD,
        off_words.c.told_at.is_(None),
    )
    rows = connection.execute(sa.select(off_words).where(untold)).all()
    mine = []
    for row in rows:
        one = off_words.update().where(off_words.c.word_id == row.word_id, untold)
        if connection.execute(one.values(told_at=now)).rowcount == 1:
            mine.append(SaidOff(_word(row), row.ended_at, row.ended_by, row.ended_why, 0))
    return tuple(mine)


def _standing(cloud: str, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        off_words.c.cloud == cloud, off_words.c.ended_at.is_(None), off_words.c.until > now
    )


def _end(connection: sa.Connection, cloud: str, host: str, said: Word) -> int:
    now = database_now(connection)
    ended = off_words.update().where(_standing(cloud, now), off_words.c.host == host)
    values = {"ended_at": now, "ended_by": said.actor, "ended_why": said.reason}
    return connection.execute(ended.values(values)).rowcount


def _word(row: sa.Row[tuple[object, ...]]) -> OffWord:
    return OffWord(row.host, row.said_by, row.said_at, row.until, row.reason)
