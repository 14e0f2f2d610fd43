"""The ledger's tables: made, checked, brought up to date, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from consumer.ledger import (
    Claim,
    Ledger,
    LedgerError,
    SchemaAheadError,
    SchemaBehindError,
    Upgraded,
)
from consumer.ledger.database import schema, upgrade
from consumer.ledger.database.tables import metadata
from consumer.ledger.migrations import versions
from drivers.base import Connector
from handlers.case import CaseState, ReasonKind, StepKind, StepResult
from tests.unit.consumer.ledger.making import (
    ATTACHMENT,
    accept,
    at_once,
    claim_one,
    due_case,
    make_due,
    outcome,
    places,
    seen,
    told,
)

SECRET = "s3cret-in-the-url"
NEWEST = max(file.name for file in Path(versions.__path__[0]).glob("0*.py"))[:4]


def revision(ledger: Ledger, number: str) -> None:
    """Pretend that the tables are at another revision."""
    with ledger._database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :n"), {"n": number})


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """Give a ledger whose tables are made here and now, not copied."""
    ledger = Ledger(database_url)
    ledger.upgrade()
    yield ledger
    ledger.close()


def test_file_that_may_not_be_looked_for(tmp_path: Path) -> None:
    """The system does not say whether there is such a file -> its reason, not "there is none"."""
    ledger = Ledger(f"sqlite:///{tmp_path / ('a' * 300)}")
    with pytest.raises(LedgerError, match="cannot be used"):
        ledger.check_schema()
    ledger.close()


def test_behind(database_url: str) -> None:
    """No tables -> refused, with the command to run and without the password."""
    ledger = Ledger(database_url)
    with pytest.raises(SchemaBehindError, match="run `detachd ledger upgrade`") as refused:
        ledger.check_schema()
    password = sa.make_url(database_url).password
    assert password is None or str(password) not in str(refused.value)
    ledger.close()


def test_revisions_are_those_of_alembic() -> None:
    """The revisions by the names of the files -> those that alembic finds in them."""
    scripts = ScriptDirectory.from_config(upgrade._config())
    assert schema.steps() == tuple(script.revision for script in scripts.walk_revisions())


def test_upgrade(database_url: str) -> None:
    """An upgrade, and another -> the first makes the tables, the second changes nothing."""
    ledger = Ledger(database_url)
    assert ledger.upgrade() == Upgraded(None, NEWEST)
    ledger.check_schema()
    accept(ledger, told())
    assert ledger.upgrade() == Upgraded(NEWEST, NEWEST)
    assert len(places(ledger)) == 1
    ledger.close()


def test_migrations_make_the_tables(ledger: Ledger) -> None:
    """All migrations from empty -> exactly what tables.py describes."""
    with ledger._database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


TOLD = (
    ("rule", {"verdict": "park", "rule": "P6.guest-holds", "reason": "a guest holds it"}),
    ("waited", {"reason": "a backup runs, for longer than patience_seconds"}),
    ("failed", {"reason": "500 (req-1) (after 8 attempts)"}),
    ("internal", {"rule": "internal-error", "reason": "internal error: KeyError"}),
    ("guard", {"verdict": "release", "fingerprint": "f", "reason": "stuck; the mode is observe"}),
    ("refused", {"verdict": "release", "fingerprint": "f", "reason": "403"}),
    (
        "danger",
        {"reason": "down; danger: meanwhile another server may get the volume, and the backend"},
    ),
)


def test_upgrade_knows_what_a_person_was_told(ledger: Ledger) -> None:
    """Cases that a person has at the upgrade -> the kind of what was told, from what is there."""
    for kind, columns in TOLD:
        due_case(ledger, volume_id=kind, request_id=kind, attachment_id=kind)
        claim = claim_one(ledger)
        if kind in ("refused", "guard"):
            result = StepResult.REFUSED if kind == "refused" else StepResult.DONE
            refuse(ledger, claim, result)
        ledger.finish(claim, outcome(CaseState.PARKED, **columns))
    with ledger._database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE cases SET told = NULL"))
    revision(ledger, "0011")
    ledger.upgrade()
    assert {c.volume_id: c.told for c in ledger.cases()} == {
        kind: (ReasonKind(kind),) for kind, _ in TOLD
    }


def test_upgrade_forgets_connectors_that_may_lack_a_key(ledger: Ledger) -> None:
    """A connector learned before every key was kept -> unknown to hosts and cases, until heard."""
    connector = Connector("compute-1", initiator="iqn.2026-01.test:1")
    row = seen("attaching", host="compute-1", connector=connector)
    accept(ledger, told(attachment_id=ATTACHMENT, host="compute-1", attachments=(row,)))
    make_due(ledger)
    claim = claim_one(ledger)
    assert claim.case.connector == connector
    assert ledger.casefile(claim).connector_of("compute-1") == connector
    revision(ledger, "0012")
    ledger.upgrade()
    assert ledger.casefile(claim).connector_of("compute-1") is None
    assert [case.connector for case in ledger.cases()] == [None]


def refuse(ledger: Ledger, claim: Claim, result: StepResult) -> None:
    """Write a call of the case down, and how it ended."""
    file = ledger.casefile(claim)
    file.intend(
        StepKind.CINDER_DELETE_ATTACHMENT, request_id=f"req-{result.value}",
        target={"attachment_id": "a"}, evidence={}, lease_seconds=60.0, announcement=None,
    )  # fmt: skip
    file.result(f"req-{result.value}", result, "")


def test_names_of_constraints(ledger: Ledger) -> None:
    """Constraints made by the migrations -> named as a later migration will look for them."""
    inspector = sa.inspect(ledger._database.engine)
    assert {u["name"] for u in inspector.get_unique_constraints("outbox")} == {
        "uq_outbox_message_id"
    }
    assert {f["name"] for f in inspector.get_foreign_keys("history")} == {
        "fk_history_case_id_cases"
    }


def test_ahead(ledger: Ledger) -> None:
    """Tables of a newer detachd -> neither used nor touched, in words."""
    revision(ledger, "9999")
    for call in (ledger.check_schema, ledger.upgrade):
        with pytest.raises(SchemaAheadError, match=r"9999.*a newer version"):
            call()


def test_interrupted_upgrade(database_url: str) -> None:
    """An upgrade that broke off between two tables -> running it again completes it."""
    ledger = Ledger(database_url)
    ledger.upgrade()
    with ledger._database.engine.begin() as connection:
        for table in ("outbox", "notifications", "archived_outbox"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
        connection.execute(sa.text("DELETE FROM alembic_version"))
    ledger.upgrade()
    ledger.check_schema()
    assert len(ledger.cases()) == 0
    accept(ledger, told())
    ledger.close()


def test_two_upgrades_at_once(database_url: str) -> None:
    """Two processes upgrade at once -> both come back, the tables are there once."""
    one, two = Ledger(database_url), Ledger(database_url)
    at_once(one.upgrade, two.upgrade)
    one.check_schema()
    with one._database.engine.connect() as connection:
        stamped = connection.execute(sa.text("SELECT COUNT(*) FROM alembic_version"))
        assert stamped.scalar_one() == 1
    one.close()
    two.close()


def test_looking_makes_no_file(tmp_path: Path) -> None:
    """A file that is not there is checked -> behind, and still not there."""
    file = tmp_path / "typo.sqlite"
    with pytest.raises(SchemaBehindError, match="There is no ledger"):
        Ledger(f"sqlite:///{file}").check_schema()
    assert not file.exists()


def test_ids_compare_byte_for_byte(ledger: Ledger) -> None:
    """Ids that differ in case or in a trailing space -> different ids on every database."""
    for volume in ("vol-a", "vol-A", "vol-a "):
        accept(ledger, told(volume_id=volume, message_id=f"m-{volume}"))
    assert {case.volume_id for case in ledger.cases()} == {"vol-a", "vol-A", "vol-a "}
    assert len(ledger.cases(volume_id="vol-A")) == 1
