"""Migrated databases with the lab's users in them, made once and kept beside the environment.

Migrating six databases takes half a minute, loading them from a dump two seconds. Ports and
passwords of the servers differ each time: the dump has placeholders for them.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import databases, keystone_setup
from tests.lab.daemon import Values
from tests.lab.daemons import Keystone
from tests.lab.databases import LabDatabase

DATABASE, BROKER = "mariadb.invalid", "rabbit://rabbitmq.invalid/"
MIGRATE_SECONDS = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Seed:
    """What a lab starts from: the dump, and the passwords of the users in it."""

    sql: Path
    passwords: keystone_setup.Passwords


def seed(environment: Path) -> Seed:
    """Return the seed, made now where it is missing: that blocks for the better part of a minute.

    Others who want it wait. What goes into it decides where it lies: the environment with its
    pins, and the code that makes it.
    """
    directory = environment / f"seed-{_fingerprint()}"
    with (environment / "seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            half = directory.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(mode=0o700)
            _make(environment, half)
            half.rename(directory)
    passwords = json.loads((directory / "passwords.json").read_text())
    return Seed(directory / "databases.sql", keystone_setup.Passwords(**passwords))


def _fingerprint() -> str:
    sources = [Path(module.__file__ or "") for module in (databases, keystone_setup)]
    texts = [source.read_bytes() for source in [Path(__file__), *sources]]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:12]


def _make(environment: Path, directory: Path) -> None:
    passwords = keystone_setup.Passwords(*(secrets.token_urlsafe() for _ in range(3)))
    with LabDatabase() as database:
        database.create_databases()
        values = {
            "environment": str(environment),
            "keystone_database": database.address("keystone"),
        }
        with ThreadPoolExecutor() as pool:
            steps = [pool.submit(step) for step in _Migration(environment, database).steps()]
            with _FirstKeystone(values, passwords.admin) as keystone:
                keystone_setup.fill(keystone.url, passwords)
            for step in steps:
                step.result()
        (directory / "databases.sql").write_text(database.dump())
    (directory / "passwords.json").write_text(json.dumps(dataclasses.asdict(passwords)))


class _FirstKeystone(Keystone):
    """A Keystone that migrates its database, and gets its admin, before it starts."""

    def __init__(self, values: Values, password: str) -> None:
        super().__init__(values)
        self._password = password

    def _prepare(self) -> None:
        super()._prepare()
        self._run(*self._program("keystone-manage"), "db_sync")
        secret = ("--bootstrap-password", self._password)
        self._run(*self._program("keystone-manage"), "bootstrap", *secret)


class _Migration:
    """The other services' own commands, in steps that do not need each other."""

    def __init__(self, environment: Path, database: LabDatabase) -> None:
        self._programs = environment / "bin"
        self._database = database

    def steps(self) -> list[Callable[[], None]]:
        return [self._cinder, self._placement, self._nova_api, self._nova, self._nova_cell0]

    def _cinder(self) -> None:
        self._manage("cinder-manage", {"database": "cinder"}, ["db", "sync"])

    def _placement(self) -> None:
        self._manage("placement-manage", {"placement_database": "placement"}, ["db", "sync"])

    def _nova(self) -> None:
        self._manage("nova-manage", {"database": "nova"}, ["db", "sync", "--local_cell"])

    def _nova_cell0(self) -> None:
        self._manage("nova-manage", {"database": "nova_cell0"}, ["db", "sync", "--local_cell"])

    def _nova_api(self) -> None:
        sections = {"database": "nova", "api_database": "nova_api"}
        self._manage("nova-manage", sections, ["api_db", "sync"])
        cells = f"mysql+pymysql://{DATABASE}"
        connection = ["--database_connection", f"{cells}/nova"]
        broker = ["--transport-url", BROKER]
        self._manage(
            "nova-manage",
            sections,
            ["cell_v2", "map_cell0", "--database_connection", f"{cells}/nova_cell0"],
        )
        self._manage(
            "nova-manage",
            sections,
            ["cell_v2", "create_cell", "--name", "cell1", *broker, *connection],
        )

    def _manage(self, program: str, sections: dict[str, str], words: Sequence[str]) -> None:
        own = self._database.directory / f"{program}-{secrets.token_hex(4)}.conf"
        lines = (f"[{s}]\nconnection = {self._database.address(d)}\n" for s, d in sections.items())
        own.write_text("".join(lines))
        done = subprocess.run(
            [self._programs / program, "--config-file", own, *words],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=MIGRATE_SECONDS,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            raise RuntimeError(f"{program} {words[0]} failed with {done.returncode}: {said}")
