"""The kill switch as a file: who stops, and who goes on when it is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.ledger import Ledger
from consumer.periodic.kill_switch import KillSwitch
from tests.bus import new_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "STOP"


def switch(ledger: Ledger, file: Path, host: str = "host-1") -> KillSwitch:
    """Return the kill switch of one host."""
    return KillSwitch(str(file), ledger, host)


def test_the_file_pauses_every_replica_and_its_end_resumes(
    ledger: Ledger, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Touched, then removed -> paused with the file as the reason, then resumed; told once each."""
    caplog.set_level(logging.WARNING)
    one = switch(ledger, file)
    one.keep_in_step()
    assert ledger.paused() is None
    file.touch()
    assert one.pulled()
    for _ in range(3):
        one.keep_in_step()
    pause = ledger.paused()
    assert pause is not None
    assert (pause.actor, pause.reason) == (f"the file {file} on host-1", "kill switch")
    file.unlink()
    assert not one.pulled()
    for _ in range(3):
        one.keep_in_step()
    assert ledger.paused() is None
    assert [r.getMessage() for r in caplog.records] == [
        f"the kill switch is on: the file {file} on host-1",
        f"the kill switch is off again: the file {file} on host-1",
    ]


def test_a_restart_ends_what_the_file_has_paused(ledger: Ledger, file: Path) -> None:
    """The file is removed while the service is down -> it resumes when it starts again."""
    file.touch()
    switch(ledger, file).keep_in_step()
    file.unlink()
    switch(ledger, file).keep_in_step()
    assert ledger.paused() is None


def test_a_pause_of_a_person_or_of_another_host_stays(ledger: Ledger, file: Path) -> None:
    """The file comes and goes while somebody else has paused -> that pause is not touched."""
    ledger.pause("alice", "maintenance")
    one, other = switch(ledger, file), switch(ledger, file.with_name("absent"), "host-2")
    file.touch()
    one.keep_in_step()
    file.unlink()
    one.keep_in_step()
    other.keep_in_step()
    pause = ledger.paused()
    assert pause is not None
    assert pause.actor == "alice"


def test_a_resume_does_not_outlast_the_file(ledger: Ledger, file: Path) -> None:
    """A person resumes while the file is still there -> paused again."""
    file.touch()
    one = switch(ledger, file)
    one.keep_in_step()
    ledger.resume("bob")
    assert one.pulled()
    one.keep_in_step()
    assert ledger.paused() is not None


def test_without_a_ledger_this_host_stops_all_the_same(
    ledger: Ledger, file: Path, tmp_path: Path
) -> None:
    """The ledger is away -> the file alone stops this host, and the loop goes on."""
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()
    (tmp_path / "ledger.sqlite").mkdir()
    ledger.close()
    file.touch()
    one = switch(ledger, file)
    one.keep_in_step()
    assert one.pulled()


def test_a_file_that_cannot_be_looked_for_counts_as_there(
    ledger: Ledger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permission denied -> on; no such directory, a file in its place, or no path at all -> off."""
    assert not switch(ledger, file / "below" / "it").pulled()
    file.touch()
    assert not switch(ledger, file / "below").pulled()
    assert not KillSwitch("", ledger, "host-1").pulled()

    def denied(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "lstat", denied)
    assert switch(ledger, file).pulled()
