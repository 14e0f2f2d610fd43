"""A SQLite ledger whose file cannot be opened: the message says why, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.ledger import Ledger, LedgerUnavailableError
from consumer.ledger.database.engine import file_explained

PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no directory": (
        lambda p: p / "none" / "ledger.sqlite",
        "the directory {0}/none does not exist, or",
    ),
    "a directory": (lambda p: p, "{0} is a directory; use a file in it"),
    "below a file": (
        lambda p: p / "file" / "ledger.sqlite",
        "the directory {0}/file does not exist, or",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_upgrade_where_no_file_can_be_says_what_is_missing(tmp_path: Path, place: str) -> None:
    """The place of the file is wrong -> which path, and what to do, beside SQLite's words."""
    (tmp_path / "file").touch()
    at, words = PLACES[place]
    ledger = Ledger(f"sqlite:///{at(tmp_path)}")
    with pytest.raises(LedgerUnavailableError) as error:
        ledger.upgrade()
    assert words.format(tmp_path) in str(error.value)
    assert str(error.value).endswith(": unable to open database file")
    ledger.close()


@pytest.mark.parametrize(
    "words", ["unable to open database file", "attempt to write a readonly database"]
)
def test_file_that_may_not_be_written_names_the_user(tmp_path: Path, words: str) -> None:
    """Nothing is wrong with the place -> the user who runs it, and as whom it has to be run."""
    text = file_explained(f"(sqlite3.OperationalError) {words}", str(tmp_path / "ledger.sqlite"))
    assert text.startswith(f"the user {os.geteuid()} may not write {tmp_path}/ledger")
    assert "as the user that the service runs as" in text


def test_other_trouble_is_left_to_sqlite(tmp_path: Path) -> None:
    """Other words, or another database -> nothing is added."""
    assert file_explained("database disk image is malformed", str(tmp_path / "ledger.sqlite")) == ""
    assert file_explained("unable to open database file", None) == ""
