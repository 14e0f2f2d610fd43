"""The ``detachd`` command: runs a subcommand, and reports errors as text and exit code."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.metadata
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from cliff.app import App
from cliff.command import Command

from consumer.cli.commands import Commands, whole
from consumer.errors import BadInputError
from consumer.status.words import printable

DONE, FAILED, BAD_INPUT = 0, 1, 2
SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS = 366 * 86400
LONGEST_REASON = 1000
MOST = 2**31 - 1
"""The largest integer that every database accepts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``detachd`` with ``argv`` (without the program's name) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with contextlib.ExitStack() as last:
            if sys.stdout is None:  # closed by who started it: what is printed is not wanted
                last.enter_context(contextlib.redirect_stdout(last.enter_context(nowhere())))
            if isinstance(sys.stdout, io.TextIOWrapper):
                # A name that the terminal's encoding lacks is no reason to say nothing.
                sys.stdout.reconfigure(errors="backslashreplace")
            # Without a command cliff would start a shell of its own.
            return DetachdApp().run(arguments or ["help"])
    except SystemExit as done:  # argparse ends --help, --version and wrong usage this way
        return done.code if isinstance(done.code, int) else FAILED if done.code else DONE


def nowhere() -> TextIO:
    """Return a stream whose text is thrown away."""
    return Path(os.devnull).open("w", encoding="utf-8")


def version() -> str:
    """Return the installed version of detachd."""
    return importlib.metadata.version("detachd")


def causes(error: BaseException) -> list[str]:
    """Return the texts of ``error`` and its causes, the root cause first.

    A text that only repeats another is left out: that of a library's wrapper around a cause, and
    that of a cause which an outer error already contains.
    """
    chain = [error]
    # ``__cause__`` and not ``__context__``: what was raised ``from None`` is not meant to be read.
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    texts = [_text(each) for each in chain]
    shown = texts[:1]
    for number, text in enumerate(texts[1:], start=1):
        # SQLAlchemy repeats the driver's text in its own.
        wraps = any(_flat(deeper) in _flat(text) for deeper in texts[number + 1 :])
        repeats = any(_gist(chain[number], text) in _flat(outer) for outer in shown)
        if not wraps and not repeats:
            shown.append(text)
    return shown[::-1]


def _text(error: BaseException) -> str:
    """Return what an error says: for a system error its file and its words, without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error).strip() or type(error).__name__
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    lost = "what was to be written is not complete: " if error.errno == errno.ENOSPC else ""
    return f"{lost}{error.strerror}"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _gist(error: BaseException, text: str) -> str:
    """Return the essential text of an error: for a system error, without its number."""
    return (isinstance(error, OSError) and error.strerror) or _flat(text)


class ErrorFormatter(logging.Formatter):
    """Prints an error as its causes, one per line, and everything else unchanged.

    A cause may quote a name or a reason that somebody gave: no control character gets through.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the text for the terminal."""
        if not isinstance(record.msg, BaseException):
            return super().format(record)
        if record.exc_info:
            return "".join(traceback.format_exception(record.msg)).rstrip()
        lines = "\n".join(causes(record.msg)).splitlines()
        return "detachd: " + "\n".join(map(printable, lines))


class DetachdApp(App):
    """cliff's application, with short output on success and the causes on failure.

    ``-v`` adds what the libraries log, and the traceback of an error.
    """

    NAME = "detachd"
    # cliff prints errors by the class's LOG. A logger of our own keeps its handler when a command
    # sets up the logging.
    LOG = logging.getLogger("detachd.complaints")
    CONSOLE_MESSAGE_FORMAT = "%(levelname)s %(name)s: %(message)s"
    # Otherwise cliff prints what the libraries log at INFO.
    DEFAULT_VERBOSE_LEVEL = 0

    def __init__(self) -> None:
        super().__init__(
            description="Find stuck volume attachments and release them when it is proven safe.",
            version=version(),
            command_manager=Commands("detachd.cli"),
            deferred_help=True,
        )
        self._error: BaseException | None = None

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        """Return the parser of the options before the command.

        It always shows the name detachd.
        """
        # cliff adds a --version of its own, with the name of whatever file was started.
        own = {"conflict_handler": "resolve", "prog": self.NAME}
        parser = super().build_option_parser(description, version, (argparse_kwargs or {}) | own)
        parser.add_argument("--version", action="version", version=f"{self.NAME} {version}")
        return parser

    def run(self, argv: list[str]) -> int:
        """Run the command in ``argv``, and restore the logging afterwards."""
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        try:
            return super().run(argv)
        finally:
            # cliff adds handlers to the root logger at each run, and tests run many commands in one
            # process.
            for handler in set(root.handlers).difference(handlers):
                handler.close()
            root.setLevel(level)
            root.handlers = handlers

    def configure_logging(self) -> None:
        """Log to stderr. Errors go there too, even if a command changes the logging."""
        super().configure_logging()
        console = logging.StreamHandler(self.stderr)
        console.setFormatter(ErrorFormatter())
        self.LOG.handlers = [console]
        self.LOG.propagate = False

    def initialize_app(self, argv: list[str]) -> None:
        """Show tracebacks with -v."""
        del argv
        # cliff shows a traceback with --debug alone.
        self.options.debug = self.options.debug or self.options.verbose_level > 0

    def print_help_if_requested(self) -> None:
        """Show the commands by group; cliff would import each of them."""
        if self.options.deferred_help:
            self.stdout.write(whole(self.parser))
            raise SystemExit(DONE)

    def interact(self) -> None:
        """Show the help: without a command, cliff would start an interactive shell."""
        self.run_subcommand(["help"])

    def run_subcommand(self, argv: list[str]) -> int:
        """Run one command and return its exit code."""
        result = super().run_subcommand(argv)
        # cliff has one exit code for all errors.
        return BAD_INPUT if isinstance(self._error, BadInputError) else result

    def clean_up(self, cmd: Command, result: int, err: BaseException | None) -> None:
        """Keep the error for the exit code; cliff has printed it."""
        del cmd, result
        self._error = err


def counting(text: str) -> int:
    """Parse a whole number, zero included, for argparse."""
    return 0 if text == "0" else positive(text)


def positive(text: str) -> int:
    """Parse a whole number above zero, for argparse."""
    if (number := _whole(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not greater than zero")
    if number > MOST:
        raise argparse.ArgumentTypeError(f"{number} is too large; the maximum is {MOST}")
    return number


def seconds(text: str) -> float:
    """Parse a number of seconds above zero, for argparse."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < number <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and a year of seconds")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # argparse would name the function that failed
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def stated_reason(text: str) -> str:
    """Parse what a person gives as a reason or a note, for argparse: some text, and not a book.

    It is shown in one line of tables, and again and again by `detachd status`.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("a reason needs words")
    if len(text) > LONGEST_REASON:
        raise argparse.ArgumentTypeError(
            f"it has {len(text)} characters; write at most {LONGEST_REASON}, and name a "
            "ticket for more"
        )
    return text


def moment_or_seconds(text: str) -> datetime | float:
    """Parse a time, or a duration such as 90m, 12h or 3d in seconds; for argparse."""
    if duration := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        seconds = int(duration[1]) * SECONDS_OF[duration[2]]
        if not 0 < seconds <= LONGEST_SECONDS:
            raise argparse.ArgumentTypeError(f"{text} is not between a second and a year")
        return float(seconds)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is neither a time such as 2026-11-30T08:00 nor a duration such as 90m, 12h, 3d"
        ) from None
    # UTC, as all times that are printed: the local zone of an operator and that of the machine may
    # differ.
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def since(text: str) -> datetime:
    """Parse how long ago, or a time; for argparse."""
    given = moment_or_seconds(text)
    return given if isinstance(given, datetime) else datetime.now(UTC) - timedelta(seconds=given)
