"""The ``detachd`` command: runs a subcommand, turns errors into words and exit codes."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Any, TextIO

from cliff.app import App
from cliff.command import Command
from cliff.commandmanager import CommandManager

from consumer.errors import ConfigurationError
from consumer.intake.replay_queue import NotReplayableError, UnreadableInputError
from consumer.ledger import LedgerUrlError, NoSuchBodyError, NoSuchCaseError, WrongStateError

DONE, FAILED, BAD_INPUT = 0, 1, 2
MOST = 2**31 - 1
"""What every database takes for a whole number."""
BAD_INPUT_ERRORS = (
    ConfigurationError, LedgerUrlError, NoSuchBodyError, NoSuchCaseError, NotReplayableError,
    UnreadableInputError, WrongStateError,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``detachd`` with ``argv`` (without the program's name) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return DetachdApp().run(arguments or ["help"])
    except SystemExit as done:  # argparse ends --help, --version and wrong usage this way
        return done.code if isinstance(done.code, int) else FAILED if done.code else DONE


def version() -> str:
    """Return the installed version of detachd."""
    return importlib.metadata.version("detachd")


def causes(error: BaseException) -> list[str]:
    """Return what ``error`` and the errors behind it say, the root first.

    What only repeats another is left out: a library's wrapper around the root, and a cause whose
    words are in what is said further out.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    texts = [str(each).strip() or type(each).__name__ for each in chain]
    shown = texts[:1]
    for number, text in enumerate(texts[1:], start=1):
        wraps = any(_flat(deeper) in _flat(text) for deeper in texts[number + 1 :])
        repeats = any(_gist(chain[number], text) in _flat(outer) for outer in shown)
        if not wraps and not repeats:
            shown.append(text)
    return shown[::-1]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _gist(error: BaseException, text: str) -> str:
    """Return what must be said of an error: of the system's, its words without their number."""
    return (isinstance(error, OSError) and error.strerror) or _flat(text)


class ErrorFormatter(logging.Formatter):
    """Prints an error as its causes, one a line; everything else as it is."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text for the terminal."""
        if not isinstance(record.msg, BaseException):
            return super().format(record)
        if record.exc_info:
            return "".join(traceback.format_exception(record.msg)).rstrip()
        return "detachd: " + "\n".join(causes(record.msg))


class Commands(CommandManager):
    """Finds the commands by name; one is imported when it is asked for, with all that it needs."""

    def load_commands(self, namespace: str) -> None:
        """Take in the names that installed packages declare."""
        self.group_list.append(namespace)
        for point in importlib.metadata.entry_points(group=namespace):
            self.commands[point.name.replace("_", " ")] = point


class DetachdApp(App):
    """cliff's application with our manners: few words on success, causes on failure.

    ``-v`` adds what the libraries log, and the traceback of an error.
    """

    NAME = "detachd"
    LOG = logging.getLogger("detachd.complaints")
    CONSOLE_MESSAGE_FORMAT = "%(levelname)s %(name)s: %(message)s"
    DEFAULT_VERBOSE_LEVEL = 0

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        super().__init__(
            description="Find stuck volume attachments and release them when it is proven safe.",
            version=version(),
            command_manager=Commands("detachd.cli"),
            stdout=stdout,
            stderr=stderr,
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

        Under our own name, however the program was called.
        """
        own = {"conflict_handler": "resolve", "prog": self.NAME}
        parser = super().build_option_parser(description, version, (argparse_kwargs or {}) | own)
        parser.add_argument("--version", action="version", version=f"{self.NAME} {version}")
        return parser

    def run(self, argv: list[str]) -> int:
        """Run what ``argv`` says, and leave logging as it was."""
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        try:
            return super().run(argv)
        finally:
            for handler in set(root.handlers).difference(handlers):
                handler.close()
            root.setLevel(level)
            root.handlers = handlers

    def configure_logging(self) -> None:
        """Log to stderr; complaints go there too, whatever a command makes of the logging."""
        super().configure_logging()
        console = logging.StreamHandler(self.stderr)
        console.setFormatter(ErrorFormatter())
        self.LOG.handlers = [console]
        self.LOG.propagate = False

    def initialize_app(self, argv: list[str]) -> None:
        """Show tracebacks with -v."""
        del argv
        self.options.debug = self.options.debug or self.options.verbose_level > 0

    def interact(self) -> None:
        """Show the help: options alone are no command, and there is no shell of ours."""
        self.run_subcommand(["help"])

    def run_subcommand(self, argv: list[str]) -> int:
        """Run one command and return its exit code."""
        result = super().run_subcommand(argv)
        return BAD_INPUT if isinstance(self._error, BAD_INPUT_ERRORS) else result

    def clean_up(self, cmd: Command, result: int, err: BaseException | None) -> None:
        """Remember what went wrong; cliff has printed it."""
        del cmd, result
        self._error = err


def positive(text: str) -> int:
    """Parse a whole number above zero, for argparse."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not greater than zero")
    if number > MOST:
        raise argparse.ArgumentTypeError(f"{number} is too large; the maximum is {MOST}")
    return number
