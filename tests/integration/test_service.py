"""The running service in the operator's hand: stopping, pausing, the three modes, bad input."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import time
import uuid
from typing import Any

import pytest

from consumer.demo.scenes import SCENES, Scene
from consumer.demo.wire import Message
from drivers.simulator import Cloud, Fault
from handlers.case import CaseState, StepKind
from handlers.intents import UNANSWERED
from handlers.judgement.policy import Mode
from tests.bus import until
from tests.integration import oracle
from tests.integration.service_process import BRISK, UNHURRIED, fetch
from tests.integration.site import Act, Site

pytestmark = pytest.mark.integration
TERMINATE = "driver.terminate_connection"
PATIENT = dataclasses.replace(BRISK, call_timeout_seconds=2.0)


def scene(name: str) -> Scene:
    """Find a scene by the beginning of its name."""
    return next(scene for scene in SCENES if scene.name.startswith(name))


def play(site: Site, *names: str) -> list[Act]:
    """Arrange these scenes and have the bus tell of them."""
    acts = site.arrange(scene(name) for name in names)
    site.publish(acts)
    return acts


def under_way(cloud: Cloud, name: str) -> bool:
    """Tell whether a call of that name has reached the cloud and is not answered."""
    return any(call.ended_seconds is None for call in cloud.calls(name))


# -- stopping --------------------------------------------------------------------------------------


def test_sigterm_ends_an_attempt_before_its_next_write(site: Site) -> None:
    """SIGTERM while the driver is at work -> that step ends, no other begins, exit 0; then on."""
    site.detachd.configure(PATIENT)
    site.cloud.script(Fault.slow(TERMINATE, 1.0))
    with site.detachd.serve() as first:
        first.ready()
        (act,) = play(site, "UC1")
        until(lambda: under_way(site.cloud, TERMINATE))
        assert first.terminate(45.0) == 0, "less than drain_seconds"
    assert site.writes(act.volume_id) == [TERMINATE, "driver.detach"]
    assert site.status(act.volume_id) == "attaching"
    oracle.nobody_holds_anything(site)
    with site.detachd.serve() as second:
        second.ready()
        oracle.wait_until_over(site, [act])
        assert second.terminate() == 0
    oracle.all_is_well(site, [act])


def test_sigterm_does_not_wait_for_a_call_that_outlasts_it(site: Site) -> None:
    """A call longer than drain_seconds -> exit 1 before it ends; the case is left to its lease."""
    policy = dataclasses.replace(PATIENT, call_timeout_seconds=6.0)
    site.detachd.configure(policy, worker={"drain_seconds": 1.0})
    site.cloud.script(Fault.slow(TERMINATE, 5.5))
    with site.detachd.serve() as service:
        service.ready()
        (act,) = play(site, "UC1")
        until(lambda: under_way(site.cloud, TERMINATE))
        assert service.terminate() == 1
        assert under_way(site.cloud, TERMINATE)
    assert "attempts are still running" in site.detachd.logs()
    (case,) = site.cases(act.volume_id)
    (intent,) = case.intents
    assert intent.kind is StepKind.BACKEND_FORCE_DETACH
    # Where the connection was closed before the process had ended, there was time to say so.
    assert intent.result in UNANSWERED, "it may still act"
    assert case.case.state is CaseState.DUE
    assert case.lease_expires_at is None or case.lease_expires_at > intent.intended_at
    oracle.nothing_harmed(site)


def test_idle_service_stops_and_says_so(site: Site) -> None:
    """SIGTERM with nothing to do -> exit 0 within seconds; metrics were served until then."""
    with site.detachd.serve() as service:
        service.ready()
        status, page = fetch(site.detachd.port, "/metrics")
        assert status == 200
        assert "detachd_" in page
        assert [secret for secret in site.secrets if secret in page] == []
        assert service.terminate(5.0) == 0
    assert "stopped" in site.detachd.logs()


# -- pausing ---------------------------------------------------------------------------------------


def test_pause_takes_effect_before_the_next_write(site: Site) -> None:
    """Paused between two writes of a plan -> the second is not made until `detachd resume`."""
    site.detachd.configure(PATIENT)
    site.cloud.script(Fault.slow("cinder.reserve", 4.0))
    with site.detachd.serve() as service:
        service.ready()
        (act,) = play(site, "UC5")
        until(lambda: under_way(site.cloud, "cinder.reserve"))
        site.ledger.pause("operator", "maintenance of the storage")
        assert under_way(site.cloud, "cinder.reserve"), "the pause came too late for this test"
        until(lambda: not under_way(site.cloud, "cinder.reserve"))
        time.sleep(1.0)
        assert site.writes(act.volume_id) == ["cinder.reserve"]
        oracle.nobody_holds_anything(site)
        status, reasons = service.readiness()
        assert (status, "maintenance of the storage" in reasons) == (200, True)
        assert site.detachd.run("resume").stdout == "resumed\n"
        oracle.wait_until_over(site, [act])
        assert service.terminate() == 0
    oracle.all_is_well(site, [act])


def test_paused_service_takes_in_and_does_nothing(site: Site) -> None:
    """`detachd pause`, then a failed attach -> it is on record and nobody is asked; resumed: on."""
    site.detachd.configure(sweep={"enabled": True})
    site.detachd.run("pause", "--reason", "for the test")
    with site.detachd.serve() as service:
        service.ready()
        (act,) = play(site, "UC5")
        until(lambda: site.cases(act.volume_id))
        time.sleep(1.0)
        # The sweep, which only reads lists, goes on.
        assert [c for c in site.cloud.journal if c.asked.volume_id or c.asked.writes] == []
        site.detachd.run("resume")
        oracle.wait_until_over(site, [act])
        assert service.terminate() == 0
    oracle.all_is_well(site, [act])


# -- modes -----------------------------------------------------------------------------------------


def shown(site: Site, act: Act) -> dict[str, Any]:
    """Return what `detachd case show` says of the scene's case."""
    (case,) = site.cases(act.volume_id)
    asked = site.detachd.run("case", "show", "-f", "json", case.case.case_id[:8])
    answer: dict[str, Any] = json.loads(asked.stdout)
    return answer


