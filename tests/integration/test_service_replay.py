"""Sending round again, end to end: the running service, RabbitMQ, a simulated cloud."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.demo.scenes import SCENES, Scene
from consumer.ledger import HistoryKind
from drivers.errors import TransientError
from drivers.simulator import Fault
from handlers.case import CaseState, Conclusion, Trigger
from handlers.judgement.policy import Mode
from tests.bus import until
from tests.integration import oracle
from tests.integration.service_process import BRISK
from tests.integration.site import Act, Broker, Site, open_site

pytestmark = [pytest.mark.integration, pytest.mark.slow]
REPLAY, QUARANTINE = "detachd.replay", "detachd.quarantine"
IMPATIENT = dataclasses.replace(BRISK, max_failures=2, retry_backoff_max_seconds=0.3)
WHY = ("--reason", "the array is back", "--actor", "alice")


@pytest.fixture
def any_site(broker: Broker, tmp_path: Path, ledger_url: str) -> Iterator[Site]:
    """Give a site, on each of the three databases in turn."""
    with open_site(broker, tmp_path, ledger_url) as made:
        made.peer.channel.queue_delete(REPLAY)
        yield made
        made.check_logs()


@pytest.fixture
def replay_site(site: Site) -> Site:
    """Give a site whose replay queue is as new."""
    site.peer.channel.queue_delete(REPLAY)
    return site


def play(site: Site, name: str) -> Act:
    """Arrange a scene and have the bus tell of it."""
    (act,) = site.arrange([scene(name)])
    site.publish([act])
    return act


def scene(name: str) -> Scene:
    """Find a scene by the beginning of its name."""
    return next(scene for scene in SCENES if scene.name.startswith(name))


def state(site: Site, act: Act) -> CaseState | None:
    """Return the state of the scene's one case, None before there is one."""
    states = [record.case.state for record in site.cases(act.volume_id)]
    assert len(states) <= 1
    return states[0] if states else None


def over(site: Site, act: Act) -> bool:
    """Tell whether the scene's case is closed and all was announced."""
    return state(site, act) is CaseState.CLOSED and site.ledger.outbox_pending()[0] == 0


def mended(site: Site, act: Act) -> None:
    """Fail unless the scene's volume is put right, nothing was harmed and all was announced."""
    oracle.ended_well(site, act)
    oracle.nothing_harmed(site)
    oracle.announced_once(site)
    oracle.nobody_holds_anything(site)


def test_parked_case_is_mended_once_its_cause_is_gone(any_site: Site) -> None:
    """Parked because the backend could not be seen; it can again, replayed -> mended, announced."""
    site = any_site
    site.detachd.configure(IMPATIENT)
    site.cloud.script(Fault.before("driver.observe", TransientError, times=100_000))
    with site.detachd.serve() as service:
        service.ready()
        act = play(site, "UC1")
        until(lambda: state(site, act) is CaseState.PARKED)
        assert site.writes(act.volume_id) == []
        site.cloud.clear_faults()
        (parked,) = site.cases(act.volume_id)
        case_id = parked.case.case_id
        sent = site.detachd.run("replay", "case", case_id[:8], *WHY)
        assert sent.stdout == f"queued case {case_id} for replay\n"
        until(lambda: over(site, act))
        assert service.terminate() == 0
    mended(site, act)
    (record,) = site.cases(act.volume_id)
    assert record.history[: len(parked.history)] == parked.history
    line = record.history[len(parked.history)]
    assert (line.kind, line.actor, line.reason) == (
        HistoryKind.REARMED, "alice", "the array is back",
    )  # fmt: skip
    assert record.case.conclusion is Conclusion.MENDED


