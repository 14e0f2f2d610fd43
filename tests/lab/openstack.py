"""The lab: a small OpenStack of real services on loopback, with what makes them fail.

In short::

    with OpenStack() as lab:
        admin = lab.rest("admin")                      # tests/lab/rest.py: raw calls
        lab.storage_faults.add(Fault("terminate_connection"))
        lab.daemons["cinder-volume"].pause()
        lab.export(volume_id)                          # what the backend really does

See README.md beside this for what is real and what is not.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import backend, environment
from tests.lab.daemon import Daemon, Values, render
from tests.lab.daemons import (
    CinderApi,
    CinderScheduler,
    CinderVolume,
    Keystone,
    NovaApi,
    NovaCompute,
    NovaConductor,
    NovaScheduler,
    Placement,
    Stub,
)
from tests.lab.databases import NAMES, LabDatabase, filled_in
from tests.lab.inside.faults import Faults
from tests.lab.keystone_setup import REGION, SERVICES
from tests.lab.rest import Credentials, Rest
from tests.lab.seed import BROKER, DATABASE, seed
from tests.lab.together import Together
from tests.services.leash import Leash
from tests.services.rabbitmq import RabbitMQ
from tests.services.tgtd import Tgtd

COMPUTES = ("lab-compute-1", "lab-compute-2")
STORAGE_HOST, BACKEND = "lab-storage", "tgt"
CONTROL_TARGET = "iqn.2026-01.org.example:lab-storage"  # as docs/drivers-tgt.md wants it
READY_SECONDS = 90.0
A_SERVER_S_NEEDS, CANDIDATES_SINCE = "VCPU:1,MEMORY_MB:64", "1.10"
ONE_EACH: tuple[type[Daemon], ...] = (
    Placement, CinderApi, CinderScheduler, CinderVolume,
    NovaApi, NovaConductor, NovaScheduler, Stub,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a lab may differ in.

    ``rpc_seconds`` is how long Cinder waits for its own services: a backend that hangs is given up
    after it. With ``chap`` the connection_info of each attachment carries a real secret.
    """

    computes: tuple[str, ...] = COMPUTES
    rpc_seconds: int = 5
    chap: bool = False


