"""``detachd config ...``: configurations to begin with, a check, and the files beside them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from cliff.command import Command

from consumer.cli.installation.doctor import Doctor
from consumer.errors import BadInputError

SHIPPED = (
    ("metrics", "alerts"),
    ("metrics", "runbooks"),
    ("handlers.announcement", ""),
    ("consumer", "deploy"),
)
"""Where the packages keep what an installer needs, as package and folder."""
KINDS = (".yaml", ".json", ".md", ".service")


class ConfigSample(Command):
    """Print every option with its help and its default, those of installed drivers too."""

    def take_action(
        self,
        parsed_args: argparse.Namespace,  # noqa: ARG002 - cliff's signature
    ) -> None:
        """Print it."""
        from consumer.settings import sample

        self.app.stdout.write(sample.sample())


class ConfigMinimal(Command):
    """Print the least that detachd needs, with words in capitals to be replaced.

    With --simulated it is a whole configuration for a trial on the cloud of `detachd simulate`, and
    has a new secret: keep the file to yourself (umask 077).
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--simulated", action="store_true", help="for a trial on the simulated cloud"
        )
        parser.add_argument(
            "--transport-url",
            metavar="URL",
            help="the broker for the trial (default: that of this machine, as user guest)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print it."""
        from consumer.settings import sample

        if parsed_args.simulated:
            url = parsed_args.transport_url or sample.A_BROKER_HERE
            self.app.stdout.write(sample.simulated(Path.cwd(), url))
        else:
            self.app.stdout.write(sample.MINIMAL)


class ConfigCheck(Doctor):
    """Read the configuration files, without any connection, and say what is wrong in them.

    It is `detachd doctor --config`: the exit status is 0 for none that matters, 3 for a warning, 4
    for an error.
    """

    files_alone = True


class ConfigFiles(Command):
    """Write what belongs beside the configuration into a directory.

    These are the alert rules with their runbooks, the JSON Schemas of announcements, and the unit
    file for systemd, as they belong to this version. A file of the same name is replaced.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("directory", type=Path, help="is made if it does not exist")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write them, and print the path of each. Raises BadInputError, OSError."""
        directory = parsed_args.directory
        if directory.exists() and not directory.is_dir():
            raise BadInputError(f"{directory} is a file; name a directory")
        for name, found in shipped():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found.read_bytes())
            self.app.stdout.write(f"{path}\n")


def shipped() -> Iterator[tuple[str, Traversable]]:
    """Yield each file that belongs beside the configuration, with the name that it is given."""
    for package, folder in SHIPPED:
        place = files(package) / folder if folder else files(package)
        for found in sorted(place.iterdir(), key=lambda one: one.name):
            if found.name.endswith(KINDS):
                yield f"{folder or 'schemas'}/{found.name}", found
