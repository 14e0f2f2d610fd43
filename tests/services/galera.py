"""A private Galera cluster: three MariaDB servers on loopback, each of which takes writes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import ClassVar, Self

import pymysql
from sqlalchemy import make_url

from tests.services.database import USER
from tests.services.mariadb import MariaDB
from tests.services.ports import free_port
from tests.services.service import (
    START_SECONDS,
    ServiceFailedError,
    ServiceMissingError,
    executable,
)

LIBRARIES = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
SIZE = 3
# As shipped, a silent node is given up after five seconds and an unreachable one after fifteen.
IMPATIENT = (
    "evs.keepalive_period=PT0.2S;evs.suspect_timeout=PT1.5S;evs.inactive_check_period=PT0.2S;"
    "evs.inactive_timeout=PT3S;evs.install_timeout=PT3S;gcache.size=32M"
)


def _library() -> Path:
    for place in LIBRARIES:
        if Path(place).exists():
            return Path(place)
    raise ServiceMissingError("Galera", "galera-4")


class GaleraNode(MariaDB):
    """One server of a cluster. The first makes it; each other gets the data of one by rsync (SST).

    ``begun``: the nodes that were entered before. Raises ServiceMissingError when made on a machine
    that lacks Galera.
    """

    name = "galera"

    def __init__(self, begun: Sequence[GaleraNode], password: str) -> None:
        super().__init__()
        self._library = _library()
        executable("Galera's state transfer", "rsync", "rsync")
        self._begun = begun
        self._group, self._transfer, self._recent = free_port(), free_port(), free_port()
        self.password = password

    @property
    def address(self) -> str:
        """Where the other nodes of the cluster find this one."""
        return f"127.0.0.1:{self._group}"

    def status(self, name: str) -> str:
        """Return a status of the cluster as this node sees it; "" when it does not answer.

        A node without a quorum answers this too, and hardly anything else.
        """
        try:
            found = self.say(f"SHOW GLOBAL STATUS LIKE 'wsrep_{name}'")
        except pymysql.MySQLError:
            return ""
        return str(found[0][1]) if found else ""

    def say(self, statement: str) -> Sequence[tuple[object, ...]]:
        """Run one statement on a bare connection, which a node without a quorum accepts too."""
        with closing(
            pymysql.connect(
                host="127.0.0.1", port=self.port, user=USER, password=self.password,
                autocommit=True, ssl_disabled=True, connect_timeout=5, read_timeout=60,
            )
        ) as connection:  # fmt: skip
            cursor = connection.cursor()
            cursor.execute(statement)
            return tuple(cursor.fetchall())

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Have this node cut off from the others within; its clients still reach it."""
        self.say("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")
        try:
            yield
        finally:
            self.say("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'")

    def await_status(self, name: str, value: str) -> None:
        """Block until the cluster's status is this one, for at most START_SECONDS."""
        deadline = time.monotonic() + START_SECONDS
        while (now := self.status(name)) != value:
            if time.monotonic() > deadline:
                said = f"wsrep_{name} of {self.address} is {now!r}, not {value!r}"
                raise ServiceFailedError(said, self._log)
            time.sleep(0.05)

    def forget(self) -> None:
        """Lose all data, while it does not run: the next start gets them from another node."""
        self._run("/bin/rm", "-rf", self.directory / "data")
        self._empty()

    def _empty(self) -> None:
        data = self.directory / "data"
        data.mkdir()
        self._give(data)

    def _others(self) -> list[GaleraNode]:
        return [node for node in self._begun if node is not self and node.processes()]

    def _prepare(self) -> None:
        if not self._others():
            super()._prepare()
            return
        self._empty()
        self._write("init.sql", "")

    def _options(self) -> Sequence[str]:
        others = self._others()
        address = ",".join(node.address for node in others)
        return (
            "--wsrep-on=ON",
            f"--wsrep-provider={self._library}",
            f"--wsrep-cluster-address=gcomm://{address}",
            *([] if others else ["--wsrep-new-cluster"]),
            "--wsrep-cluster-name=detachd-tests",
            f"--wsrep-node-address={self.address}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{self._transfer}",
            f"--wsrep-provider-options={self._provider_options()}",
            "--wsrep-slave-threads=2",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            # What one node has committed is on the others too: Galera's manual has it so.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-log-file-size=16M",
            "--innodb-buffer-pool-size=64M",
            f"--pid-file={self.directory / 'pid'}",
        )

    def _provider_options(self) -> str:
        listening = f"gmcast.listen_addr=tcp://{self.address}"
        return f"{listening};ist.recv_addr=127.0.0.1:{self._recent};{IMPATIENT}"

    def _answers(self) -> bool:
        return self.status("local_state_comment") == "Synced" and self.status("ready") == "ON"


class Galera:
    """Three nodes as a context manager. A test that harms a node mends it before it ends."""

    name: ClassVar[str] = "galera"

    def __init__(self) -> None:
        self._begun: list[GaleraNode] = []
        password = secrets.token_urlsafe()
        self.nodes = [GaleraNode(self._begun, password) for _ in range(SIZE)]

    def __enter__(self) -> Self:
        """Start one node after the other; blocks until all have the same data."""
        with ExitStack() as undo:
            for node in self.nodes:
                self._begun.append(undo.enter_context(node))
            self.whole()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every node and remove the data."""
        self._undo.close()

    def whole(self) -> None:
        """Block until each node sees all three and serves."""
        for node in self.nodes:
            node.await_status("cluster_size", str(SIZE))
            node.await_status("local_state_comment", "Synced")

    def urls(self, url: str) -> list[str]:
        """Return the URL of the same database on each of the nodes."""
        at = make_url(url)
        ports = [node.port for node in self.nodes]
        return [at.set(port=p).render_as_string(hide_password=False) for p in ports]
