"""The configuration read anew: what is taken over, what is said, and what changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from consumer.settings import configuration
from consumer.settings.configuration import Settings, load
from consumer.settings.reloading import Reloader, mode_changes, with_modes
from handlers.judgement.policy import Mode

BASIS = """[DEFAULT]
transport_url = rabbit://u:canary@h/
[ledger]
connection = sqlite:////nowhere/ledger.sqlite
[brakes]
per_day = 100
[backend_defaults]
mode = observe
[backend:a@b]
mode = auto
"""


class Held:
    """A service as the reloader sees it: it takes settings, and keeps them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_text(BASIS)
        self.taken: list[Settings] = []
        self.reloader = Reloader([file], self.take)

    def take(self, read: Settings) -> Sequence[str]:
        """Take them."""
        self.taken.append(read)
        return ["a change"]


@pytest.fixture
def held(tmp_path: Path) -> Held:
    """Give one that has started with BASIS."""
    return Held(tmp_path / "detachd.conf")


@pytest.fixture
def reload(held: Held, caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """Write another configuration, reload it, and return the lines of the log."""

    def run(text: str) -> list[str]:
        held.file.write_text(text)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            held.reloader.reload()
        return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]

    return run


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BASIS.replace("mode = auto", "moed = auto"), "did you mean mode?"),
        (BASIS.replace("mode = auto", "mode = always"), "mode"),
        (BASIS + "nonsense\n", "line"),
        (BASIS.replace("per_day = 100", "per_day = many"), "not a whole number"),
    ],
)
def test_a_wrong_file_changes_nothing(
    held: Held, reload: Callable[[str], list[str]], text: str, why: str
) -> None:
    """A typing error, a bad value, no INI -> nothing is taken, and an error line says why."""
    (line,) = reload(text)
    assert held.taken == []
    assert line.startswith("ERROR the configuration was not read anew, nothing changes: ")
    assert why in line


FROZEN = """[DEFAULT]
transport_url = rabbit://u:canary@h/
[ledger]
connection = sqlite:////nowhere/ledger.sqlite
[backend_defaults]
mode = auto
[backend:a@b]
mode = auto
[backend:frozen@b]
mode = observe
[brakes]
per_day = 100
"""


def test_a_file_that_is_half_written_changes_nothing(
    held: Held, reload: Callable[[str], list[str]]
) -> None:
    """SIGHUP while an editor has written some lines -> a backend in observe is not put in auto."""
    reload(FROZEN)
    held.taken.clear()
    lines = FROZEN.splitlines(keepends=True)
    for written in range(len(lines)):
        told = reload("".join(lines[:written]))
        assert held.taken == []
        assert told[0].startswith("ERROR the configuration was not read anew, nothing changes: ")
    reload(FROZEN.replace("mode = observe", "mode = approve"))
    (taken,) = held.taken
    assert taken.backends.of("frozen@b").policy.mode is Mode.APPROVE


def test_a_file_that_is_written_while_it_is_read_changes_nothing(
    held: Held, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was whole at one reading and half at the next -> nothing is taken."""

    def half(paths: Sequence[Path]) -> Settings:
        held.file.write_text(BASIS.partition("[backend:")[0])
        return load(paths)

    monkeypatch.setattr(configuration, "load", half)
    held.reloader.reload()
    assert held.taken == []
    assert "a file was written while it was read" in caplog.text


def test_a_file_that_is_gone_changes_nothing(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    """The file was removed -> an error line, and the service goes on."""
    held.file.unlink()
    held.reloader.reload()
    assert held.taken == []
    assert "cannot be read: No such file or directory" in caplog.text


def test_what_needs_a_restart_is_named_without_its_value(
    reload: Callable[[str], list[str]],
) -> None:
    """transport_url, kill_switch_file, threads -> named, each time until a restart; no value."""
    changed = BASIS.replace("canary", "other-canary").replace(
        "per_day = 100", "per_day = 200\nkill_switch_file = /elsewhere"
    )
    for _ in range(2):
        lines = reload(changed + "[worker]\nthreads = 8\n")
        assert lines[-1] == (
            "WARNING changed, but not before a restart: [brakes] kill_switch_file, [DEFAULT] "
            "transport_url, [worker] threads"
        )
        assert "canary" not in "".join(lines)


def test_modes_and_brakes_need_no_restart(reload: Callable[[str], list[str]]) -> None:
    """Other modes and limits -> what changed is said, and no restart is asked for."""
    lines = reload(BASIS.replace("mode = observe", "mode = approve").replace("100", "200"))
    assert lines == ["INFO the configuration was read anew: a change"]


def test_of_a_section_only_its_mode_is_taken(tmp_path: Path) -> None:
    """Modes and another option change, one section comes, one goes -> each has the mode it reads.

    The backend whose section is gone has the mode of the defaults, not the one that it had.
    """
    file = tmp_path / "detachd.conf"
    file.write_text(BASIS)
    before = load([file]).backends
    file.write_text("[backend_defaults]\nmode = approve\ntries = 9\n[backend:c@d]\nmode = auto\n")
    after = with_modes(before, load([file]).backends)
    modes = {name: after.of(name).policy.mode for name in ("a@b", "c@d", "new@x")}
    assert modes == {"a@b": Mode.APPROVE, "c@d": Mode.AUTO, "new@x": Mode.APPROVE}
    assert {b.policy.tries for b in after.all()} == {before.defaults.policy.tries}
    assert list(mode_changes(before, after)) == [
        "backend backend_defaults: mode observe -> approve",
        "backend a@b: mode auto -> approve",
        "backend c@d: mode observe -> auto",
    ]
