"""The judgement over arbitrary evidence: what may never happen does not, whatever one looks at."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta

import jsonschema
from hypothesis import assume, given
from hypothesis import strategies as st

from drivers.base import Capabilities, Connection
from drivers.control_plane import BlockDevice, Swap
from handlers.announcement import schema
from handlers.case import CaseState, Conclusion, StepKind
from handlers.judgement.accounting import Kind, host_of, may_hold, unexplained
from handlers.judgement.approval import fingerprint
from handlers.judgement.diagnosis import rule_ids
from handlers.judgement.evidence import Blind, Fact, Holding, Unknown
from handlers.judgement.guards import PARKS, Guard, Means, guard
from handlers.judgement.plan import Condition, make_plan, unmet
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.judgement.rule import ACTING, Verdict
from handlers.notification import Operation
from handlers.recovery import conclusion
from handlers.recovery.conclusion import Attempted
from handlers.recovery.summary import summarise
from tests.properties.evidences import (
    GHOSTS,
    OF_CLIENTS,
    by_client,
    capabilities,
    ids,
    instances,
    moments,
    pictures,
    policies,
    unwanted,
)
from tests.unit.handlers.judgement.pictures import SEEING, Picture, X, connector

VALIDATOR = jsonschema.Draft202012Validator(schema())
SETTLED = {"available", "attaching", "in-use", "detaching", "reserved"}
UNCLAIMED = ("UC5.ghost", "UC5.held")
RELEASING = (Verdict.RELEASE, Verdict.TERMINATE)
FREES_IN_CINDER = {
    StepKind.CINDER_DELETE_ATTACHMENT, StepKind.CINDER_FORCE_DETACH, StepKind.CINDER_UNRESERVE,
}  # fmt: skip


def policy_in(mode: Mode, policy: BackendPolicy) -> BackendPolicy:
    """Return the policy in another mode."""
    return BackendPolicy(mode=mode, trust_blind=policy.trust_blind)


holders = st.sampled_from([Fact((X,)), Fact(("another", X)), Unknown("Nova: no answer"), None])


@given(pictures())
def test_every_evidence_has_a_verdict_that_can_be_kept_and_told(picture: Picture) -> None:
    """Anything at all -> a known rule, a summary in plain JSON, and no error."""
    diagnosis = picture.diagnosis
    assert diagnosis.rule in rule_ids()
    made = summarise(picture.evidence, diagnosis)
    assert json.loads(json.dumps(made)) == made


@given(pictures())
def test_nobody_acts_on_what_was_not_seen_or_is_in_motion(picture: Picture) -> None:
    """Unknown, busy, in transition elsewhere, ambiguous or nobody's -> no verdict that acts."""
    s, diagnosis = picture.situation, picture.diagnosis
    if diagnosis.verdict not in ACTING:
        return
    answers = dict(picture.evidence.servers).values()
    assert not any(isinstance(answer, Unknown) for answer in answers)
    assert not any(isinstance(a, Fact) and a.value.task_state is not None for a in answers)
    assert not isinstance(s.backend, Unknown)
    assert s.swapping in (None, Fact(Swap.NONE), Fact(Swap.FAILED))
    assert s.status in SETTLED
    assert s.volume.migration_status in (None, "success")
    assert not s.ambiguous
    if s.instance_id is None:
        assert diagnosis.rule in UNCLAIMED
        assert s.holding == Holding(s.host or "", True, Fact(()))
    else:
        assert s.server is not None or s.server_gone
    if s.server is not None and s.server.host is not None:
        assert s.server.compute_up is True


@given(pictures(GHOSTS) | pictures())
def test_nobody_s_connection_is_ended_only_where_nobody_can_be_using_it(picture: Picture) -> None:
    """No instance known, a verdict that acts -> the whole of what it rests on, whatever is drawn.

    No row, no server that Nova holds to have it there, on a compute that is up; on the backend that
    one host and nobody else, in whatever way known; free in Cinder, or kept by our own reserve.
    """
    s, diagnosis = picture.situation, picture.diagnosis
    if diagnosis.verdict not in ACTING or s.instance_id is not None:
        return
    assert diagnosis.verdict is Verdict.TERMINATE
    assert (s.attachment, s.others, s.volume.attachments) == (None, (), ())
    assert s.holding is not None
    assert (s.holding.compute_up, s.holding.holders) == (True, Fact(()))
    assert s.connector is not None or diagnosis.rule == "UC5.held"
    if diagnosis.rule == "UC5.ghost":
        assert s.status == "available"
        assert isinstance(s.backend, Fact)
        assert s.connector is not None
        assert all(c.belongs_to(s.connector) for c in s.backend.value.connections)
        assert picture.hosts_known
    else:
        assert s.status == "attaching"
        assert StepKind.CINDER_RESERVE in {i.kind for i in s.case.intents}


