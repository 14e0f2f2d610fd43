"""``detachd`` itself: help, exit codes, and how errors are told."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.cli import app, configured
from consumer.cli.app import LONGEST_REASON, MOST, causes, main, positive, stated_reason
from consumer.cli.commands import Listed, every
from consumer.errors import ConfigurationError
from consumer.ledger import LedgerUnavailableError, NoSuchCaseError
from consumer.settings.ledger import ledger_alone

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[4]


# -- what is shown ---------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]], ids=str)
def test_help_is_shown(words: list[str], capsys: Captured) -> None:
    """`detachd` alone, or asked for help -> the commands there are, no shell of its own, exit 0."""
    assert main(words) == 0
    shown = capsys.readouterr().out
    for command in ("serve", "case list", "ledger upgrade", "pause", "resume"):
        assert command in shown


def test_options_alone_show_the_help_too(capsys: Captured) -> None:
    """`detachd -v` -> help, not a prompt that waits for ever."""
    main(["-v"])
    assert "case list" in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys: Captured) -> None:
    """--version -> name and version, exit 0."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"detachd {app.version()}"


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["case", "list", "--no-such-option"],
        ["case", "list", "--state", "sleeping"],
        ["case", "list", "--limit", "0"],
        ["case", "list", "--limit", "many"],
        ["case", "show"],
        ["case", "approve", "abcd"],
        ["pause"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_bad_input(words: list[str], capsys: Captured) -> None:
    """Words that mean nothing -> exit 2 and no traceback."""
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out


@pytest.mark.parametrize("words", [["--limit", "many"], ["--skip", "1.5"]], ids=" ".join)
def test_a_word_for_a_number_is_refused_in_plain_words(words: list[str], capsys: Captured) -> None:
    """A value that is no number -> what it has to be, and no name of a function of ours."""
    assert main(["case", "list", *words]) == 2
    assert f"'{words[1]}' is not a whole number" in capsys.readouterr().err


def test_every_command_explains_itself(capsys: Captured) -> None:
    """--help of each command -> exit 0, a description, its options."""
    for words in (["serve"], ["case", "list"], ["case", "show"], ["case", "approve"], ["pause"]):
        assert main([*words, "--help"]) == 0
        assert "--config-file" in capsys.readouterr().out


def test_help_names_every_command_once_and_fits(capsys: Captured) -> None:
    """The help on 80 columns -> each command on a line of its own, none twice, no "(cliff)"."""
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for listed in every():
        assert len([line for line in lines if line.startswith(f"  {listed.name}  ")]) == 1
    assert max(map(len, lines)) <= 80
    assert not any("cliff" in line for line in lines)


@pytest.mark.parametrize("listed", list(every()), ids=lambda listed: listed.name)
def test_every_example_is_understood(listed: Listed) -> None:
    """The example in a command's help -> its own parser takes it."""
    command = listed.load()
    if listed.example:
        words = shlex.split(listed.example.removeprefix(f"detachd {listed.name}"))
        command(None, None).get_parser(listed.name).parse_args(words)


HEAVY = ("alembic", "kombu", "keystoneauth1", "oslo_messaging", "sqlalchemy")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--help"], []),
        (["rule", "list"], []),
        (["case", "list"], ["sqlalchemy"]),
        (["replica", "list"], ["sqlalchemy"]),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_command_imports_no_more_than_it_needs(
    words: list[str], needed: list[str], tmp_path: Path
) -> None:
    """A command that only prints, or reads the ledger -> no client of anything else is imported."""
    configured_file = tmp_path / "detachd.conf"
    configured_file.write_text(f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n")
    with contextlib.closing(ledger_alone([configured_file])) as ledger:
        ledger.upgrade()
    given = ["--config-file", str(configured_file)] if needed else []
    program = (
        "import sys; from consumer.cli.app import main; code = main(sys.argv[1:]); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words, *given],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, str(needed))


HELP_OF_ALL = f"""
import contextlib, io, sys
from consumer.cli.app import main
from consumer.cli.commands import every

known = set()
for listed in every():
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        code = main([*listed.name.split(), "--help"])
    heavy = sorted(set({HEAVY}) & sys.modules.keys() - known)
    known.update(heavy)
    print(listed.name, code, bool(shown.getvalue()), *heavy, sep="|")
"""


def test_help_of_a_command_waits_for_no_heavy_import() -> None:
    """`--help` of each command -> none imports the database, the broker or the HTTP clients."""
    done = subprocess.run(
        [sys.executable, "-c", HELP_OF_ALL],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{listed.name}|0|True" for listed in every()]


@pytest.mark.slow
def test_module_is_the_command(tmp_path: Path) -> None:
    """`python -m consumer` -> the same command, the same exit codes, stderr free of warnings."""
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "case", "list", "--config-file", str(tmp_path / "no")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"detachd: {tmp_path / 'no'} cannot be read: No such file or directory\n"
    assert done.stdout == ""


# -- errors ----------------------------------------------------------------------------------------


def raised(*errors: Exception) -> Exception:
    """Return the last of these, each raised from the one before."""
    chain: Exception | None = None
    for error in errors:
        error.__cause__ = chain
        chain = error
    assert chain is not None
    return chain


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([ValueError("it")], ["it"]),
        ([OSError("disk full"), RuntimeError("cannot write")], ["disk full", "cannot write"]),
        (
            [OSError("refused"), OSError("(lib.Error) refused (see docs)"), RuntimeError("no db")],
            ["refused", "no db"],
        ),
        (
            [OSError("refused"), OSError("(lib.Error) refused"), RuntimeError("no db: refused")],
            ["no db: refused"],
        ),
        ([OSError("a"), OSError("b"), OSError("c")], ["a", "b", "c"]),
        (
            [FileNotFoundError(2, "No such file", "/nope"), RuntimeError("no /nope: No such file")],
            ["no /nope: No such file"],
        ),
        (
            [OSError(28, "No space left"), RuntimeError("no db")],
            ["what was to be written is not complete: No space left", "no db"],
        ),
        ([NotADirectoryError(20, "Not a directory", "/a/b")], ["/a/b: Not a directory"]),
        ([KeyError()], ["KeyError"]),
    ],
    ids=[
        "alone",
        "two",
        "wrapper left out",
        "repetition left out",
        "three",
        "the system's words repeated",
        "the system's words",
        "the system's words of a file",
        "no words",
    ],
)
def test_causes_are_told_root_first_and_once(errors: list[Exception], expected: list[str]) -> None:
    """A chain of causes -> the root first, without what only repeats another."""
    assert causes(raised(*errors)) == expected


Failing = Callable[[Exception], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Make every command that needs the ledger fail with an error."""

    def fail_with(error: Exception) -> None:
        def fail(arguments: argparse.Namespace) -> None:
            raise error

        monkeypatch.setattr(configured, "unchecked_ledger_of", fail)

    return fail_with


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError(["mode is wrong"]), 2),
        (NoSuchCaseError("no case abc"), 2),
        (LedgerUnavailableError("the ledger is away"), 1),
        (RuntimeError("a bug"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_is_told_without_a_traceback_and_sorted_by_code(
    failing: Failing, capsys: Captured, error: Exception, code: int
) -> None:
    """Any error of a command -> its words on stderr; 2 for what the caller can mend, else 1."""
    failing(error)
    assert main(["case", "list"]) == code
    shown = capsys.readouterr()
    assert shown.err == f"detachd: {error}\n"
    assert shown.out == ""


def test_verbose_shows_the_traceback(failing: Failing, capsys: Captured) -> None:
    """-v -> the traceback for who has to mend it, and the same exit code."""
    failing(ConfigurationError(["mode is wrong"]))
    assert main(["-v", "case", "list"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_one_error_does_not_colour_the_next_run(failing: Failing, capsys: Captured) -> None:
    """Two runs in one process -> each has its own exit code."""
    failing(ConfigurationError(["mode is wrong"]))
    assert main(["case", "list"]) == 2
    assert main(["--version"]) == 0
    capsys.readouterr()


# -- who gives the command -------------------------------------------------------------------------


def test_actor_is_the_person_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """SUDO_USER is set -> that person, not root."""
    monkeypatch.setenv("SUDO_USER", "alice")
    assert configured.actor() == "alice"


def test_actor_without_sudo_is_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sudo -> the user of the process."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "bob")
    assert configured.actor() == "bob"


def test_actor_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uid that has no name, as in a container -> the number."""

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(configured.getpass, "getuser", nobody)
    assert configured.actor() == f"uid {os.getuid()}"


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "0 is not greater than zero"),
        ("-3", "-3 is not greater than zero"),
        ("9" * 20, "is too large"),
    ],
)
def test_number_that_cannot_be_counted_to_is_wrong_usage(text: str, words: str) -> None:
    """A limit of nothing, or more than any database counts -> said by argparse, before a look."""
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        positive(text)
    assert positive("2147483647") == MOST


