"""May we act now: each guard holds in its own picture, and only there."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest

from drivers.base import Capabilities, Connector
from handlers import intents
from handlers.case import LateCalls, StepKind, StepResult
from handlers.judgement.approval import fingerprint
from handlers.judgement.evidence import Fact, Unknown
from handlers.judgement.guards import PARKS, Guard, Means, Objection, guard
from handlers.judgement.plan import make_plan
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import (
    BESIDE,
    DELETED_IN_BUILDING,
    ENDED,
    HELD,
    LEFT,
    ROLLED,
    STRAY,
    UC1,
    UC1_RESERVED,
    UC2,
    UC3,
    UC4,
    UC5,
)
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    H3,
    NOW,
    OPENED_AT,
    SEEING,
    THROUGH_CINDER,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    connector,
    intent,
    server,
)

AUTO = BackendPolicy(mode=Mode.AUTO)
TRUSTED = BackendPolicy(mode=Mode.AUTO, trust_blind=True)
BLIND_UC5 = UC5.but(backend=BLIND, released_unasked=True)
FORCE, DELETE = StepKind.BACKEND_FORCE_DETACH, StepKind.CINDER_DELETE_ATTACHMENT


def objection(
    picture: Picture,
    policy: BackendPolicy = AUTO,
    capabilities: Capabilities = SEEING,
    now: datetime = NOW,
) -> Objection | None:
    """Return what speaks against carrying out the picture's plan."""
    steps = make_plan(picture.diagnosis, capabilities)
    assert steps, picture.diagnosis.rule
    means = Means(capabilities, policy, now, fingerprint(picture.diagnosis, steps))
    return guard(picture.situation, steps, means)


@pytest.mark.parametrize(
    ("facts", "policy"),
    [
        ({"marks": frozenset({"detachd_protected"})}, {}),
        ({"marks": frozenset({"keep"})}, {"protected_metadata_key": "keep"}),
        ({"volume_type": "gold"}, {"protected_volume_types": ("silver", "gold")}),
        ({"volume_type_id": "type-1"}, {"protected_volume_types": ("type-1",)}),
        ({"project_id": "project-1"}, {"protected_projects": ("project-1",)}),
    ],
)
def test_a_protected_volume_is_left_to_a_person(
    facts: dict[str, Any], policy: dict[str, Any]
) -> None:
    """Its metadata, its type or its project protects it -> parked in each mode, approved or not."""
    steps = make_plan(UC1.diagnosis, SEEING)
    mark = fingerprint(UC1.diagnosis, steps)
    case = dataclasses.replace(
        UC1.situation.case, approved_by="me", approved_fingerprint=mark, approved_at=NOW
    )
    volume = dataclasses.replace(UC1.situation.volume, **facts)
    s = dataclasses.replace(UC1.situation, volume=volume, case=case)
    for mode in Mode:
        found = guard(s, steps, Means(SEEING, BackendPolicy(mode=mode, **policy), NOW, mark))
        assert found is not None
        assert found.guard is Guard.PROTECTED
    assert guard(s, steps, Means(SEEING, BackendPolicy(
        mode=Mode.AUTO, protected_metadata_key=""), NOW, mark)) is None  # fmt: skip


def objecting(picture: Picture, *means: Any) -> Guard | None:
    """Return the guard alone."""
    found = objection(picture, *means)
    return found.guard if found else None


@pytest.mark.parametrize(
    "picture", [UC1, UC1_RESERVED, UC2, UC3, UC4, ROLLED, UC5, HELD, BESIDE, STRAY, LEFT, ENDED]
)
def test_nothing_speaks_against_a_plan_in_mode_auto(picture: Picture) -> None:
    """Everything known, seen and alone -> no objection."""
    assert objection(picture) is None


BOTH_OF_ONE_VOLUME = ROLLED.but(
    multiattach=True,
    attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H2)),
    servers=(server(X, A), server(Y, B, host=H2)),
    backend=(access(H1, sessions=1), access(H2, sessions=1)),
)


STRAY_BESIDE_ENDED = STRAY.but(
    attachments=(attachment(A, "attaching"), attachment(B, instance_id=Y, host=H1)),
    servers=(server(X),), gone=(Y,), ended=((Y, H1),), multiattach=True, host=H1,
    backend=(access(H1),),
)  # fmt: skip
"""A failed attach on the host of a deleted server, whose guest is known to have ended there."""