@given(pictures(GHOSTS), holders)
def test_one_server_that_may_be_using_it_keeps_nobody_s_connection(
    picture: Picture, found: Fact[tuple[str, ...]] | Unknown | None
) -> None:
    """Nova names a server of the host, does not say, or was not asked -> nothing acts any more."""
    assume(picture.diagnosis.rule in UNCLAIMED and picture.situation.instance_id is None)
    asked = picture.holding
    assert asked is not None
    told = picture.but(holding=dataclasses.replace(asked, holders=found))
    assert told.diagnosis.verdict not in ACTING
    for place in range(len(make_plan(picture.diagnosis, SEEING))):
        step = make_plan(picture.diagnosis, SEEING)[place]
        assert unmet(step, picture.diagnosis, told.diagnosis) is not None


@given(pictures())
def test_nothing_is_released_that_nova_holds(picture: Picture) -> None:
    """A verdict that releases -> no block device names the subject, and none is unaccounted for."""
    s, diagnosis = picture.situation, picture.diagnosis
    if diagnosis.verdict not in RELEASING:
        return
    assert not s.named_by_device
    assert not s.devices_without_attachment
    if s.attachment is not None and s.attachment.status == "attached" and s.server_gone:
        assert s.clean or (s.ended_on is not None and s.ended_on == s.host)
    if s.others:
        assert set(s.others_named_by_devices) == set(s.others)


@given(pictures())
def test_a_healthy_attachment_is_left_alone(picture: Picture) -> None:
    """In-use, attached and named, no roll of ours pending -> nothing acts; nor on a reservation."""
    s, verdict = picture.situation, picture.diagnosis.verdict
    if not s.named_by_device:
        return
    if s.status == "in-use" and s.attachment_status == "attached" and verdict in ACTING:
        kinds = [i.kind for i in s.case.intents if i.attachment_id == s.attachment.attachment_id]
        assert StepKind.CINDER_ROLL_DETACHING in kinds or unwanted(picture)
        assert verdict is Verdict.NOVA_DETACH
    if s.server is not None and s.server.vm_state == "shelved_offloaded":
        assert verdict not in ACTING


@given(pictures())
def test_what_a_guest_has_is_only_asked_of_nova_or_told_to_cinder(picture: Picture) -> None:
    """Named by Nova -> Nova's own detach, for a wish on record, or Cinder is told the truth."""
    s, verdict = picture.situation, picture.diagnosis.verdict
    if verdict is Verdict.NOVA_DETACH:
        assert s.named_by_device
        assert s.case.operation is Operation.DETACH or unwanted(picture)
        assert s.status == "detaching" or s.case.intents
        assert s.status == "in-use" or not s.others
    if verdict is Verdict.ROLL_FORWARD:
        assert s.named_by_device
        assert (s.status, s.attachment_status) == ("attaching", "attaching")
        assert s.own or s.nameless or isinstance(s.backend, Blind)


@given(pictures())
def test_two_writers_are_told_whatever_else_is_so(picture: Picture) -> None:
    """Two known hosts in session, one guest at most to be there, nobody at work -> critical."""
    seen = picture.backend if isinstance(picture.backend, tuple) else ()
    in_session = {connection.name for connection in seen if connection.sessions}
    known = {connector(host).initiator for host in picture.known}
    at_rest = all(server.task_state is None for server in picture.servers) and not picture.unseen
    busy = picture.status not in SETTLED or picture.migration not in (None, "success")
    if len(in_session & known) < 2 or not at_rest or busy or picture.situation.guest_ended:
        return
    hosts = {attachment.host for attachment in picture.attachments} - {
        server.host for server in picture.servers
    }
    if picture.multiattach or any(not dict(picture.computes).get(host or "") for host in hosts):
        calm = (Verdict.HEALTHY, Verdict.CLEAN)
        assert picture.diagnosis.verdict not in calm or picture.multiattach
        return
    diagnosis = picture.diagnosis
    assert (diagnosis.verdict, diagnosis.rule) == (Verdict.PARK, "P15.two-writers")


