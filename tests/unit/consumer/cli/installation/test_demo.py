"""`detachd demo`: what it prints and how it ends, whatever the scenes came to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Mapping

import pytest

from consumer.cli.app import main
from consumer.cli.installation.demo import console, show
from consumer.demo import performance
from consumer.demo.performance import Row
from consumer.demo.scenes import SCENES

KEYS = {
    "scenario", "verdict", "rule", "steps", "cinder_before", "cinder_after", "backend_before",
    "backend_after", "verified_by", "announced", "ok",
}  # fmt: skip
ROW = Row(
    scenario="UC5 export left over",
    verdict="terminate",
    rule="UC3.released-in-nova",  # the longest there is
    steps=("cinder.reserve", "backend.force_detach", "cinder.delete_attachment"),
    cinder_before="in-use [attached, attached]",
    cinder_after="available",
    backend_before="compute-7, compute-7-destination",
    backend_after="-",
    verified_by="probe",
    announced=("volume.force_detach.start", "volume.force_detach.end"),
    ok=True,
)
HEALTHY = dataclasses.replace(ROW, scenario="healthy", steps=(), verified_by=None, announced=())
WRONG = dataclasses.replace(ROW, scenario="came out wrong", ok=False)

Play = Callable[..., None]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Let the scenes come to these rows, on a terminal of so many columns."""

    def come_to(*rows: Row, columns: int = 120) -> None:
        def perform(progress: Callable[[Mapping[str, str]], None]) -> list[Row]:
            progress({SCENES[0].name: "due"})
            return list(rows)

        monkeypatch.setattr(performance, "perform", perform)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    return come_to


def test_json_is_a_list_with_the_documented_keys(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json -> nothing but the list: an object a scene, its keys those that are documented."""
    play(ROW, HEALTHY)
    assert main(["demo", "--json"]) == 0
    shown, healthy = json.loads(capsys.readouterr().out)
    assert set(shown) == set(healthy) == KEYS
    assert shown["steps"] == ["cinder.reserve", "backend.force_detach", "cinder.delete_attachment"]
    assert (healthy["steps"], healthy["verified_by"]) == ([], None)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_one_scene_that_came_out_wrong_makes_exit_1(
    play: Play, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """One row is not ok -> exit 1 in either form, and a person is told how many."""
    play(ROW, WRONG)
    assert main(["demo", *words]) == 1
    out = ESCAPES.sub("", capsys.readouterr().out)
    assert words or "1 of 2 scenes have a wrong result" in out
    assert "have the expected result" not in out


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_it_fits_the_terminal(play: Play, capsys: pytest.CaptureFixture[str], columns: int) -> None:
    """80 columns -> a card a scene; 120 and more -> the table: no line longer, no name cut."""
    play(ROW, HEALTHY, columns=columns)
    assert main(["demo"]) == 0
    out = ESCAPES.sub("", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= columns
    assert ("before → after" in out) is (columns >= 120)
    for whole in ("UC3.released-in-nova", *ROW.steps, "available", "probe", "nothing"):
        assert whole in out
    assert "All 2 scenes have the expected result" in out


def test_without_a_terminal_it_is_the_table(
    play: Play, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a file or a pipe -> the table, and no trace of the display that moves."""
    play(ROW, columns=40)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "before → after" in out
    assert "\x1b" not in out


def test_a_reader_that_has_enough_is_no_wrong_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    """`detachd demo | head -1` -> the error of a closed pipe, and no exit 1, a wrong result."""
    reading, writing = os.pipe()
    os.close(reading)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as nobody_reads:
        monkeypatch.setattr(sys, "stdout", nobody_reads)
        with pytest.raises(BrokenPipeError):
            show([ROW], console())
