"""The lab's environment: made once, made again when half made, and missed in words."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab import environment
from tests.lab.environment import MARK, LabMissingError

REAL_LISTS = sorted(environment.RELEASES.glob("*.txt"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let each test have a cache of its own, no switch thrown, and no network needed."""
    monkeypatch.setenv("DETACHD_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETACHD_LAB", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("DETACHD_OPENSTACK", raising=False)
    releases = tmp_path / "releases"
    releases.mkdir()
    for release in ("2001.1", environment.NEWEST):
        (releases / f"{release}.txt").write_text(f"# {release}\n")
    monkeypatch.setattr(environment, "RELEASES", releases)
    return tmp_path / "cache"


def test_missing_names_the_place_and_the_cure(cache: Path) -> None:
    """Never built -> an error that says where it would be and which command makes it."""
    with pytest.raises(LabMissingError, match=r"lab-[0-9a-f]{12}; `make lab-environment`"):
        environment.require()


@pytest.mark.slow
def test_built_once_and_again_when_half_made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built -> a Python with pip that stays as it is; its mark gone (killed) -> built anew."""
    directory = environment.build()
    assert environment.require() == directory
    python = [str(directory / "bin" / "python"), "-m", "pip", "--version"]
    assert subprocess.run(python, check=True, capture_output=True).stdout
    (directory / "kept").touch()
    environment.build()
    assert (directory / "kept").exists()
    (directory / MARK).unlink()
    monkeypatch.setattr(environment, "_install", Path.mkdir)
    with pytest.raises(LabMissingError):
        environment.require()
    environment.build()
    assert not (directory / "kept").exists()


def test_other_pins_have_another_place(cache: Path) -> None:
    """A pin changes -> another directory, so that no test runs on yesterday's releases."""
    before = environment.place()
    environment.pins().write_text("nova==34.0.0\n")
    assert environment.place() != before


def test_another_release_has_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older OpenStack is chosen -> a directory of its own, and the cure names the choice."""
    newest = environment.place()
    monkeypatch.setenv("DETACHD_OPENSTACK", "2001.1")
    assert environment.place() != newest
    with pytest.raises(LabMissingError, match=r"`DETACHD_OPENSTACK=2001\.1 make lab-environment`"):
        environment.require()


def test_no_such_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that there is no list of -> an error that says which there are, not the newest."""
    monkeypatch.setenv("DETACHD_OPENSTACK", "2024")
    with pytest.raises(ValueError, match=r"one of 2001\.1, .*, not '2024'"):
        environment.require()


def test_the_newest_is_there() -> None:
    """No choice is made -> the newest of the real lists."""
    lists = sorted(file.stem for file in REAL_LISTS)
    assert lists[-1] == environment.NEWEST


def test_unused_for_a_month_goes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of other pins, not asked for in a month -> removed; a fresh one stays."""
    for name, age_days in (("lab-000000000000", 40), ("lab-111111111111", 2)):
        (cache / name).mkdir(parents=True)
        (cache / name / MARK).touch()
        monkeypatch.setattr(environment.time, "time", lambda: 1e9)
        long_ago = 1e9 - age_days * 86_400
        environment.os.utime(cache / name / MARK, (long_ago, long_ago))
    monkeypatch.setattr(environment, "_install", lambda directory: directory.mkdir())
    environment.build()
    left = sorted(path.name for path in cache.glob("lab-*") if path.is_dir())
    assert left == sorted(["lab-111111111111", environment.place().name])


def _no_network(directory: Path) -> None:
    raise subprocess.CalledProcessError(1, ["pip"])


@pytest.mark.parametrize(
    ("variables", "result", "said"),
    [
        ({"DETACHD_LAB": "off"}, 0, "DETACHD_LAB=off"),
        ({"DETACHD_LAB": "off", "CI": "true"}, 1, "could not be installed"),
        ({}, 0, "tests that need it are skipped"),
        ({"CI": "true"}, 1, "could not be installed"),
    ],
    ids=["switched off", "switched off in CI", "pip fails", "pip fails in CI"],
)
def test_what_make_says(
    variables: dict[str, str],
    result: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Switched off or not to be had -> said in words; an error where CI=true, whatever was set."""
    monkeypatch.setattr(environment, "_install", _no_network)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.main() == result
    assert said in "".join(capsys.readouterr())


@pytest.mark.parametrize("pins", REAL_LISTS, ids=lambda p: p.stem)
def test_every_pin_is_exact(pins: Path) -> None:
    """A real list -> each line one package at one release, each package once."""
    lines = [line for line in pins.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert len(set(_names(lines))) == len(lines)


def _names(lines: Sequence[str]) -> list[str]:
    pairs = [line.split("==") for line in lines]
    assert all(len(pair) == 2 and all(pair) for pair in pairs)
    return [name.lower() for name, _ in pairs]