@given(pictures())
def test_nothing_is_well_while_a_guest_is_shut_out(picture: Picture) -> None:
    """A running guest's known host is not let in, others are -> neither healthy nor clean."""
    s = picture.situation
    if not isinstance(picture.backend, tuple) or not picture.hosts_known or s.status != "in-use":
        return
    let_in = {connection.name for connection in picture.backend}
    for attachment in s.volume.attachments:
        guest = s.holder(attachment)
        runs = guest is not None and (guest.vm_state, guest.compute_up) == ("active", True)
        where = attachment.host or (guest.host if guest else None)
        own = attachment is s.attachment and s.case.connector is not None
        if attachment.status != "attached" or not runs or own or where not in picture.known:
            continue
        if connector(where).initiator not in let_in:
            assert picture.diagnosis.verdict not in (Verdict.HEALTHY, Verdict.CLEAN)


CALM = (Verdict.HEALTHY, Verdict.CLEAN)
strangers = st.builds(
    Connection, st.sampled_from(["nobody's", "another's"]), sessions=st.integers(0, 1)
)


@given(pictures(), strangers)
def test_one_more_on_the_volume_never_makes_it_well(picture: Picture, one: Connection) -> None:
    """A connection that no known host has is added -> what was not well is not.

    Where every row has its host, nothing is.
    """
    if not isinstance(picture.backend, tuple):
        return
    more = picture.but(backend=(*picture.backend, one))
    before, after = picture.diagnosis.verdict, more.diagnosis.verdict
    seen = more.situation
    rows = seen.volume.attachments
    shelved = seen.server is not None and seen.server.vm_state == "shelved_offloaded"
    told = picture.hosts_known and all(row.host in picture.known for row in rows)
    if told and not shelved and seen.case.connector is None:
        assert after not in CALM
    if before not in CALM and isinstance(picture.situation.backend, Fact):
        lost = picture.diagnosis.rule == "P8.access-lost"
        assert after not in CALM or lost


@given(pictures(), ids | st.just("dead"), instances)
def test_one_more_block_device_never_makes_it_well(
    picture: Picture, name: str, instance_id: str
) -> None:
    """A server that Nova answers for has the volume under a row that is not there -> never well."""
    rows = {row.attachment_id for row in picture.attachments}
    at_rest = [s for s in picture.servers if s.instance_id == instance_id]
    assume(name not in rows and at_rest)
    more = dataclasses.replace(
        at_rest[0], block_devices=(*at_rest[0].block_devices, BlockDevice(name))
    )
    others = tuple(s for s in picture.servers if s is not at_rest[0])
    changed = picture.but(servers=(*others, more), gone=(), stranger=(), unseen=())
    assert changed.diagnosis.verdict not in CALM


@given(pictures())
def test_nothing_is_well_while_a_party_is_unexplained(picture: Picture) -> None:
    """Healthy or clean -> each access, row, block device and guest has a record that says why."""
    if picture.diagnosis.verdict in CALM:
        assert unexplained(picture.situation) == ()


@given(pictures(), capabilities, policies, moments)
def test_nobody_gets_the_volume_while_another_may_be_writing(
    picture: Picture, capabilities: Capabilities, policy: BackendPolicy, now: datetime
) -> None:
    """A plan that lets others attach, and no guard -> everybody else is explained.

    The connections of its own host are what the plan is about.
    """
    steps = make_plan(picture.diagnosis, capabilities)
    s = picture.situation
    assume(steps)
    parties = may_hold(s)
    assert not [p for p in parties if p.kind not in (Kind.ACCESS, Kind.SESSION)]
    means = Means(capabilities, policy, now, fingerprint(picture.diagnosis, steps))
    if guard(s, steps, means) is not None or picture.diagnosis.verdict is Verdict.ROLL_FORWARD:
        return
    mine = {host_of(s, connection) for connection in (*s.own, *s.nameless)}
    for party in parties:
        assert s.sole or any(party.words.endswith(host) for host in mine)


