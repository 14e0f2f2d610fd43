"""What the commands share that read the configuration and open the ledger."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path

from consumer.ledger import Ledger
from consumer.settings.configuration import DEFAULT_FILE, Settings, load
from consumer.settings.opening import open_ledger


def add_config_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-file``, which may be given more than once."""
    parser.add_argument(
        "--config-file",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help=f"a configuration file; later ones win (default: {DEFAULT_FILE})",
    )


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Load the configuration that the command line names. Raises ConfigurationError."""
    return load(arguments.config_file)


@contextlib.contextmanager
def ledger_of(arguments: argparse.Namespace) -> Iterator[Ledger]:
    """Open the ledger of the configuration for one command, its schema checked.

    Raises ConfigurationError, SchemaBehindError, SchemaAheadError, LedgerUnavailableError.
    """
    with contextlib.closing(open_ledger(settings_of(arguments))) as ledger:
        ledger.check_schema()
        yield ledger


def actor() -> str:
    """Return who gives the command: the person behind sudo, else the user of the process."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as containers have it
        return f"uid {os.getuid()}"


def add_actor(parser: argparse.ArgumentParser) -> None:
    """Add ``--actor``, which history keeps."""
    parser.add_argument(
        "--actor", default=actor(), help="who decides this, for the history (default: %(default)s)"
    )