def test_session_beside_a_deleted_server_s_row_is_the_subject_s() -> None:
    """Its host is that of the other row, too -> a live session there is still held back for."""
    in_session = STRAY_BESIDE_ENDED.but(backend=(access(H1, sessions=1),))
    assert STRAY_BESIDE_ENDED.diagnosis.rule == in_session.diagnosis.rule == "S1.stray-row"
    assert objecting(STRAY_BESIDE_ENDED) is None
    assert objecting(in_session) is Guard.LIVE_SESSION


def test_connection_of_a_deleted_server_s_host_is_no_stranger_s() -> None:
    """Another host's connection has a row of a deleted server -> it stands against nothing."""
    elsewhere = STRAY_BESIDE_ENDED.but(
        attachments=(attachment(A, "attaching"), attachment(B, instance_id=Y, host=H2)),
        ended=((Y, H2),), backend=(access(H1), access(H2)),
    )  # fmt: skip
    assert objecting(elsewhere) is None
    old = attachment(B, instance_id=Y, host=H2, info=False)
    unfollowed = elsewhere.but(attachments=(attachment(A, "attaching"), old))
    assert objecting(unfollowed) is Guard.FOREIGN_CONNECTION
    assert objecting(elsewhere.but(backend=(access(H1), access(H3)))) is Guard.FOREIGN_CONNECTION


def test_nova_s_detach_is_held_back_by_what_the_accounting_leaves_unexplained() -> None:
    """One way of explaining -> the other server's host that was never learned holds nothing back.

    A third access of a driver that names no hosts does. Where both servers are on one host, it is
    for a person.
    """
    assert objection(BOTH_OF_ONE_VOLUME) is None
    assert objection(BOTH_OF_ONE_VOLUME.but(known=(H1,))) is None
    three = (access(H1), access(H2), access("stranger"))
    too_many = BOTH_OF_ONE_VOLUME.but(hosts_known=False, backend=three)
    assert objecting(too_many) is Guard.FOREIGN_CONNECTION
    on_one_host = BOTH_OF_ONE_VOLUME.but(
        hosts_known=False,
        attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H1)),
        servers=(server(X, A), server(Y, B)),
        backend=(access(H1), access(H2)),
    )
    assert on_one_host.diagnosis.rule == "P17.unexplained"


def test_session_after_the_guest_s_end_is_ended_by_who_can() -> None:
    """Nova says that the guest was ended on that host -> its login may go, by a driver that can."""
    assert objection(ENDED) is None
    cannot = dataclasses.replace(SEEING, ends_sessions=False)
    assert objecting(ENDED, AUTO, cannot) is Guard.LIVE_SESSION


UNSHOWN = dataclasses.replace(access(H1), sessions=None)


@pytest.mark.parametrize("picture", [UC1, UC3, HELD], ids=["UC1", "UC3", "UC5"])
def test_access_is_not_ended_where_nothing_shows_whether_a_guest_uses_it(picture: Picture) -> None:
    """The driver shows no sessions -> parked; the operator accepts that -> no objection."""
    unshown = picture.but(backend=(UNSHOWN,))
    assert objecting(unshown) is Guard.SESSIONS_UNSEEN
    assert objecting(unshown, TRUSTED) is None
    assert objecting(unshown.but(backend=())) is None


def test_access_that_is_unused_by_nova_s_record_is_ended_whatever_the_driver_shows() -> None:
    """Nova says that the guest was ended on that host -> no session is in question."""
    assert objection(ENDED.but(backend=(UNSHOWN,))) is None