@given(pictures(), capabilities)
def test_the_backend_is_released_before_cinder_is_told(
    picture: Picture, capabilities: Capabilities
) -> None:
    """Any plan -> at most one flip, the last step, on a clean backend; every step on one row."""
    s = picture.situation
    steps = make_plan(picture.diagnosis, capabilities)
    assert bool(steps) is (picture.diagnosis.verdict in ACTING)
    kinds = [step.kind for step in steps]
    assert [k for k in kinds[:-1] if k in FREES_IN_CINDER] == []
    if kinds and kinds[-1] in FREES_IN_CINDER:
        assert {Condition.CLEAN, Condition.LET_GO} <= steps[-1].conditions
    for step in steps:
        by_force = step.kind is StepKind.CINDER_FORCE_DETACH
        remembered = None if by_force else s.case.attachment_id
        assert step.attachment.attachment_id == (
            s.attachment.attachment_id if s.attachment else remembered
        )
        if by_force:
            assert (
                step.statuses <= SETTLED - {"available"} or s.attachment_status == "error_attaching"
            )
        assert step.attachment.instance_id == s.instance_id
    if StepKind.BACKEND_FORCE_DETACH in kinds and s.connector is not None:
        assert not s.shared_host
    if StepKind.NOVA_DETACH in kinds:
        assert set(kinds) <= {StepKind.CINDER_ROLL_DETACHING, StepKind.NOVA_DETACH}


@given(pictures(OF_CLIENTS) | pictures(), capabilities, policies, moments)
def test_no_access_is_ended_that_a_guest_may_be_using(
    picture: Picture, capabilities: Capabilities, policy: BackendPolicy, now: datetime
) -> None:
    """No objection to a release -> the host has no session, as far as anybody sees, or no guest.

    Where nobody sees sessions, the operator has accepted that.
    """
    steps = make_plan(picture.diagnosis, capabilities)
    s = picture.situation
    ends = {step.kind for step in steps} & (FREES_IN_CINDER | {StepKind.BACKEND_FORCE_DETACH})
    means = Means(capabilities, policy, now, fingerprint(picture.diagnosis, steps))
    if not ends or guard(s, steps, means) is not None or s.guest_ended:
        return
    assert not any(connection.sessions for connection in s.own)
    assert policy.trust_blind or all(connection.sessions == 0 for connection in s.own)


@given(pictures(OF_CLIENTS), by_client, policies, moments)
def test_only_the_learned_client_is_ended_and_what_it_loses_is_known(
    picture: Picture, able: Capabilities, policy: BackendPolicy, now: datetime
) -> None:
    """A driver of single clients, no objection -> the one that was learned, and no other is there.

    It has no more beside the volume than the operator allows.
    """
    steps = make_plan(picture.diagnosis, able)
    s = picture.situation
    means = Means(able, policy, now, fingerprint(picture.diagnosis, steps))
    ends = StepKind.BACKEND_FORCE_DETACH in {step.kind for step in steps}
    if not ends or guard(s, steps, means) is not None:
        return
    assert s.learned is not None
    subject = s.attachment.attachment_id if s.attachment else s.case.attachment_id
    assert s.learned == dict(picture.learned)[subject or ""]
    assert all(connection.is_of(s.learned) for connection in (*s.own, *s.foreign))
    if s.own:
        assert isinstance(s.reach, Fact)
        assert not s.reach.value.goes_too_far


@given(pictures(), capabilities, policies, moments)
def test_what_passes_the_guards_is_known_alone_and_allowed(
    picture: Picture, capabilities: Capabilities, policy: BackendPolicy, now: datetime
) -> None:
    """No objection -> the host has a connector and no session, nobody else is let in."""
    steps = make_plan(picture.diagnosis, capabilities)
    s = picture.situation
    assume(steps)
    mark = fingerprint(picture.diagnosis, steps)
    if guard(s, steps, Means(capabilities, policy, now, mark)) is not None:
        return
    assert policy.mode is not Mode.OBSERVE
    assert policy.mode is Mode.AUTO or s.case.approved_fingerprint is not None
    kinds = {step.kind for step in steps}
    every_host = s.connector is None and StepKind.BACKEND_FORCE_DETACH in kinds
    if every_host:
        assert s.sole
        assert capabilities.accepts_no_connector
        assert policy.allow_no_connector
    elif StepKind.CINDER_FORCE_DETACH in kinds:
        assert all(step.attachment.connector is not None for step in steps)
    if StepKind.BACKEND_FORCE_DETACH in kinds:
        assert capabilities.revokes_access or capabilities.acts_through_cinder
    if picture.diagnosis.verdict in RELEASING:
        assert every_host or not (s.foreign or s.nameless)
        assert not s.live_sessions or (s.guest_ended and capabilities.ends_sessions)
        if s.others and capabilities.acts_through_cinder:
            assert kinds == {StepKind.CINDER_DELETE_ATTACHMENT}
        assert policy.trust_blind or not isinstance(s.backend, Blind)


