"""A lab with detachd installed beside it and serving: what the tests here share."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from consumer.ledger import CaseRecord, IntentRecord, Ledger, OutboxRecord
from handlers.judgement.policy import BackendPolicy, LateAttach, Mode
from tests.behaviour.on_lab import LabGround
from tests.bus import Peer
from tests.integration.service_process import Installation, Places, ServiceProcess, fetch
from tests.lab import clients
from tests.lab.openstack import CONTROL_TARGET, OpenStack
from tests.lab_service.cast import Cast
from tests.services.initiator import Initiator, Initiators

AUDIT = "audit"
QUEUES = ("detachd.notifications", "detachd.quarantine", AUDIT)
LATE_RPC_TIMEOUTS = 5
TRIES = 5  # Nova's


class Eyes(enum.Enum):
    """Which storage driver the service has: one that sees the backend, or the default one."""

    SEEING = "tgt"
    SEEING_CEPH = "rbd"
    BLIND = "cinder_managed"

    @property
    def see(self) -> bool:
        """Whether it is one that sees."""
        return self is not Eyes.BLIND


@dataclasses.dataclass(frozen=True, slots=True)
class Volumes:
    """Where the volumes are that are made, and the servers that get them.

    ``sections`` are options by section, such as those of a storage driver.
    """

    ground: LabGround
    cast: Cast
    sections: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)

    @classmethod
    def on(cls, ground: LabGround, **sections: Mapping[str, object]) -> Self:
        """Have them on a ground, with servers that nobody has used yet."""
        return cls(ground, Cast(ground.servers), sections)


@dataclasses.dataclass(slots=True)
class LabSite:
    """Everything of one service.

    ``heard`` are the announcements that came, in order; ``writers`` the initiators by the volume
    that they have had since before it was broken, ``second_writers`` those that came to it besides.
    """

    lab: OpenStack
    eyes: Eyes
    volumes: Volumes
    detachd: Installation
    ledger: Ledger
    peer: Peer
    initiators: Initiators
    policy: BackendPolicy
    running: contextlib.ExitStack
    service: ServiceProcess
    heard: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    writers: dict[str, Initiator] = dataclasses.field(default_factory=dict)
    second_writers: dict[str, Initiator] = dataclasses.field(default_factory=dict)

    @property
    def ground(self) -> LabGround:
        """The cloud that is served."""
        return self.volumes.ground

    @property
    def cast(self) -> Cast:
        """Its servers."""
        return self.volumes.cast

    def cases(self, volume_id: str) -> list[CaseRecord]:
        """Return all that the ledger has of a volume, the oldest case first."""
        found = [self.ledger.case(c.case_id) for c in self.ledger.cases(volume_id=volume_id)]
        return sorted(found, key=lambda r: (r.case.opened_at, r.case.operation.value))

    def acted(self, volume_id: str) -> CaseRecord | None:
        """Return the case of a volume that did most; Nova's clean-up may open a second one."""
        cases = self.cases(volume_id)
        return max(cases, key=lambda c: (len(c.intents), c.case.attempts), default=None)

    def said(self, volume_id: str) -> list[OutboxRecord]:
        """Return what was and will be announced of a volume, by whichever case, in order."""
        said = [sent for record in self.cases(volume_id) for sent in record.outbox]
        return sorted(said, key=lambda sent: sent.created_at)

    def tried(self, volume_id: str) -> list[IntentRecord]:
        """Return what was tried on a volume, by whichever case, in order."""
        tried = [intent for record in self.cases(volume_id) for intent in record.intents]
        return sorted(tried, key=lambda intent: intent.intended_at)

    def announced(self, volume_id: str) -> tuple[str, ...]:
        """Return what the bus was told of a volume so far, in order. From one thread only."""
        bodies = self.peer.take_all(AUDIT)
        self.heard += [json.loads(json.loads(body)["oslo.message"]) for body in bodies]
        told = {m["message_id"]: m for m in self.heard}
        mine = [m for m in told.values() if m["payload"]["volume_id"] == volume_id]
        return tuple(m["event_type"].rpartition(".")[2] for m in mine)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of what the exporter says of a metric, over all other labels."""
        status, page = fetch(self.detachd.port, "/metrics")
        assert status == 200, page
        families = text_string_to_metric_families(page)
        samples = (s for family in families for s in family.samples if s.name == name)
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    def bus(self) -> Peer:
        """Return a connection of one's own to the lab's bus, to be closed again."""
        return Peer(self.lab.rabbitmq.url)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have no case worked within, so that what is arranged can be seen before it is mended."""
        self.detachd.run("pause", "--reason", "the scene is being set")
        try:
            yield
        finally:
            self.detachd.run("resume")

    def stop(self) -> None:
        """Stop the service; what the bus tells meanwhile waits in its queue."""
        assert self.service.terminate() == 0

    def serve_again(self, **changes: Mapping[str, object]) -> None:
        """Start the service that was stopped, with some options changed. Blocks for seconds."""
        sections = {**self.volumes.sections, **changes}
        configure(self.detachd, self.lab, self.eyes, self.policy, **sections)
        self.service = self.running.enter_context(self.detachd.serve()).ready()

    def check_logs(self) -> None:
        """Fail where the service logged a traceback, or a secret."""
        logs = self.detachd.logs()
        before, found, after = logs.partition("Traceback")
        assert not found, before[-1000:] + found + after[:4000]
        users = [self.lab.credentials(user) for user in ("detachd", "detachd-service")]
        assert [u.username for u in users if u.password in logs] == []