@pytest.mark.parametrize(
    "picture",
    [
        ENDED.but(ended=()),
        ENDED.but(ended=((X, H2),)),
        ENDED.but(attachments=(attachment(A),), host=None),
    ],
    ids=["nobody says that it ended", "it ended on another host", "on which host is unknown"],
)
def test_session_without_that_proof_is_never_ended(picture: Picture) -> None:
    """The guest's end on this host is not proven -> no plan at all, a person is asked."""
    assert make_plan(picture.diagnosis, SEEING) == ()
    assert picture.diagnosis.rule == "P5.server-deleted"


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (UC3.but(attachments=(), known=()), Guard.NO_CONNECTOR),
        (UC3.but(attachments=(), known=(), backend=()), Guard.NO_CONNECTOR),
        (UC1.but(known=()), Guard.NO_CONNECTOR),
        (STRAY.but(known=(H1,), host="compute-9"), Guard.NO_CONNECTOR),
        (UC1.but(backend=(access(H1), access("stranger"))), Guard.FOREIGN_CONNECTION),
        (UC5.but(backend=(access(H1), access(H2))), Guard.FOREIGN_CONNECTION),
        (STRAY.but(backend=(*STRAY.backend, access("stranger"))), Guard.FOREIGN_CONNECTION),
        (UC1.but(backend=(access(H1, sessions=1),)), Guard.LIVE_SESSION),
        (HELD.but(backend=(access(H1, sessions=1),)), Guard.LIVE_SESSION),
        (
            LEFT.but(
                backend=(access(H1, sessions=1), access(H2)),
                servers=(server(X, B, host=H2, vm_state="stopped"),),
            ),
            Guard.LIVE_SESSION,
        ),
        (UC5.but(shared_targets=True), Guard.SHARED_TARGETS),
        (UC1.but(shared_targets=True), Guard.SHARED_TARGETS),
    ],
    ids=[
        "the call takes a connector", "the same on a clean backend", "somebody is let in, whoever",
        "a stray row's host is unknown", "a stranger too", "another known host too",
        "a stranger beside others", "UC1 with a session",
        "a session while held", "a session on the source", "a shared target", "and for UC1",
    ],
)  # fmt: skip
def test_what_only_a_person_can_lift(picture: Picture, expected: Guard) -> None:
    """Something is not proven -> that guard, and it parks."""
    assert objecting(picture) is expected
    assert expected in PARKS


@pytest.mark.parametrize("picture", [UC2, UC4, ROLLED])
def test_what_releases_nothing_needs_none_of_that(picture: Picture) -> None:
    """Telling Cinder or asking Nova -> no connector, no session, no shared target matters."""
    assert objection(picture.but(backend=(access(H1, sessions=1),), shared_targets=True)) is None
    assert objection(picture.but(backend=BLIND)) is None


def test_nova_is_not_asked_to_free_a_volume_that_a_stranger_is_let_in_to() -> None:
    """Nova's own detach would make it available -> parked; an unheard-of own host is none."""
    beside = (access(H1, sessions=1), access("stranger"))
    assert objecting(UC4.but(backend=beside)) is Guard.FOREIGN_CONNECTION
    assert objecting(ROLLED.but(backend=beside)) is Guard.FOREIGN_CONNECTION
    assert objecting(UC4.but(known=())) is None
    assert objecting(UC2.but(backend=beside)) is None


def test_a_release_that_takes_only_one_kind_of_step_is_guarded_as_well() -> None:
    """Only the driver's call, or only Cinder's -> the same reasons hold."""
    beside = BESIDE.but(backend=(*BESIDE.backend, access("stranger")))
    assert objecting(beside) is Guard.FOREIGN_CONNECTION
    unseen = UC1.but(backend=BLIND, known=())
    assert objecting(unseen, AUTO, THROUGH_CINDER) is Guard.BLIND_NOT_TRUSTED


def test_a_clean_backend_needs_no_connector_where_cinder_alone_is_asked() -> None:
    """The probe says that nobody is let in, the host is unknown -> Cinder's delete may be made."""
    assert objection(UC1_RESERVED.but(backend=(), known=())) is None
    assert objection(HELD.but(backend=(), known=(), shared_targets=True)) is None


def test_a_shared_target_stands_in_nobody_s_way_who_ends_no_session() -> None:
    """The driver ends no sessions, or acts through Cinder -> other volumes are not touched."""
    gentle = dataclasses.replace(SEEING, ends_sessions=False)
    assert objection(UC5.but(shared_targets=True), AUTO, gentle) is None
    through = dataclasses.replace(THROUGH_CINDER, ends_sessions=True)
    assert objection(BLIND_UC5.but(shared_targets=True), TRUSTED, through) is None


# -- blind backends --------------------------------------------------------------------------------


def test_a_backend_that_cannot_be_seen_is_acted_on_only_where_the_operator_said_so() -> None:
    """Blind -> parked; opted in -> no objection."""
    for picture in (BLIND_UC5, UC1.but(backend=BLIND), UC3.but(backend=BLIND)):
        assert objecting(picture, AUTO, THROUGH_CINDER) is Guard.BLIND_NOT_TRUSTED
        assert objecting(picture, TRUSTED, THROUGH_CINDER) is None