def in_state(site: Site, act: Act, state: str, *, after_attempts: int = 0) -> bool:
    """Tell whether the scene's one case is in a state, with more attempts made than these."""
    cases = [c.case for c in site.cases(act.volume_id)]
    return [c.state.value for c in cases if c.attempts > after_attempts] == [state]


def planned(case: dict[str, Any]) -> list[str]:
    """Return the steps that the last look came to."""
    concluded = [line for line in case["history"] if line["kind"] == "concluded"]
    return [step["step"] for step in concluded[-1]["detail"]["evidence"]["plan"]]


def test_observe_tells_and_writes_nothing(site: Site) -> None:
    """Mode observe -> parked with the plan on record, announced, and not one write outside."""
    site.detachd.configure(dataclasses.replace(UNHURRIED, mode=Mode.OBSERVE))
    with site.detachd.serve() as service:
        service.ready()
        acts = play(site, "UC1", "UC4", "UC5", "healthy: the retry won")
        stuck = acts[:3]
        until(lambda: all(in_state(site, act, "parked") for act in stuck))
        until(lambda: len(site.listen()) == len(stuck))
        assert service.terminate() == 0
    assert site.cloud.calls(writes=True) == ()
    for act in stuck:
        assert site.announced(act.volume_id) == ["volume.force_detach.parked"]
        case = shown(site, act)
        assert "the mode is observe" in case["reason"]
        assert tuple(planned(case)) == act.scene.expected.steps
        assert case["writes"] == []
    assert site.announced(acts[3].volume_id) == []


def test_approve_waits_for_a_person(site: Site) -> None:
    """Mode approve -> nothing happens until `detachd case approve`, then that plan is run."""
    site.detachd.configure(dataclasses.replace(UNHURRIED, mode=Mode.APPROVE))
    with site.detachd.serve() as service:
        service.ready()
        approved, other = play(site, "UC5", "UC1")
        both = (approved, other)
        until(lambda: all(in_state(site, act, "awaiting-approval") for act in both))
        case = shown(site, approved)
        assert tuple(planned(case)) == approved.scene.expected.steps
        approve(site, case, "looks right")
        oracle.wait_until_over(site, [approved])
        assert [w["kind"] for w in shown(site, approved)["writes"]] == planned(case)
        assert in_state(site, other, "awaiting-approval"), "nobody said yes to this one"
        until(lambda: "looks right" in site.detachd.logs())
        assert service.terminate() == 0
    assert site.writes(other.volume_id) == []
    oracle.all_is_well(site, [approved])
    assert f"operator approved the plan of case {case['case_id']}" in site.detachd.logs()
    told = [a.payload["approved_by"] for r in site.cases(approved.volume_id) for a in r.outbox]
    assert set(told) == {"operator"}


def test_approval_is_for_one_plan(site: Site) -> None:
    """Approved, but the evidence changed before -> not run: a person is asked again."""
    site.detachd.configure(dataclasses.replace(UNHURRIED, mode=Mode.APPROVE))
    with site.detachd.serve() as service:
        service.ready()
        (act,) = play(site, "UC1")
        until(lambda: in_state(site, act, "awaiting-approval"))
        before = shown(site, act)
        site.cloud.add_block_device(act.stage.instance_id, act.volume_id, before["attachment_id"])
        site.cloud.export(act.volume_id, act.stage.host)
        approve(site, before, "as it stood")
        until(lambda: in_state(site, act, "awaiting-approval", after_attempts=before["attempts"]))
        after = shown(site, act)
        assert service.terminate() == 0
    assert before["rule"] != after["rule"]
    assert before["fingerprint"] != after["fingerprint"]
    assert site.cloud.calls(writes=True) == ()