def test_original_notification_of_a_closed_case(replay_site: Site) -> None:
    """The volume is stuck anew in the same way, the old message replayed -> mended again, once.

    The same case goes round again with all its history, under the delivery's own id; delivered
    twice it is one replay.
    """
    site = replay_site
    site.detachd.configure(BRISK)
    with site.detachd.serve() as service:
        service.ready()
        act = play(site, "UC5")
        until(lambda: over(site, act))
        (before,) = site.cases(act.volume_id)
        site.cloud.export(act.volume_id, act.stage.host)
        message_id = str(uuid.uuid4())
        for _ in range(2):
            site.peer.put(act.messages[-1].body, "", REPLAY, message_id=message_id)
        until(lambda: site.cloud.exported_to(act.volume_id) == ())
        until(lambda: over(site, act))
        assert service.terminate() == 0
    mended(site, act)
    (record,) = site.cases(act.volume_id)
    assert record.history[: len(before.history)] == before.history
    rearmed = [line for line in record.history if line.kind is HistoryKind.REARMED]
    assert len(rearmed) == 1
    assert record.case.trigger is Trigger.REPLAY
    original = json.loads(json.loads(act.messages[-1].body)["oslo.message"])["message_id"]
    assert rearmed[0].detail is not None
    assert rearmed[0].detail["original_message_id"] == original
    stored = [n.notification.message_id for n in record.notifications]
    assert rearmed[0].detail["delivery_id"] in stored
    assert stored.count(original) == 1


def test_replay_passes_the_guards(replay_site: Site) -> None:
    """A case parked in mode observe is replayed -> looked at at once, parked again: no write."""
    site = replay_site
    site.detachd.configure(dataclasses.replace(BRISK, mode=Mode.OBSERVE))
    with site.detachd.serve() as service:
        service.ready()
        act = play(site, "UC1")
        until(lambda: state(site, act) is CaseState.PARKED)
        (parked,) = site.cases(act.volume_id)
        site.detachd.run("replay", "case", parked.case.case_id, *WHY)
        until(lambda: site.cases(act.volume_id)[0].case.attempts == parked.case.attempts + 1)
        until(lambda: state(site, act) is CaseState.PARKED)
        assert service.terminate() == 0
    assert site.cloud.calls(writes=True) == ()


def test_replayed_while_the_service_is_away(replay_site: Site) -> None:
    """Sent while nobody consumes -> it waits on its durable queue, done at the next start."""
    site = replay_site
    site.detachd.configure(IMPATIENT)
    site.cloud.script(Fault.before("driver.observe", TransientError, times=100_000))
    with site.detachd.serve() as service:
        service.ready()
        act = play(site, "UC3")
        until(lambda: state(site, act) is CaseState.PARKED)
        assert service.terminate() == 0
    site.cloud.clear_faults()
    (parked,) = site.cases(act.volume_id)
    site.detachd.run("replay", "case", parked.case.case_id, *WHY)
    assert state(site, act) is CaseState.PARKED
    with site.detachd.serve() as service:
        service.ready()
        until(lambda: over(site, act))
        assert service.terminate() == 0
    mended(site, act)


def test_quarantined_message_is_used_after_the_fix(replay_site: Site) -> None:
    """Too large for the setting, quarantined; the setting raised and replayed -> mended."""
    site = replay_site
    site.detachd.configure(BRISK, listener={**bindings(), "max_body_bytes": 65_536})
    (act,) = site.arrange([scene("UC5")])
    large = [padded(message.body) for message in act.messages]
    with site.detachd.serve() as service:
        service.ready()
        site.publish([dataclasses.replace(act, messages=())])  # tells the host's connector
        for message, body in zip(act.messages, large, strict=True):
            site.peer.put(body, message.exchange, message.routing_key)
        until(lambda: len(site.ledger.quarantined()) == len(large))
        assert service.terminate() == 0
    held = json.loads(site.detachd.run("quarantine", "list", "-f", "json").stdout)
    assert {body["State"] for body in held} == {"held"}
    assert all("more than max_body_bytes = 65536" in body["Reason"] for body in held)
    site.detachd.configure(BRISK)
    with site.detachd.serve() as service:
        service.ready()
        site.detachd.run("quarantine", "replay", "--all", "--reason", "max_body_bytes raised")
        until(lambda: over(site, act))
        assert service.terminate() == 0
    oracle.nothing_harmed(site)
    oracle.ended_well(site, act)
    assert {body.state.value for body in site.ledger.quarantined()} == {"replayed"}
    assert site.peer.take_all(QUARANTINE) == []


def bindings() -> dict[str, object]:
    """Return what every site listens to."""
    return {"bindings": "nova:notifications, nova:versioned_notifications, cinder:notifications"}


def padded(body: bytes) -> bytes:
    """Return the same message, in its envelope, made large by what nobody reads."""
    inner = json.loads(json.loads(body)["oslo.message"]) | {"padding": "x" * 70_000}
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}).encode()