class OpenStack:
    """Everything, as a context manager; raises LabMissingError or ServiceMissingError when made.

    ``daemons`` are the processes by name (``nova-compute`` by host), each of which can be killed,
    paused and started again; ``storage_faults`` strike Cinder's driver, ``compute_faults`` by host
    the hypervisor's.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.environment = environment.require()
        self.settings = settings or Settings()
        self.computes = self.settings.computes
        self.rabbitmq, self.mariadb, self.tgtd = RabbitMQ(), LabDatabase(), Tgtd()
        self.daemons: dict[str, Daemon] = {}
        self.computes_by_host: dict[str, NovaCompute] = {}

    @property
    def backend_name(self) -> str:
        """The only backend, as Cinder names it: ``host@backend``."""
        return f"{STORAGE_HOST}@{BACKEND}"

    @property
    def transport_url(self) -> str:
        """The bus, as oslo.messaging wants it."""
        return self.rabbitmq.url.replace("amqp://", "rabbit://", 1).removesuffix("/")

    @property
    def auth_url(self) -> str:
        """Keystone."""
        return f"{self.daemons['keystone'].url}/v3"

    def credentials(self, user: str) -> Credentials:
        """Return what one logs in with: admin, detachd, detachd-service, member, nova ..."""
        passwords = self._seed.passwords
        match user:
            case "admin":
                return Credentials(self.auth_url, user, passwords.admin, "admin", REGION)
            case "member":
                return Credentials(self.auth_url, user, passwords.others, "demo", REGION)
            case "detachd" | "detachd-service":
                return Credentials(self.auth_url, user, passwords.others, "service", REGION)
            case _:
                return Credentials(self.auth_url, user, passwords.services, "service", REGION)

    def rest(self, user: str = "admin") -> Rest:
        """Return a raw client of the APIs for one user."""
        return Rest(self.credentials(user))

    def __enter__(self) -> Self:
        """Start it all; blocks for some 20 s, the very first time for a minute more."""
        with ExitStack() as undo:
            self._seed = seed(self.environment)
            self._leash = undo.enter_context(Leash("lab", ":"))
            self.directory = self._leash.directory
            self.storage_faults = Faults(self.directory / "faults" / "storage")
            self.compute_faults = {
                host: Faults(self.directory / "faults" / host) for host in self.computes
            }
            together = Together()
            undo.callback(together.stop)
            undo.callback(self._keep_logs)
            self._start(together)
            self._open()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it all; blocks for some seconds."""
        self._undo.close()

    def export(self, volume_id: str) -> backend.Export | None:
        """Return what the backend really does with a volume: None where it has no target."""
        return backend.export(self.tgtd, volume_id)

    def _start(self, together: Together) -> None:
        """Start each as soon as what it needs is there; two cores are busy all the while."""
        together.start(self.tgtd).result()
        self.tgtd.add_target(CONTROL_TARGET)
        values = self._values()
        self._make_daemons(values)
        d = self.daemons
        broker = together.start(self.rabbitmq)
        loaded = together.begin(
            lambda: self.load(self.mariadb), after=[together.start(self.mariadb)]
        )
        together.start(d["stub"])
        keystone = together.start(d["keystone"], after=[loaded])
        placement = together.start(d["placement"], after=[loaded])
        both = [loaded, broker]
        conductor = together.start(d["nova-conductor"], after=both)
        for name in ("cinder-volume", "cinder-scheduler", "nova-scheduler"):
            together.start(d[name], after=both)
        for host in self.computes:
            together.start(d[host], after=[conductor, keystone, placement])
        for name in ("nova-api", "cinder-api"):
            together.start(d[name], after=both)
        together.finish()

    def _make_daemons(self, values: Values) -> None:
        # Whoever asks for a token is told where Keystone is, whose port is its own choice.
        keystone = Keystone(values)
        values = dict(values) | self._accounts(f"{keystone.url}/v3")
        self.daemons = {"keystone": keystone}
        self.daemons |= {kind.name: kind(values) for kind in ONE_EACH}
        for host in self.computes:
            own = {
                "host": host,
                "hypervisor_faults": str(self.compute_faults[host].directory),
                "block_storage_ip": address_of(host),
            }
            self.computes_by_host[host] = NovaCompute(values | own)
        self.daemons |= self.computes_by_host

    def _values(self) -> Values:
        values = {f"{name}_database": self.mariadb.address(name) for name in NAMES} | {
            "environment": str(self.environment),
            "transport_url": self.transport_url,
            "rpc_seconds": str(self.settings.rpc_seconds),
            "chap": str(self.settings.chap),
            "storage_host": STORAGE_HOST,
            "backend": BACKEND,
            "disks": str(self.directory / "disks"),
            "storage_faults": str(self.storage_faults.directory),
            "tgtadm": str(self.tgtd.tgtadm),
            "tgt_socket": str(self.tgtd.socket),
            "tgt_control_port": str(self.tgtd.control_port),
            "tgt_port": str(self.tgtd.port),
            # What only a nova-compute has; the same file serves the rest of Nova.
            "host": "lab-controller",
            "hypervisor_faults": "",
            "guests": "",
            "block_storage_ip": "127.0.0.1",
        }
        return values | {"backend_section": render("backend-tgt", values)}

    def _accounts(self, auth_url: str) -> dict[str, str]:
        password = self._seed.passwords.services
        accounts = {
            f"as_{user}": render(
                "account", {"auth_url": auth_url, "user": user, "password": password}
            )
            for user in SERVICES
        }
        return accounts | {"keystone_url": auth_url}

    def load(self, into: LabDatabase) -> None:
        """Give a database what a cloud has on the day it opens; blocks for some seconds."""
        urls = {kind: self.daemons[kind].url for kind in ("keystone", "placement", "stub")}
        urls |= {kind: self.daemons[f"{kind}-api"].url for kind in ("nova", "cinder")}
        places = {f"http://{kind}.invalid": url for kind, url in urls.items()}
        database = into.address("X").partition("://")[2].partition("/")[0]
        places |= {DATABASE: database, BROKER: self.transport_url}
        into.load(filled_in(self._seed.sql, places))

    def _open(self) -> None:
        """Wait until servers can be booted, and lift the quotas of a new cloud."""
        admin = self.rest()
        limits = dict.fromkeys(("volumes", "gigabytes", "per_volume_gigabytes"), -1)
        quota = {"quota_class_set": limits}
        admin.do("block-storage", "PUT", "/os-quota-class-sets/default", quota)
        until(lambda: self._has_room(admin), "every compute host is in the cell and has room")

    def _has_room(self, admin: Rest) -> bool:
        """Tell whether Nova knows each compute host and Placement each one's room, told later."""
        hosts = admin.do("compute", "GET", "/os-hypervisors")["hypervisors"]
        path = f"/allocation_candidates?resources={A_SERVER_S_NEEDS}"
        found = admin.do("placement", "GET", path, version=CANDIDATES_SINCE)
        return len(hosts) == len(found["provider_summaries"]) == len(self.computes)

    def _keep_logs(self) -> None:
        """Copy the logs before they go, where DETACHD_LAB_LOGS says to."""
        if place := os.environ.get("DETACHD_LAB_LOGS"):
            Path(place).mkdir(parents=True, exist_ok=True)
            for name, daemon in self.daemons.items():
                if hasattr(daemon, "directory"):  # else it was never started
                    shutil.copy(daemon.directory / "log", Path(place) / f"{name}.log")


def address_of(host: str) -> str:
    """Return the address from which a compute host reaches storage, which its connector names."""
    return f"127.0.1.{1 + COMPUTES.index(host)}" if host in COMPUTES else "127.0.0.1"


def until(holds: Callable[[], object], what: str, seconds: float = READY_SECONDS) -> None:
    """Wait until something holds; AssertionError with what was waited for where it does not."""
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