def test_plan_read_ten_minutes_ago_is_not_another_plan(site: Site) -> None:
    """Shown as UC4, then the server is deleted and it is UC3 -> the yes to UC4 is refused.

    The refusal says what changed, and nothing is written. The yes to the plan as it is now is
    carried out.
    """
    site.detachd.configure(dataclasses.replace(UNHURRIED, mode=Mode.APPROVE))
    with site.detachd.serve() as service:
        service.ready()
        (act,) = play(site, "UC4")
        until(lambda: in_state(site, act, "awaiting-approval"))
        read = shown(site, act)
        assert planned(read) == ["cinder.roll_detaching", "nova.detach"]
        site.cloud.delete_server(act.stage.instance_id)
        site.detachd.run("replay", "case", read["case_id"], "--reason", "look again")
        until(lambda: in_state(site, act, "awaiting-approval", after_attempts=read["attempts"]))
        now = shown(site, act)
        assert (read["use_case"], now["use_case"]) == ("UC4", "UC3")
        refused = approve(site, read, "I read the plan ten minutes ago", fails=True)
        assert refused.returncode == 2
        assert f"rule: {read['rule']} -> {now['rule']}" in refused.stderr
        assert "plan: cinder.roll_detaching, then nova.detach -> " in refused.stderr
        assert shown(site, act)["approved_by"] is None
        time.sleep(1.0)
        assert site.writes(act.volume_id) == []
        approve(site, now, "read anew")
        oracle.wait_until_over(site, [act])
        assert [w["kind"] for w in shown(site, act)["writes"]] == planned(now)
        assert service.terminate() == 0
    assert "I read the plan ten minutes ago" not in site.detachd.logs()
    assert site.cloud.calls("nova.detach") == ()


def approve(
    site: Site, case: dict[str, Any], reason: str, *, fails: bool = False
) -> subprocess.CompletedProcess[str]:
    """Approve the plan that was shown, as a person does who read it."""
    words = ("--plan", case["fingerprint"][:12], "--reason", reason, "--actor", "operator")
    return site.detachd.run("case", "approve", case["case_id"], *words, fails=fails)


def told_anew(act: Act) -> list[Message]:
    """Return the messages of a scene as of another try: with other ids of messages and request."""
    new: dict[bytes, bytes] = {}

    def other(found: re.Match[bytes]) -> bytes:
        return found[1] + new.setdefault(found[2], str(uuid.uuid4()).encode())

    ids = re.compile(rb"""((?:message_id\\*": *\\*"|req-))([0-9a-f-]{36})""")
    return [dataclasses.replace(m, body=ids.sub(other, m.body)) for m in act.messages]


def test_case_that_a_person_closed_hides_no_later_one(site: Site) -> None:
    """Parked, told again in vain, closed by a person -> announced; told once more: a new case."""
    site.detachd.configure(dataclasses.replace(UNHURRIED, mode=Mode.OBSERVE))
    with site.detachd.serve() as service:
        service.ready()
        (act,) = play(site, "UC1")
        until(lambda: in_state(site, act, "parked"))
        (first,) = site.cases(act.volume_id)
        words = ("--reason", "released on the array by hand", "--actor", "operator")
        site.detachd.run("case", "close", first.case.case_id[:8], *words)
        until(lambda: "volume.force_detach.dismissed" in site.announced(act.volume_id))
        site.send(told_anew(act))
        until(lambda: len(site.cases(act.volume_id)) == 2)
        assert service.terminate() == 0
    told = [a for a in site.cases(act.volume_id) for a in a.outbox]
    closed = next(a.payload for a in told if a.event_type == "volume.force_detach.dismissed")
    assert (closed["case_id"], closed["decided_by"]) == (first.case.case_id, "operator")
    assert closed["reason"] == "released on the array by hand"
    assert f"operator closed case {first.case.case_id}" in site.detachd.logs()
    assert site.writes(act.volume_id) == []


# -- bad input -------------------------------------------------------------------------------------


def test_schema_that_is_behind_is_refused(site: Site) -> None:
    """No `detachd ledger upgrade` yet -> exit 1 and the words to run; after it the service runs."""
    fresh = f"sqlite:///{site.detachd.directory / 'fresh.sqlite'}"
    site.detachd.configure(ledger={"connection": fresh})
    refused = site.detachd.run("serve", fails=True)
    assert refused.returncode == 1
    assert "run `detachd ledger upgrade`" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert not (site.detachd.directory / "fresh.sqlite").exists()
    site.detachd.run("ledger", "upgrade")
    with site.detachd.serve() as service:
        service.ready()
        assert service.terminate() == 0


def test_bad_configuration_is_one_message(site: Site) -> None:
    """A lease shorter than the longest step -> exit 2, the numbers in words, no traceback."""
    site.detachd.configure(worker={"lease_seconds": 1.0})
    refused = site.detachd.run("serve", fails=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("detachd: [worker] lease_seconds = 1 is shorter than the ")
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stdout == ""


def test_ledger_that_is_not_there_is_told_without_its_password(site: Site) -> None:
    """The database does not answer at start -> exit 1, in words that hold no password."""
    password = "a-password-of-the-test"
    gone = f"postgresql://detachd:{password}@127.0.0.1:1/detachd"
    site.detachd.configure(ledger={"connection": gone})
    refused = site.detachd.run("serve", fails=True)
    assert refused.returncode == 1
    assert "127.0.0.1:1" in refused.stderr
    assert password not in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
