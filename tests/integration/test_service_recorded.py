"""The running service and the traffic of a real Nova and Cinder, verbatim, on a real broker.

The cloud is arranged as each recorded scenario had left it; ids, hosts and connectors are those of
the recording.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest

from consumer.supervision.outside_looks import NO_HOST
from drivers.base import Connector
from handlers.case import CaseState, Conclusion, StepKind, StepResult, UseCase
from tests.bus import until
from tests.integration import oracle
from tests.integration.service_process import UNHURRIED, ServiceProcess
from tests.integration.site import Site
from tests.recorded import Recorded, recording

pytestmark = pytest.mark.integration
BACKEND, HOST = "labhost@lab", "compute1"
START, END = "volume.force_detach.start", "volume.force_detach.end"


@dataclasses.dataclass(frozen=True, slots=True)
class Played:
    """A recorded scenario: its messages, and whom they are about."""

    messages: tuple[Recorded, ...]
    volume_id: str
    instance_id: str
    attachment_id: str
    connector: Connector | None

    @classmethod
    def load(cls, name: str) -> Played:
        """Read it from tests/samples."""
        messages = tuple(recording(f"nova-compute/{name}"))
        rows = [row for message in messages for row in _rows(message)]
        told = next((row["connector"] for row in rows if row["connector"]), None)
        first = rows[0]
        return cls(
            messages,
            first["volume_id"],
            first["instance_uuid"],
            first["id"],
            Connector.from_mapping(json.loads(told)) if told else None,
        )

    @property
    def relevant(self) -> list[bytes]:
        """The messages that concern an attachment: all but the volume's creation."""
        return [m.body for m in self.messages if not m.event_type.startswith("volume.create")]


def _rows(message: Recorded) -> list[dict[str, str]]:
    payload = message.message["payload"]
    assert isinstance(payload, dict)
    rows: list[dict[str, str]] = payload.get("volume_attachment", [])
    return rows


@pytest.fixture(autouse=True)
def recorded_host(site: Site) -> Connector:
    """Have the simulated compute1 present itself to storage as the recorded one did."""
    connector = Played.load("o_healthy").connector
    assert connector is not None
    assert connector.initiator == "iqn.1993-08.org.debian:01:compute1"
    site.cloud.set_connector(HOST, connector)
    return connector


@pytest.fixture
def service(site: Site) -> Iterator[ServiceProcess]:
    """Run the service, and have it log all that it would ever log."""
    yield from served(site)


def served(site: Site, **ledger: object) -> Iterator[ServiceProcess]:
    """Run it with these options of its ledger."""
    policy = dataclasses.replace(UNHURRIED, late_horizon_seconds=2.0)
    site.detachd.configure(policy, DEFAULT={"debug": True}, ledger=ledger)
    with site.detachd.serve() as service:
        yield service.ready()
        assert service.terminate() == 0


def create(site: Site, played: Played) -> None:
    """Make the recorded volume and its server."""
    site.cloud.create_volume(played.volume_id, backend=BACKEND)
    site.cloud.boot_server(played.instance_id, host=HOST)


def attach(site: Site, played: Played, connector: Connector) -> None:
    """Put the recorded attachment in place, all healthy."""
    cloud, volume_id = site.cloud, played.volume_id
    cloud.add_attachment(
        volume_id,
        "attached",
        played.instance_id,
        connector=connector,
        attachment_id=played.attachment_id,
    )
    cloud.add_block_device(played.instance_id, volume_id, played.attachment_id)
    cloud.export(volume_id, HOST, sessions=1, instance_id=played.instance_id)
    cloud.set_volume(volume_id, opened_by={played.instance_id})
    cloud.set_status(volume_id, "in-use", "attached")


def closed(site: Site, volume_id: str, *conclusions: Conclusion) -> bool:
    """Tell whether the volume's cases are all closed, in this way, oldest first."""
    cases = site.cases(volume_id)
    return tuple(c.case.conclusion for c in cases) == conclusions


def well(site: Site, *scenarios: Played) -> None:
    """Fail where a message was lost, or harm done."""
    oracle.nothing_lost(site, [body for played in scenarios for body in played.relevant])
    oracle.nothing_harmed(site)
    oracle.announced_once(site)
    oracle.nobody_holds_anything(site)


def asked(site: Site) -> list[str]:
    """Return the calls but the two by which the service sees at its start that it is answered."""
    calls = (c for c in site.cloud.journal if ("host", NO_HOST) not in c.asked.arguments)
    return [call.name for call in calls if call.name != "cinder.volumes_in"]


def test_healthy_attach_and_detach_make_no_work(site: Site, service: ServiceProcess) -> None:
    """o: all went well, no look to spare -> both cases ended by their ends, nobody was asked."""
    healthy = Played.load("o_healthy")
    create(site, healthy)
    site.send(healthy.messages)
    ended = Conclusion.ENDED
    until(lambda: closed(site, healthy.volume_id, ended, ended))
    assert asked(site) == []
    assert [case.case.attempts for case in site.cases(healthy.volume_id)] == [0, 0]
    assert site.outbox() == []
    well(site, healthy)


