"""A SQLite ledger whose file cannot be opened: the message says why, and what to do."""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """What statvfs tells, as far as it is asked for."""

    f_bavail: int = 1_000_000
    f_frsize: int = 4096
    f_flag: int = 0


@pytest.mark.parametrize(
    ("words", "system", "cause"),
    [
        ("disk I/O error", FileSystem(f_bavail=0), "is full (0 bytes are free); make room on it"),
        ("database or disk is full", FileSystem(f_bavail=2), "is full (8192 bytes are free); make"),
        ("unable to open database file", FileSystem(f_bavail=0), "is full (0 bytes are free)"),
        ("unable to open database file", FileSystem(f_flag=os.ST_RDONLY), "is mounted read-only;"),
        (
            "attempt to write a readonly database",
            FileSystem(f_flag=os.ST_RDONLY),
            "is mounted read-only;",
        ),
    ],
)
def test_a_disk_that_takes_nothing_more_is_named_and_nobody_is_blamed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, system: FileSystem, cause: str
) -> None:
    """No room, or mounted read-only -> that, and what to do; not the rights of the user."""
    monkeypatch.setattr(os, "statvfs", lambda _: system)
    text = file_explained(f"(sqlite3.OperationalError) {words}", str(tmp_path / "ledger.sqlite"))
    assert text.startswith(f"the file system of {tmp_path} {cause}")
    assert "may not write" not in text


def test_an_input_error_on_a_disk_with_room_is_left_to_sqlite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same words where there is room -> a disk that may be broken: nothing is explained."""
    monkeypatch.setattr(os, "statvfs", lambda _: FileSystem())
    assert file_explained("disk I/O error", str(tmp_path / "ledger.sqlite")) == ""


def test_other_trouble_is_left_to_sqlite(tmp_path: Path) -> None:
    """Other words, or another database -> nothing is added."""
    assert file_explained("database disk image is malformed", str(tmp_path / "ledger.sqlite")) == ""
    assert file_explained("unable to open database file", None) == ""
