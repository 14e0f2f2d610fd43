"""``detachd case bundle``: one case as one redacted JSON file, for the ticket of a vendor."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn

from consumer.cli.app import version
from consumer.cli.cases.show import as_fields
from consumer.cli.configured import ConfiguredCommand, settings_of
from consumer.errors import BadInputError
from handlers.notification.redaction import scrub

if TYPE_CHECKING:
    from oslo_config import cfg

    from consumer.ledger import CaseRecord
    from consumer.settings.configuration import Settings

MASKED = "***"
SECRET_NAME = re.compile(
    r"passw|secret|token|credential|authkey|(?:^|_)key(?:$|ring|_data)|transport_url|connection_info"
    r"|provider_auth|user_data|auth_(?!type|url|version)|private|chap",
    re.IGNORECASE,
)
"""Names whose value is masked, whatever an option's author declared."""
PACKAGES = (
    "amqp", "cliff", "keystoneauth1", "kombu", "oslo.config", "oslo.log", "oslo.messaging",
    "psycopg", "PyMySQL", "requests", "SQLAlchemy", "urllib3",
)  # fmt: skip
ASSIGNED = re.compile(r"(?P<name>\S+)\s*= (?P<value>.*)", re.DOTALL)


class CaseBundle(ConfiguredCommand):
    """Write one case into a JSON file for a ticket: record, explanation, configuration, versions.

    Secrets are masked: options that are declared secret or named like one, and whatever in a text
    looks like a credential. Read it before you send it all the same: it names hosts and servers.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", metavar="ID", help="the id of the case, or its beginning")
        parser.add_argument(
            "-o",
            "--output",
            metavar="FILE",
            help="a file that does not exist yet, or - (default: detachd-case-ID.json)",
        )

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Write the file. Raises NoSuchCaseError, and BadInputError rather than overwrite."""
        from consumer.settings.ledger import open_ledger

        settings = settings_of(parsed_args)
        with contextlib.closing(open_ledger(settings.cloud, settings.ledger)) as ledger:
            ledger.check_schema()
            record, name = ledger.case(parsed_args.id), ledger.name
        text = json.dumps(bundle(record, settings, name, datetime.now(UTC)), indent=2) + "\n"
        if parsed_args.output == "-":
            self.app.stdout.write(text)
            return
        path = parsed_args.output or f"detachd-case-{record.case.case_id[:13]}.json"
        # O_EXCL: no file is overwritten and no symbolic link followed; 0600: it names hosts and
        # servers.
        try:
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise BadInputError(
                f"{path} exists, and is left as it is: name another file with --output"
            ) from None
        with open(made, "w") as file:  # noqa: PTH123 - with a mode
            file.write(text)
        self.app.stdout.write(f"wrote {path}; read it before you send it\n")


def bundle(record: CaseRecord, settings: Settings, ledger: str, now: datetime) -> dict[str, Any]:
    """Return what the file holds: plain JSON values without secrets."""
    fields = {
        name: value.machine_readable() if isinstance(value, FormattableColumn) else value
        for name, value in as_fields(record).items()
    }
    return {
        "made_at": now.isoformat(timespec="seconds"),
        "detachd": version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": dict(_packages()),
        "ledger": scrub(ledger),
        "configuration": configuration(settings.conf),
        # To JSON and back: tuples and mappings of other types would pass the match of ``redacted``
        # unseen.
        "case": redacted(json.loads(json.dumps(fields))),
    }


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def redacted(value: Any) -> Any:
    """Return plain JSON values without what is named or looks like a secret."""
    match value:
        case str():
            return scrub(value)
        case Mapping():
            return {
                name: MASKED if SECRET_NAME.search(str(name)) else redacted(held)
                for name, held in value.items()
            }
        case list():
            return [redacted(held) for held in value]
        case _:
            return value


class _Lines:
    """What ``log_opt_values`` logs, kept as lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, msg: object, *args: object) -> None:
        """Keep a line."""
        del level
        self.lines.append(str(msg) % args if args else str(msg))


def configuration(conf: cfg.ConfigOpts) -> dict[str, str]:
    """Return every option by name, masked where it is declared secret or named like one."""
    kept = _Lines()
    # oslo.config's own walk over all options masks those that are declared secret.
    conf.log_opt_values(kept, 0)
    options = (found for line in kept.lines if (found := ASSIGNED.fullmatch(line)))
    return {o["name"]: _shown(o["name"], o["value"]) for o in options}


def _shown(name: str, value: str) -> str:
    # By the name too: the options of others' drivers may lack ``secret=True``.
    return MASKED if SECRET_NAME.search(name) else scrub(value)