@pytest.mark.parametrize("status", ["failing-over", "failed-over", "failover-error"])
@pytest.mark.parametrize("picture", [UC1, UC3, UC5.but(released_unasked=True), ENDED])
def test_a_driver_that_speaks_to_the_replica_is_not_trusted(picture: Picture, status: str) -> None:
    """A failover since the attach, unseen and trusted -> for a person; not before, nor after."""
    old = picture.but(backend=BLIND, opened_at=NOW - timedelta(hours=1))
    assert objecting(old.but(replication=status), TRUSTED, THROUGH_CINDER) is Guard.FAILED_OVER
    for before in (None, "enabled", "disabled", "error"):
        assert objecting(old.but(replication=before), TRUSTED, THROUGH_CINDER) is None


def test_nova_s_own_detach_is_asked_for_after_a_failover_too() -> None:
    """The wish to detach is on record after a failover -> Nova carries it out, as it does else."""
    failed_over = UC4.but(backend=BLIND, replication="failed-over")
    assert objecting(failed_over, TRUSTED, THROUGH_CINDER) is None


def test_blind_and_cinder_would_skip_the_backend_and_no_connector_is_known() -> None:
    """Nobody would release anything -> parked, though the operator trusts the driver."""
    reserved = UC1_RESERVED.but(backend=BLIND, known=())
    assert objecting(reserved, TRUSTED, THROUGH_CINDER) is Guard.NO_CONNECTOR
    in_error = reserved.but(attachments=(attachment(A, "error_attaching"),))
    assert objecting(in_error, TRUSTED, THROUGH_CINDER) is Guard.NO_CONNECTOR
    attaching = UC1.but(backend=BLIND, known=())
    assert objecting(attaching, TRUSTED, THROUGH_CINDER) is None


def test_a_connector_that_lacks_its_protocol_s_key_ends_nothing() -> None:
    """PowerFlex, and no sdc_guid was learned -> parked; with it -> no objection."""
    row = dataclasses.replace(attachment(A, "error_attaching"), protocol="scaleio")
    learned = Connector(H1, initiator=f"iqn.2026-01.test:{H1}")
    picture = UC1_RESERVED.but(backend=BLIND, attachments=(row,), connector=learned)
    assert objecting(picture, TRUSTED, THROUGH_CINDER) is Guard.CONNECTOR_INCOMPLETE
    whole = dataclasses.replace(learned, sdc_guid="4C4C4544")
    assert objecting(picture.but(connector=whole), TRUSTED, THROUGH_CINDER) is None
    leaked = BLIND_UC5.but(connector=Connector(H1), protocol=Fact("iscsi"))
    assert objecting(leaked, TRUSTED, THROUGH_CINDER) is Guard.CONNECTOR_INCOMPLETE
    assert objecting(leaked.but(connector=learned), TRUSTED, THROUGH_CINDER) is None


def test_no_attachment_tells_the_protocol_so_the_pools_have_to() -> None:
    """UC5, whose rows are gone -> by the pools of the backend; not known -> no call, for now."""
    learned = Connector(H1, initiator=f"iqn.2026-01.test:{H1}")
    leaked = BLIND_UC5.but(connector=learned)
    powerflex = leaked.but(protocol=Fact("scaleio"))
    assert objecting(powerflex, TRUSTED, THROUGH_CINDER) is Guard.CONNECTOR_INCOMPLETE
    unknown = leaked.but(protocol=Unknown("Cinder: 403"))
    assert objecting(unknown, TRUSTED, THROUGH_CINDER) is Guard.PROTOCOL_UNKNOWN
    assert "Cinder: 403" in unknown.diagnosis.reason
    assert objecting(leaked.but(protocol=Fact("rbd")), TRUSTED, THROUGH_CINDER) is None


def test_a_driver_of_its_own_needs_no_protocol_of_cinder_s() -> None:
    """A driver that does not act through Cinder -> it has its own way to name a host."""
    leaked = BLIND_UC5.but(protocol=Unknown("Cinder: 403"))
    own = dataclasses.replace(THROUGH_CINDER, acts_through_cinder=False)
    assert objecting(leaked, TRUSTED, own) is not Guard.PROTOCOL_UNKNOWN