@given(pictures(), capabilities, policies, moments)
def test_observe_lets_no_step_through(
    picture: Picture, capabilities: Capabilities, policy: BackendPolicy, now: datetime
) -> None:
    """Mode observe -> an objection to every plan; never a deeper one hidden by it."""
    steps = make_plan(picture.diagnosis, capabilities)
    assume(steps)
    mark = fingerprint(picture.diagnosis, steps)

    def objection(mode: Mode) -> Guard | None:
        means = Means(capabilities, policy_in(mode, policy), now, mark)
        found = guard(picture.situation, steps, means)
        return found.guard if found else None

    auto, observe = objection(Mode.AUTO), objection(Mode.OBSERVE)
    assert observe is (auto or Guard.OBSERVE)


@given(pictures(), pictures(), capabilities, st.integers(0, 2))
def test_no_step_is_made_on_evidence_that_another_plan_would_follow_from(
    planned: Picture, now: Picture, capabilities: Capabilities, place: int
) -> None:
    """Plan on one look, anything at all in the next -> made only where the next would act alike."""
    steps = make_plan(planned.diagnosis, capabilities)
    assume(place < len(steps))
    step = steps[place]
    for after in (now, planned):
        if unmet(step, planned.diagnosis, after.diagnosis) is not None:
            continue
        s = after.situation
        assert s.status in step.statuses
        assert {r.attachment_id for r in s.volume.attachments} == {
            r.attachment_id for r in planned.volume.attachments
        }
        assert after.diagnosis.verdict in (planned.diagnosis.verdict, Verdict.CLEAN)
        if step.kind in FREES_IN_CINDER:
            assert s.clean or isinstance(s.backend, Blind)
        if s.instance_id is None:
            assert s.holding is not None
            assert (s.holding.compute_up, s.holding.holders) == (True, Fact(()))
        if step.kind is StepKind.BACKEND_FORCE_DETACH:
            assert not s.named_by_device
            assert not s.live_sessions or s.guest_ended


@given(pictures(), policies, moments, st.booleans())
def test_every_outcome_comes_to_rest_or_to_a_person(
    picture: Picture, policy: BackendPolicy, now: datetime, started: bool
) -> None:
    """Any verdict without a step -> a delay, a person or an end; only proof closes."""
    diagnosis = picture.diagnosis
    assume(diagnosis.verdict not in ACTING)
    outcome = conclusion.conclude(
        Attempted(
            case=picture.case, diagnosis=diagnosis, policy=policy, now=now, started=started,
            evidence=summarise(picture.evidence, diagnosis),
        )
    )  # fmt: skip
    for announcement in outcome.announcements:
        VALIDATOR.validate(json.loads(json.dumps(announcement.payload)))
    if outcome.state is CaseState.CLOSED:
        since = picture.case.first_clean_at
        assert outcome.conclusion in (Conclusion.HEALTHY, Conclusion.MENDED)
        assert diagnosis.verdict in (Verdict.HEALTHY, Verdict.CLEAN)
        assert since is not None
        assert now - since >= timedelta(seconds=policy.late_horizon_seconds)
        assert picture.service_up
    elif outcome.state is not CaseState.PARKED:
        assert outcome.delay_seconds is not None
        assert 0 <= outcome.delay_seconds <= 86400
    if outcome.clean:
        assert diagnosis.verdict in (Verdict.HEALTHY, Verdict.CLEAN)


def test_what_parks_is_what_only_a_person_lifts() -> None:
    """The guards -> the modes and the passing ones do not park, all others do."""
    passing = {
        Guard.SERVICE_DOWN, Guard.OWN_CALL_UNANSWERED, Guard.NOVA_AT_IT, Guard.LATE_DETACH,
        Guard.LATE_ATTACH_UNSEEN, Guard.PROTOCOL_UNKNOWN, Guard.REACH_UNKNOWN,
        Guard.APPROVE, Guard.UNSEEN_FINDING,
    }  # fmt: skip
    assert set(Guard) - PARKS == passing
