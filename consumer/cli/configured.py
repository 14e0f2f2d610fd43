"""Shared by commands that read the configuration or open the ledger; and ``detachd ledger``."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cliff.command import Command

from consumer.cli.app import stated_reason
from consumer.errors import BadInputError
from consumer.settings import DEFAULT_FILE

if TYPE_CHECKING:  # their imports take half a second, which the help must not wait for
    from consumer.ledger import Ledger
    from consumer.settings.configuration import Settings

BACKEND = "backend:"  # consumer.work.backends.PREFIX, whose import takes long


def add_config_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-file``, which may be given more than once."""
    parser.add_argument(
        "--config-file",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help=f"a configuration file; repeatable, the last value counts (default: {DEFAULT_FILE})",
    )


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Load the configuration for this command line. Raises ConfigurationError."""
    from consumer.settings import configuration

    return configuration.load(arguments.config_file)


@contextlib.contextmanager
def ledger_of(arguments: argparse.Namespace) -> Iterator[Ledger]:
    """Open the ledger of the configuration for one command, its schema checked.

    Raises ConfigurationError, SchemaBehindError, SchemaAheadError, LedgerUnavailableError.
    """
    with contextlib.closing(unchecked_ledger_of(arguments)) as ledger:
        ledger.check_schema()
        yield ledger


def unchecked_ledger_of(arguments: argparse.Namespace) -> Ledger:
    """Return the ledger of the configuration, whatever its schema. Raises ConfigurationError."""
    from consumer.settings import ledger

    return ledger.ledger_alone(arguments.config_file)


def backends_configured(given: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of the sections [backend:NAME]. Raises ConfigurationError."""
    from consumer.settings import files

    # By the titles alone, which needs no driver to be imported.
    sections = (title for path in given or files.default_files() for title in files.parse(path))
    return tuple(title[len(BACKEND) :] for title in sections if title.lower().startswith(BACKEND))


class UnknownFilterError(BadInputError):
    """No case has what is asked for."""


def check_backend(ledger: Ledger, backend: str, files: Sequence[Path]) -> None:
    """Raise UnknownFilterError for a backend that no case had and no file configures."""
    known = {*ledger.backends_on_record(), *backends_configured(files)}
    if backend not in known:
        there_are = ", ".join(sorted(known)) or "none"
        raise UnknownFilterError(f"there is no backend {backend}; there are: {there_are}")


def actor() -> str:
    """Return who runs the command: the user who called sudo, else the user of the process."""
    # Who decided is asked of the history; "root" says nothing.
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return f"uid {os.getuid()}"


def add_actor(parser: argparse.ArgumentParser) -> None:
    """Add ``--actor``, for the history."""
    parser.add_argument(
        "--actor", default=actor(), help="who decides this, for the history (default: %(default)s)"
    )


def add_word(parser: argparse.ArgumentParser, why: str) -> None:
    """Add why a person decides this, which is required, and who does; ``why`` is the help."""
    parser.add_argument("--reason", type=stated_reason, required=True, help=why)
    add_actor(parser)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add ``--format`` of a command that has a text of its own, and JSON for programs."""
    parser.add_argument(
        "-f", "--format", choices=["text", "json"], default="text", help="(default: text)"
    )


class ConfiguredCommand(Command):
    """A command with ``--config-file``; what else it takes is added by ``_add_arguments``."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command, ``--config-file`` last."""
        parser = super().get_parser(prog_name)
        self._add_arguments(parser)
        add_config_file(parser)
        return parser

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments that this command alone has: none."""


class LedgerUpgrade(ConfiguredCommand):
    """Create the tables of the ledger, or migrate them to this version of detachd.

    Stop the service before an upgrade. It is safe to run this command again.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Run the migrations that are missing."""
        with contextlib.closing(unchecked_ledger_of(parsed_args)) as ledger:
            done = ledger.upgrade()
            name = ledger.name
        if done.before == done.after:
            self.app.stdout.write(f"The ledger at {name} is up to date ({done.after}).\n")
        else:
            before = done.before or "nothing"
            self.app.stdout.write(f"Migrated the ledger at {name} from {before} to {done.after}.\n")