def test_cinder_s_own_delete_needs_no_connector_of_ours() -> None:
    """Cinder deletes the row, by the connector that it keeps -> what we lack stands in no way."""
    row = dataclasses.replace(attachment(A, "attaching"), protocol="scaleio")
    picture = UC1.but(backend=BLIND, attachments=(row,), connector=Connector(H1))
    assert objecting(picture, TRUSTED, THROUGH_CINDER) is None


def test_cinder_s_api_cannot_single_out_one_connection_of_several() -> None:
    """A reserved row, or a leak, beside other rows -> for a person; not where a delete ends it."""
    reserved = STRAY.but(
        status="in-use", attachments=(attachment(B), attachment(A, "reserved")), backend=BLIND
    )
    assert objecting(reserved, TRUSTED, THROUGH_CINDER) is Guard.SEVERAL_ATTACHMENTS
    leaked = BESIDE.but(backend=BLIND, released_unasked=True)
    assert leaked.diagnosis.rule == "UC5.leaked-beside-others"
    assert objecting(leaked, TRUSTED, THROUGH_CINDER) is Guard.SEVERAL_ATTACHMENTS
    assert objecting(reserved.but(host=None), TRUSTED, THROUGH_CINDER) is Guard.NO_CONNECTOR
    late = STRAY.but(
        attachments=(attachment(B), attachment(A, "attaching", info=False)), backend=BLIND
    )
    assert objecting(late, TRUSTED, THROUGH_CINDER) is None
    assert objecting(reserved.but(backend=(access(H1, sessions=1), access(H2)))) is None


def test_a_blind_release_waits_until_the_attach_cannot_finish_late() -> None:
    """The attach may still export it unseen -> wait out the horizon since the case was opened."""
    early = OPENED_AT + timedelta(seconds=30)
    found = objection(BLIND_UC5, TRUSTED, THROUGH_CINDER, early)
    assert found == Objection(Guard.LATE_ATTACH_UNSEEN, 300.0)
    assert objection(BLIND_UC5, TRUSTED, THROUGH_CINDER, OPENED_AT + timedelta(seconds=330)) is None
    assert Guard.LATE_ATTACH_UNSEEN not in PARKS


def test_a_blind_release_waits_from_the_last_try_of_the_attach() -> None:
    """A try was heard when the case was old already -> the horizon runs from that one."""
    tried = BLIND_UC5.but(late=LateCalls(attach_tried_at=OPENED_AT + timedelta(seconds=240)))
    at = OPENED_AT + timedelta(seconds=330)
    found = objection(tried, TRUSTED, THROUGH_CINDER, at)
    assert found == Objection(Guard.LATE_ATTACH_UNSEEN, 240.0)
    long_ago = BLIND_UC5.but(late=LateCalls(attach_tried_at=OPENED_AT - timedelta(days=1)))
    early = OPENED_AT + timedelta(seconds=30)
    found = objection(long_ago, TRUSTED, THROUGH_CINDER, early)
    assert found == Objection(Guard.LATE_ATTACH_UNSEEN, 300.0)


def test_a_blind_detach_exports_nothing_late() -> None:
    """A detach, a step that releases nothing, or a backend that can be seen -> no such wait."""
    early = OPENED_AT + timedelta(seconds=30)
    assert objection(UC3.but(backend=BLIND), TRUSTED, THROUGH_CINDER, early) is None
    assert objection(UC2.but(backend=BLIND), TRUSTED, THROUGH_CINDER, early) is None
    assert objection(UC5, AUTO, SEEING, early) is None


def test_a_blind_release_by_cinder_alone_waits_too() -> None:
    """Cinder's delete does all of it -> the same wait."""
    early = OPENED_AT + timedelta(seconds=30)
    found = objection(UC1.but(backend=BLIND), TRUSTED, THROUGH_CINDER, early)
    assert found == Objection(Guard.LATE_ATTACH_UNSEEN, 300.0)


# -- what passes by itself -------------------------------------------------------------------------


@pytest.mark.parametrize("result", [StepResult.INDETERMINATE, StepResult.INTENDED])
@pytest.mark.parametrize("kind", sorted(intents.ACTS_LATE, key=lambda kind: kind.value))
def test_a_call_of_ours_that_may_still_act_keeps_the_volume_from_others(
    kind: StepKind, result: StepResult
) -> None:
    """Our call gave no answer ten seconds ago -> the volume is not freed before the horizon."""
    made = intent(kind, result, intended_at=NOW - timedelta(seconds=10))
    for picture in (UC1, UC3, HELD):
        found = objection(picture.but(intents=(*picture.case.intents, made)))
        assert found == Objection(Guard.OWN_CALL_UNANSWERED, 320.0)
    assert Guard.OWN_CALL_UNANSWERED not in PARKS


