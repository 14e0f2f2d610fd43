"""One volume and one server of the lab, and what can be done to them."""

from __future__ import annotations

import dataclasses
from typing import Any

from consumer.ledger import CaseRecord
from handlers.case import CaseState
from tests.behaviour.ground import HOSTS, State
from tests.behaviour.on_lab import INITIATOR
from tests.lab.inside.faults import ALWAYS, Fault, Faults, How, When
from tests.lab.openstack import until
from tests.lab_service.lab_site import TRIES, LabSite
from tests.services.initiator import Initiator

INITIALIZE, TERMINATE = "initialize_connection", "terminate_connection"
REMOVE = "remove_export"
CASE_SECONDS = 180.0


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """Faults that are set here strike this volume alone, so that scenes can be played at once."""

    site: LabSite
    volume_id: str
    server_id: str
    host: str

    @property
    def target(self) -> str:
        """The name of the volume's iSCSI target."""
        return f"iqn.2010-10.org.openstack:volume-{self.volume_id}"

    # -- what Nova and the volume service do -----------------------------------------------------

    def attach(self) -> None:
        """Attach it through Nova; blocks until that went well."""
        assert self.site.ground.servers.attach(self.volume_id, self.server_id)

    def begin_attach(self) -> None:
        """Ask Nova to attach it."""
        self.site.ground.servers.begin_attach(self.volume_id, self.server_id)

    def begin_detach(self) -> None:
        """Ask Nova to detach it."""
        self.site.ground.servers.ask_detach(self.volume_id, self.server_id)

    def delete_server(self) -> None:
        """Delete the server; blocks until it is gone."""
        self.site.ground.servers.delete(self.server_id)

    def migrate(self, host: str) -> None:
        """Move the server to another host, live; blocks until that went well or was undone."""
        self.site.ground.servers.migrate(self.server_id, host)

    def nova_failed(self, event: str) -> None:
        """Wait until Nova says that something it did to the server failed: ``detach_volume`` ..."""
        failed = self.site.ground.servers.has_failed
        until(lambda: failed(self.server_id, event), f"{event} has failed", CASE_SECONDS)

    def nova_gave_up(self) -> None:
        """Wait until Nova has forgotten the attach."""
        has = self.site.ground.servers.has_device
        until(lambda: not has(self.volume_id, self.server_id), "Nova has given up")

    # -- faults -----------------------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        """The faults of Cinder's driver."""
        return self.site.lab.storage_faults

    def breaks(self, method: str, *, times: int = ALWAYS, acts: bool = False) -> None:
        """Let the driver raise, before or after it acts."""
        when = When.AFTER if acts else When.BEFORE
        self.faults.add(Fault(method, when=when, times=times, subject=self.volume_id))

    def hangs(self, method: str, *, times: int = 1, acts: bool = False) -> None:
        """Let the driver hang, before or after it acts."""
        when = When.AFTER if acts else When.BEFORE
        self.faults.add(
            Fault(method, How.HANG, when, times=times, subject=self.volume_id, seconds=600.0)
        )

    def guest_fails(self, method: str, error: str = "NovaException") -> None:
        """Let the hypervisor fail the next such call for this volume."""
        fault = Fault(method, error=error, subject=self.volume_id)
        self.site.lab.compute_faults[self.host].add(fault)

    def guest_hangs(self, method: str) -> None:
        """Let the hypervisor take its time with the next such call for this volume."""
        fault = Fault(method, How.HANG, subject=self.volume_id, seconds=600.0)
        self.site.lab.compute_faults[self.host].add(fault)

    def hypervisor_hangs(self) -> None:
        """Wait until it does."""
        faults = self.site.lab.compute_faults[self.host]
        until(lambda: faults.hanging(self.volume_id), "the hypervisor takes its time")

    def hypervisor(self, method: str, how: How = How.RAISE, host: str | None = None) -> None:
        """Let the next such call for the server itself raise or hang, on a host or on its own."""
        fault = Fault(method, how, subject=self.server_id, seconds=600.0)
        self.site.lab.compute_faults[host or self.host].add(fault)

    def lets_go(self, host: str) -> None:
        """End what hangs in a host's hypervisor."""
        for subject in (self.server_id, self.volume_id):
            self.site.lab.compute_faults[host].release(subject)

    def guest_faults_left(self) -> bool:
        """Tell whether a fault of the hypervisor has yet to strike."""
        left = self.site.lab.compute_faults[self.host].left()
        return any(fault.subject == self.volume_id for fault in left)

    def calls_ended(self, method: str) -> int:
        """Return how many calls of a method of Cinder's driver have ended."""
        ended = (c for c in self.faults.calls() if c["phase"] == "end" and c["method"] == method)
        return sum(c["subject"] == self.volume_id for c in ended)

    def was_called(self, method: str, times: int = TRIES) -> None:
        """Wait until the driver has ended so many calls, as many as Nova makes."""
        until(lambda: self.calls_ended(method) >= times, f"{method} was called {times} times")

    # -- what is there ----------------------------------------------------------------------------

    def look(self) -> State:
        """Look at Cinder's tables and at tgtd."""
        return self.site.ground.look(self.volume_id)

    def becomes(self, state: State) -> None:
        """Wait until that is what there is."""
        until(lambda: self.look() == state, f"it is {state}")

    def case(self) -> CaseRecord:
        """Return the case that did most; there must be one."""
        record = self.site.acted(self.volume_id)
        assert record is not None
        return record

    def told(self) -> tuple[str, ...]:
        """Return what was said of the volume, whether it was sent already or not."""
        said = self.site.said(self.volume_id)
        return tuple(sent.event_type.rpartition(".")[2] for sent in said)

    def has_told(self, *events: str) -> None:
        """Wait until the case has said exactly that; fail at once where it is parked instead."""

        def said() -> bool:
            told = self.told()
            assert ("parked" in told) <= ("parked" in events), self.case().case
            return told == events

        until(said, f"it has said {events}", CASE_SECONDS)

    def is_mended(self) -> None:
        """Wait until the last that the case has said is that it is mended."""

        def said() -> bool:
            told = self.told()
            assert "parked" not in told, self.case().case
            return told[-1:] == ("end",)

        until(said, "it is mended", CASE_SECONDS)

    def reaches(self, *states: CaseState) -> None:
        """Wait until each case of the volume is in one of these states."""

        def there() -> bool:
            cases = self.site.cases(self.volume_id)
            return bool(cases) and all(c.case.state in states for c in cases)

        until(there, f"every case is {[state.value for state in states]}", CASE_SECONDS)

    def replay(self) -> None:
        """Send its case round again, as a person does."""
        why = "something seems to hold it"
        self.site.detachd.run("replay", "case", self.case().case.case_id, "--reason", why)

    # -- initiators ---------------------------------------------------------------------------

    def log_in(self, host: str, **how: Any) -> Initiator:
        """Start a host's real initiator, which writes; returns before it has logged in."""
        name = f"{INITIATOR}{host}"
        return self.site.initiators.start(self.site.lab.tgtd.url, self.target, name, **how)

    def writes(self) -> None:
        """Have this host log in and write; what becomes of that is seen when all is over."""
        writer = self.log_in(self.host).logged_in()
        assert writer.makes_progress()
        self.site.writers[self.volume_id] = writer


def other_host(host: str) -> str:
    """Return another host."""
    return next(name for name in HOSTS if name != host)


def can_be_used_again(stage: Stage) -> int:
    """Fail unless the volume can be attached to another host, written to, and detached again.

    That is the acceptance test of the 2015 specification. Whoever had it before is kept out.
    Returns how many blocks were written.
    """
    site, host = stage.site, other_host(stage.host)
    server_id = site.ground.servers.shared(host)
    assert site.ground.servers.attach(stage.volume_id, server_id)
    writer = stage.log_in(host).logged_in()
    assert stage.log_in(stage.host).ended() == 3
    assert writer.makes_progress()
    writer.kill()
    disk = site.lab.directory / "disks" / f"volume-{stage.volume_id}"
    assert writer.missing_writes(disk) == []
    site.cast.detach(stage.volume_id, server_id)
    stage.becomes(State("available", "detached"))
    return writer.counts().writes
