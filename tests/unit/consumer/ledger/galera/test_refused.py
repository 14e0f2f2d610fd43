"""Settings that break the ledger are refused at the start; an upgrade excludes another."""

from __future__ import annotations

import pytest

from consumer.ledger import ClusterUnfitError, Ledger, LedgerUnavailableError
from consumer.ledger.database import galera as cluster
from consumer.ledger.database import upgrade
from tests.services.galera import Galera
from tests.unit.consumer.ledger.making import at_once

OPTIONS = "wsrep_provider_options"
SOUND = {
    "binlog_format": "ROW",
    "innodb_autoinc_lock_mode": "2",
    "wsrep_osu_method": "TOI",
    "wsrep_forced_binlog_format": "NONE",
    "wsrep_max_ws_rows": "0",
    "wsrep_max_ws_size": "2147483647",
    "wsrep_provider_options": "gcs.fc_limit = 16; pc.ignore_quorum = false; pc.ignore_sb = false;",
}


@pytest.mark.parametrize(
    ("name", "option", "wrong", "needed", "words"),
    [
        (OPTIONS, "pc.ignore_sb", "pc.ignore_sb=true", "pc.ignore_sb=false", "both halves"),
        (OPTIONS, "pc.ignore_quorum", "pc.ignore_quorum=1", "pc.ignore_quorum=0", "both halves"),
        ("wsrep_OSU_method", "wsrep_OSU_method", "RSU", "TOI", "one node alone"),
        ("wsrep_max_ws_rows", "wsrep_max_ws_rows", 1000, 0, "set it to 0"),
        ("wsrep_max_ws_size", "wsrep_max_ws_size", 1048576, 2147483647, "67108864 or more"),
    ],
)
def test_refused(  # noqa: PLR0917 - a table
    galera: Galera,
    through: list[Ledger],
    name: str,
    option: str,
    wrong: object,
    needed: object,
    words: str,
) -> None:
    """A real node has such a setting -> start and upgrade name it; mended, the start goes on."""
    galera.nodes[0].say(f"SET GLOBAL {name} = {wrong!r}")
    try:
        for refused in (through[0].check_schema, through[0].upgrade):
            with pytest.raises(ClusterUnfitError, match=f"{option}.*{words}"):
                refused()
        through[1].check_schema()
    finally:
        galera.nodes[0].say(f"SET GLOBAL {name} = {needed!r}")
    through[0].check_schema()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("binlog_format", "STATEMENT"),
        ("wsrep_forced_binlog_format", "MIXED"),
        ("innodb_autoinc_lock_mode", "1"),
    ],
)
def test_what_a_server_refuses_to_be_set_to(name: str, value: str) -> None:
    """A setting that MariaDB lets nobody change while it runs -> is judged all the same."""
    assert cluster.unfit(SOUND) == ()
    (reason,) = cluster.unfit(SOUND | {name: value})
    assert "set it to" in reason


def test_upgrades_through_every_node(galera: Galera) -> None:
    """Three upgrades of an empty database at once, one through each node -> all return."""
    url = galera.nodes[0].fresh_database()
    opened = [Ledger(at) for at in galera.urls(url)]
    at_once(*(ledger.upgrade for ledger in opened))
    for ledger in opened:
        ledger.check_schema()
        ledger.close()
    galera.nodes[0].drop_database(url)


def test_upgrade_that_died(through: list[Ledger], monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade died and left its table -> the next one says what to do, and changes nothing."""
    monkeypatch.setattr(upgrade, "LOCK_SECONDS", 0.5)
    database = through[0]._database
    database.write(lambda c: c.exec_driver_sql(f"CREATE TABLE {upgrade.LOCK_TABLE} (one INTEGER)"))
    with pytest.raises(LedgerUnavailableError, match=f"DROP TABLE {upgrade.LOCK_TABLE}"):
        through[1].upgrade()
    database.write(lambda c: c.exec_driver_sql(f"DROP TABLE {upgrade.LOCK_TABLE}"))
    through[1].upgrade()