def test_a_second_detach_waits_for_the_first_one_that_nova_took() -> None:
    """Nova was asked ten seconds ago -> it is not asked again before it must be through."""
    asked = intent(StepKind.NOVA_DETACH, attempt=1, intended_at=NOW - timedelta(seconds=10))
    again = UC4.but(intents=(*UC4.case.intents, asked), attempts=9)
    assert objection(again) == Objection(Guard.NOVA_AT_IT, 320.0)
    assert objection(again, now=NOW + timedelta(seconds=320)) is None
    assert Guard.NOVA_AT_IT not in PARKS


@pytest.mark.parametrize("result", [StepResult.INDETERMINATE, StepResult.INTENDED])
@pytest.mark.parametrize("picture", [UC4, ROLLED], ids=["detaching", "rolled"])
def test_a_call_of_ours_that_may_still_act_keeps_nova_from_giving_it_away(
    picture: Picture, result: StepResult
) -> None:
    """Nova's detach would make it available -> it is not asked for before the horizon."""
    made = intent(DELETE, result, intended_at=NOW - timedelta(seconds=10))
    found = objection(picture.but(intents=(*picture.case.intents, made)))
    assert found == Objection(Guard.OWN_CALL_UNANSWERED, 320.0)


GIVEN_AWAY = {"UC1": UC1, "UC3": UC3, "HELD": HELD, "UC4": UC4, "ROLLED": ROLLED}


@pytest.mark.parametrize("picture", GIVEN_AWAY.values(), ids=GIVEN_AWAY)
def test_what_may_act_on_the_volume_holds_up_each_case_of_it(picture: Picture) -> None:
    """Another case's call, or anybody's try to detach, ten seconds ago -> it waits."""
    ago, horizon_ago = NOW - timedelta(seconds=10), NOW - timedelta(seconds=330)
    asked, tried = LateCalls(asked_at=ago), LateCalls(detach_tried_at=ago)
    assert objection(picture.but(late=asked)) == Objection(Guard.OWN_CALL_UNANSWERED, 320.0)
    assert objection(picture.but(late=tried)) == Objection(Guard.LATE_DETACH, 320.0)
    over = LateCalls(asked_at=horizon_ago, detach_tried_at=horizon_ago, attach_tried_at=ago)
    assert objection(picture.but(late=over)) is None
    assert Guard.LATE_DETACH not in PARKS


def test_what_may_act_on_the_volume_holds_up_nothing_that_gives_it_to_nobody() -> None:
    """The backend alone is called -> at once."""
    late = LateCalls(asked_at=NOW, detach_tried_at=NOW)
    assert objection(BESIDE.but(late=late)) is None


def test_a_try_to_detach_keeps_what_it_may_end_from_being_called_attached() -> None:
    """Nova cleans up an attach and still names its row -> not completed before that is over.

    Made on a lab: Nova's tries to clean up hung, the attach was completed, then Nova forgot it.
    """
    ago = NOW - timedelta(seconds=10)
    held = objection(UC2.but(late=LateCalls(detach_tried_at=ago)))
    assert held == Objection(Guard.LATE_DETACH, 320.0)
    assert objection(UC2.but(late=LateCalls(asked_at=ago))) is None
    over = LateCalls(detach_tried_at=NOW - timedelta(seconds=330))
    assert objection(UC2.but(late=over)) is None


def test_the_longest_of_two_waits_is_waited_out_in_the_end() -> None:
    """Our own call and a later try -> after the first wait there is the other one."""
    late = LateCalls(NOW - timedelta(seconds=300), NOW - timedelta(seconds=100))
    assert objection(UC1.but(late=late)) == Objection(Guard.OWN_CALL_UNANSWERED, 30.0)
    later = NOW + timedelta(seconds=30)
    found = objection(UC1.but(late=late), now=later)
    assert found == Objection(Guard.LATE_DETACH, 200.0)