# -- what a clumsy or hostile operator gives -------------------------------------------------------


def commands_with_a_reason() -> list[str]:
    """List the commands that take --reason, from their parsers."""
    return [
        one.name
        for one in every()
        if "--reason" in one.load()(app.DetachdApp(), None).get_parser(one.name).format_help()
    ]


def test_every_reason_that_is_stored_is_short_and_has_words() -> None:
    """--reason of each command but resume's, which is logged -> parsed by the same rule."""
    for name in commands_with_a_reason():
        command = next(one for one in every() if one.name == name)
        parser = command.load()(app.DetachdApp(), None).get_parser(name)
        (action,) = (one for one in parser._actions if "--reason" in one.option_strings)
        assert (action.type is stated_reason) == (name != "resume"), name


@pytest.mark.parametrize("text", ["", " \n", "x" * (LONGEST_REASON + 1)], ids=["", "blank", "long"])
def test_a_reason_without_words_or_without_end_is_refused(text: str, capsys: Captured) -> None:
    """It would fill each line of `detachd status` for everybody -> refused, with the limit."""
    assert main(["pause", "--reason", text]) == 2
    assert len(capsys.readouterr().err) < 600


def test_an_error_that_quotes_control_characters_shows_them_escaped() -> None:
    """A reason or a name with an escape sequence -> the terminal never gets it; lines stay."""
    error = LedgerUnavailableError("paused by eve: \x1b[2Jgone\nsecond line")
    record = logging.LogRecord("detachd", logging.ERROR, "", 0, error, None, None)
    shown = app.ErrorFormatter().format(record)
    assert shown == "detachd: paused by eve: \\x1b[2Jgone\nsecond line"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_changes_no_exit_code(closed: str) -> None:
    """Started with a closed stream (cron, a daemon) -> done as ever, and no word about None."""
    command = f"{shlex.quote(sys.executable)} -m consumer rule list {closed}"
    ran = subprocess.run(
        ["/bin/sh", "-c", command], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_name_that_the_encoding_lacks_is_shown_escaped(tmp_path: Path) -> None:
    """A terminal of ASCII and a path with an umlaut -> the output, with that letter escaped."""
    file = tmp_path / "d\u00e9tach.conf"
    file.write_text("[backend_defaults]\ndriver = simulator\n")
    ran = subprocess.run(
        [sys.executable, "-m", "consumer", "config", "check", "--config-file", str(file)],
        check=False, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"},
    )  # fmt: skip
    assert "d\\xe9tach.conf" in ran.stdout
    assert ran.stderr == ""