@pytest.fixture
def looking_again(site: Site) -> Iterator[ServiceProcess]:
    """Run the service with a budget for second looks, which come soon."""
    yield from served(site, second_looks_per_minute=10, second_look_seconds=4.0)


def test_healthy_attach_and_detach_are_looked_at_once(
    site: Site, looking_again: ServiceProcess
) -> None:
    """o: all went well -> nobody is asked at once; one look for both, later, and no word of it."""
    healthy = Played.load("o_healthy")
    create(site, healthy)
    site.send(healthy.messages)
    until(lambda: [c.case.end_seen for c in site.cases(healthy.volume_id)] == [True, True])
    assert asked(site) == []
    until(lambda: closed(site, healthy.volume_id, Conclusion.ENDED, Conclusion.HEALTHY))
    assert [case.case.attempts for case in site.cases(healthy.volume_id)] == [0, 1]
    assert site.outbox() == []
    well(site, healthy)


def test_leak_after_a_hanging_export_is_terminated(site: Site, service: ServiceProcess) -> None:
    """b: available, and compute1 let in -> its one connection is ended; Cinder stays as it is.

    The scenario's own messages carry no connector: it is known from an earlier attach.
    """
    earlier, leak = Played.load("o_healthy"), Played.load("b_hang_60")
    assert leak.connector is None
    create(site, leak)
    site.cloud.export(leak.volume_id, HOST)
    site.send([*earlier.messages, *leak.messages])
    until(lambda: closed(site, leak.volume_id, Conclusion.MENDED))
    (case,) = site.cases(leak.volume_id)
    assert (case.case.attachment_id, case.case.use_case) == (leak.attachment_id, UseCase.UC5)
    assert site.writes(leak.volume_id)[0] == "cinder.reserve", "first keep new attachments out"
    assert site.writes(leak.volume_id)[-1] == "cinder.unreserve", "the status comes last"
    assert site.cloud.exported_to(leak.volume_id) == ()
    assert site.cloud.statuses(leak.volume_id) == ("available", "detached")
    until(lambda: site.announced(leak.volume_id) == [START, END])
    well(site, earlier, leak)


def test_late_first_try_is_rolled_forward(
    site: Site, service: ServiceProcess, recorded_host: Connector
) -> None:
    """c: a retry won; later the first try wrote attaching -> os-complete, never a detach."""
    late = Played.load("c_hang_once")
    create(site, late)
    attach(site, late, recorded_host)
    site.send(late.messages)
    until(lambda: any(c.case.attempts for c in site.cases(late.volume_id)))
    assert site.writes(late.volume_id) == [], "healthy as long as nothing came late"
    site.cloud.set_attachment(late.attachment_id, status="attaching")
    site.cloud.set_status(late.volume_id, "attaching", "attaching")
    until(lambda: closed(site, late.volume_id, Conclusion.MENDED))
    assert site.writes(late.volume_id) == ["cinder.complete"]
    assert site.cloud.statuses(late.volume_id) == ("in-use", "attached")
    assert site.cloud.exported_to(late.volume_id) == (HOST,)
    assert site.cloud.guests_holding(late.volume_id) == (late.instance_id,)
    until(lambda: site.announced(late.volume_id) == [START, END])
    well(site, late)


def test_retry_that_won_is_left_alone(
    site: Site, service: ServiceProcess, recorded_host: Connector
) -> None:
    """c, and the first try never finishes -> looked at twice, closed as healthy, no write."""
    won = Played.load("c_hang_once")
    create(site, won)
    attach(site, won, recorded_host)
    site.send(won.messages)
    until(lambda: closed(site, won.volume_id, Conclusion.HEALTHY))
    assert site.writes(won.volume_id) == []
    assert site.outbox() == []
    well(site, won)


def test_failed_terminate_is_mended_by_nova_s_own_detach(
    site: Site, service: ServiceProcess, recorded_host: Connector
) -> None:
    """f: detaching, and Nova's block device was kept -> the wish is given to Nova once more."""
    failed = Played.load("f_terminate_raises")
    create(site, failed)
    attach(site, failed, recorded_host)
    site.cloud.set_status(failed.volume_id, "detaching")
    site.cloud.set_volume(failed.volume_id, opened_by=set())
    site.send(failed.messages)
    until(lambda: closed(site, failed.volume_id, Conclusion.ENDED, Conclusion.MENDED))
    detach = site.cases(failed.volume_id)[-1]
    assert [(i.kind, i.result) for i in detach.intents] == [
        (StepKind.CINDER_ROLL_DETACHING, StepResult.DONE),
        (StepKind.NOVA_DETACH, StepResult.DONE),
    ]
    assert detach.case.state is CaseState.CLOSED
    assert site.cloud.statuses(failed.volume_id) == ("available", "detached")
    assert site.cloud.exported_to(failed.volume_id) == ()
    until(lambda: site.announced(failed.volume_id) == [START, END])
    well(site, failed)


def test_recorded_bodies_hold_what_must_not_be_logged() -> None:
    """The recordings carry a token where Nova's real one was -> the look at the logs can fail."""
    bodies = [m.body for m in Played.load("f_terminate_raises").messages]
    assert any(b"REDACTED-LAB-TOKEN" in body for body in bodies)
    assert json.loads(bodies[0])