@contextlib.contextmanager
def open_lab_site(
    lab: OpenStack, directory: Path, eyes: Eyes, volumes: Volumes | None = None, **policy: Any
) -> Iterator[LabSite]:
    """Install detachd for the lab, let it serve, and have every host's connector heard of.

    Its volumes are those of the lab's own backend unless others are given. ``policy`` replaces some
    of what ``policy_of`` says. Blocks for some ten seconds. Whatever is left of the site before it
    is removed first.
    """
    with contextlib.ExitStack() as stack:
        volumes = volumes or Volumes.on(LabGround(lab))
        volumes.ground.forget_volumes()
        stack.callback(volumes.ground.clean_up)
        peer = stack.enter_context(Peer(lab.rabbitmq.url))
        _listen(peer)
        chosen = dataclasses.replace(policy_of(lab, eyes), **policy)
        detachd = _installed(lab, directory, eyes)
        configure(detachd, lab, eyes, chosen, **volumes.sections)
        detachd.run("ledger", "upgrade")
        detachd.run("sweep", "acknowledge", "--reason", "the lab is as new as the ledger")
        site = LabSite(
            lab,
            eyes,
            volumes,
            detachd,
            stack.enter_context(detachd.ledger()),
            peer,
            stack.enter_context(Initiators(directory)),
            chosen,
            stack,
            stack.enter_context(detachd.serve()).ready(),
        )
        introduce_hosts(site)
        yield site
        site.stop()
        site.check_logs()


def introduce_hosts(site: LabSite) -> None:
    """Attach and detach a volume on each host, by which the bus tells their connectors."""
    for host in site.lab.computes:
        volume_id, server_id = site.ground.volume(), site.ground.servers.shared(host)
        assert site.ground.servers.attach(volume_id, server_id)
        site.cast.detach(volume_id, server_id)


def _listen(peer: Peer) -> None:
    for queue in QUEUES:
        peer.channel.queue_delete(queue)
    peer.declare("nova", "cinder", "detachd")
    for priority in ("info", "error"):
        peer.bind(AUDIT, "detachd", f"detachd_notifications.{priority}")


def policy_of(lab: OpenStack, eyes: Eyes) -> BackendPolicy:
    """Return the shortest times that go with the lab's RPC timeout."""
    rpc = lab.settings.rpc_seconds
    return BackendPolicy(
        mode=Mode.AUTO,
        look_timeout_seconds=10.0,
        call_timeout_seconds=2.0 * rpc + 3.0,  # os-force_detach makes two RPCs
        lease_margin_seconds=5.0,
        tries=2,
        try_backoff_seconds=0.2,
        try_backoff_max_seconds=1.0,
        max_failures=50,
        retry_backoff_seconds=0.5,
        retry_backoff_max_seconds=2.0,
        late_horizon_seconds=float(LATE_RPC_TIMEOUTS * rpc),
        trust_blind=not eyes.see,
        nova_detach_wait_seconds=10.0,
        # Where the end was heard it is kept all the same.
        late_attach=LateAttach.DETACH if eyes.see else LateAttach.KEEP,
    )


def _installed(lab: OpenStack, directory: Path, eyes: Eyes) -> Installation:
    user, service = lab.credentials("detachd"), lab.credentials("detachd-service")
    accounts = clients.accounts(user, service if eyes.see else None)
    places = Places(lab.transport_url, f"sqlite:///{directory}/ledger.sqlite", accounts)
    return Installation(directory / "detachd", places)


def configure(
    detachd: Installation,
    lab: OpenStack,
    eyes: Eyes,
    policy: BackendPolicy,
    **changes: Mapping[str, object],
) -> None:
    """Write detachd's configuration file; ``changes`` are options by section."""
    rpc = lab.settings.rpc_seconds
    sections: dict[str, Mapping[str, object]] = {
        "cloud": {"rpc_response_timeout_seconds": rpc},
        "ledger": {
            "attach_deadline_seconds": 2 * TRIES * rpc,
            "detach_deadline_seconds": TRIES * rpc,
            "error_settle_seconds": 1.0,
            "second_look_seconds": TRIES * rpc,
            "second_looks_per_minute": 0,
        },
        "worker": {"threads": 8},
        "sweep": _sweep(rpc) if eyes.see else {"enabled": "false"},
        "backend_defaults": {"driver": eyes.value, "concurrency": 6},
    }
    if eyes is Eyes.SEEING:
        sections["driver:tgt"] = _tgt(lab)
    for name, options in changes.items():
        sections[name] = {**sections.get(name, {}), **options}
    detachd.configure(policy, **sections)


def _sweep(rpc_seconds: float) -> dict[str, object]:
    """Return the section: no patience may be shorter than all of Nova's tries."""
    names = ("attaching", "detaching", "reserved", "error")
    patience = {f"{name}_seconds": 2 * TRIES * rpc_seconds for name in names}
    return {"enabled": True, "interval_seconds": 5} | patience


def _tgt(lab: OpenStack) -> dict[str, object]:
    return {
        "control_port": lab.tgtd.control_port,
        "socket": lab.tgtd.socket,
        "control_target": CONTROL_TARGET,
        "tgtadm": lab.tgtd.tgtadm,
    }