@pytest.mark.parametrize(
    "made",
    [
        intent(FORCE, StepResult.DONE, intended_at=NOW),
        intent(FORCE, StepResult.REFUSED, intended_at=NOW),
        intent(FORCE, StepResult.TRANSIENT, intended_at=NOW),
        intent(FORCE, StepResult.WITHHELD, intended_at=NOW),
        intent(FORCE, StepResult.INDETERMINATE, intended_at=NOW - timedelta(seconds=330)),
        intent(StepKind.CINDER_RESERVE, StepResult.INDETERMINATE, intended_at=NOW),
    ],
    ids=lambda made: f"{made.kind.value} {made.result.value}",
)
def test_a_call_that_cannot_act_any_more_holds_nothing_up(made: object) -> None:
    """Answered, withheld, long ago, or one that reaches no backend -> no objection."""
    assert objection(UC1.but(intents=(made,))) is None


def test_the_last_unanswered_call_counts() -> None:
    """Two calls without an answer -> the later one's horizon."""
    long_ago = intent(FORCE, StepResult.INDETERMINATE, intended_at=NOW - timedelta(seconds=300))
    just_now = intent(FORCE, StepResult.INTENDED, intended_at=NOW - timedelta(seconds=5))
    found = objection(UC1.but(intents=(just_now, long_ago)))
    assert found == Objection(Guard.OWN_CALL_UNANSWERED, 325.0)


def test_a_release_that_frees_nothing_in_cinder_may_be_repeated_at_once() -> None:
    """Beside others only the backend is called -> an unanswered call holds nothing up."""
    made = intent(FORCE, StepResult.INDETERMINATE, intended_at=NOW)
    assert objection(BESIDE.but(intents=(made,))) is None


def test_cinder_volume_is_down_and_what_needs_it_waits() -> None:
    """No heartbeat -> wait; where only the backend is called it does not matter."""
    assert objecting(UC1.but(service_up=False)) is Guard.SERVICE_DOWN
    assert objecting(UC2.but(service_up=False)) is Guard.SERVICE_DOWN
    assert objecting(BESIDE.but(service_up=False)) is None
    assert Guard.SERVICE_DOWN not in PARKS


def test_what_was_mended_and_comes_back_for_days_goes_to_a_person() -> None:
    """Mended before, older than the patience -> parked; younger, or never mended -> not."""
    old = OPENED_AT + timedelta(days=2)
    assert objecting(UC5.but(mended_attempt=3), AUTO, SEEING, old) is Guard.COMES_BACK
    assert objecting(UC5.but(mended_attempt=3)) is None
    assert objecting(UC5, AUTO, SEEING, old) is None


def test_a_case_s_own_connector_is_enough() -> None:
    """No host's connector was learned, a message of the attachment carried one -> go."""
    assert objection(UC1.but(known=(), connector=connector(H1))) is None
    assert objection(UC3.but(servers=(server(X),), operation=Operation.DETACH)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"never_built": ()},
        {"never_built": (Y,)},
        {"starts": 1},
        {"attachments": (attachment(A, "attaching", info=False),)},
        {"attachments": (attachment(A, "reserved", info=True),)},
        {"attachments": (attachment(A, "reserved", host=H3),), "known": ()},
        {"host": H3, "known": ()},
    ],
    ids=[
        "Nova does not say that it never came to a compute", "it says so of another server",
        "an attach began", "the row is attaching", "the row has connection info",
        "the row names a host", "a message names a host",
    ],
)  # fmt: skip
def test_no_host_was_ever_let_in(change: dict[str, Any]) -> None:
    """Blind, trusted, the server never came to a compute -> Cinder's delete alone; else a person.

    One thing otherwise: a host may have been let in that nobody can name.
    """
    late = NOW + timedelta(hours=1)
    assert objecting(DELETED_IN_BUILDING, TRUSTED, THROUGH_CINDER, late) is None
    assert objecting(DELETED_IN_BUILDING, AUTO, THROUGH_CINDER) is Guard.BLIND_NOT_TRUSTED
    steps = make_plan(DELETED_IN_BUILDING.diagnosis, THROUGH_CINDER)
    assert [step.kind for step in steps] == [DELETE]
    other = DELETED_IN_BUILDING.but(**change)
    held_back = other.diagnosis.rule == "P5.server-deleted" or (
        objecting(other, TRUSTED, THROUGH_CINDER, late) is Guard.NO_CONNECTOR
    )
    assert held_back
