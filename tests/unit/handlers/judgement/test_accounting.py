"""The accounting of a volume: each party is explained by a record, or named as unexplained."""

from __future__ import annotations

import pytest

from drivers.base import Connection, Connector
from handlers.judgement import accounting
from handlers.judgement.accounting import (
    Kind,
    host_of,
    hosts_let_go,
    let_go_unproven,
    may_hold,
    unexplained,
    unexplained_hosts,
)
from handlers.judgement.approval import fingerprint
from handlers.judgement.diagnosis import hosts_to_ask_of
from handlers.judgement.evidence import Holding, Unknown
from handlers.judgement.guards import Guard, Means, guard
from handlers.judgement.plan import Condition, make_plan, unmet
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.judgement.rule import RELEASING, Verdict
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    ENDED,
    GHOST,
    LEFT,
    MIGRATING,
    ONE_DELETED,
    ONE_LET_GO,
    SHELVED,
    STRAY,
    UC1,
    UC1_RESERVED,
    UC3,
    UC5,
)
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    H3,
    NOW,
    SEEING,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    connector,
    holding,
    server,
)
from tests.unit.handlers.judgement.writer_pictures import OFFLOADED, SHARED

OLD_WAY = ATTACHED.but(servers=(server(X, None),))
PORTALS = Connector(host=H1, initiator=connector(H1).initiator, wwpns=("w1", "w2"))
IN_SESSION = access(H1, sessions=1)
PORTS = ("500507680b21ac5a", "50:05:07:68:0b:21:ac:5b")

EXPLAINED: tuple[tuple[str, Picture], ...] = (
    ("attached and named", ATTACHED),
    ("attached the old way", OLD_WAY),
    ("two servers of a multiattach volume", SHARED),
    ("the same, and no connector was learned", SHARED.but(known=())),
    ("the same, and the driver cannot tell hosts", SHARED.but(hosts_known=False)),
    ("a live migration is under way", MIGRATING),
    ("a shelved server's reservation", SHELVED),
    (
        "a shelved server's reservation beside another server",
        SHARED.but(
            attachments=(attachment(A, host=H1), attachment(B, "reserved", Y)),
            servers=(server(X, A), server(Y, B, **OFFLOADED)),
            backend=(IN_SESSION,),
        ),
    ),
    (
        "all initiator names of one host",
        ATTACHED.but(connector=PORTALS, backend=(Connection("w1"), Connection("w2", sessions=1))),
    ),
    ("one host whose connector was never learned", ATTACHED.but(known=())),
    (
        "the Fibre Channel ports of one host whose connector was never learned",
        ATTACHED.but(known=(), backend=tuple(Connection(port) for port in PORTS)),
    ),
    (
        "the old way, and the server was migrated: its row stays on the host before",
        OLD_WAY.but(
            attachments=(attachment(A, host=H1),),
            servers=(server(X, None, host=H2),),
            backend=(access(H2, sessions=1),),
        ),
    ),
    (
        "an attach of the second server is under way, its row is still reserved",
        SHARED.but(attachments=(attachment(A, host=H1), attachment(B, "reserved", Y))),
    ),
    (
        "a client that is no server has a row",
        ATTACHED.but(
            attachments=(attachment(A), attachment(B, instance_id=None, host=H2)),
            backend=(IN_SESSION, access(H2)),
        ),
    ),
    ("Nova does not answer for the row's server", ATTACHED.but(servers=(), unseen=(X,))),
    ("this Nova never had the row's server", ATTACHED.but(servers=(), stranger=(X,))),
    ("the backend cannot be seen", ATTACHED.but(backend=BLIND)),
    ("the backend was not seen", ATTACHED.but(backend=UNSEEN)),
    ("nothing is left", Picture()),
)

UNEXPLAINED: tuple[tuple[str, Picture, tuple[tuple[Kind, str], ...]], ...] = (
    ("access of a host beside a good attachment",
     ATTACHED.but(backend=(IN_SESSION, access(H2))), ((Kind.ACCESS, H2),)),
    ("a session beside a good attachment",
     ATTACHED.but(backend=(IN_SESSION, access(H2, sessions=1))), ((Kind.SESSION, H2),)),
    ("a stranger's access", ATTACHED.but(backend=(IN_SESSION, access("x"))),
     ((Kind.ACCESS, connector("x").initiator or ""),)),
    ("a session without access",
     ATTACHED.but(backend=(IN_SESSION, Connection("x", access=False, sessions=1))),
     ((Kind.SESSION, "x"),)),
    ("more hosts than rows, and no connector was learned: the session is one too many",
     ATTACHED.but(known=(), backend=(access(H1), access(H2), access(H3, sessions=1))),
     ((Kind.SESSION, connector(H3).initiator or ""), (Kind.ACCESS, connector(H1).initiator or ""))),
    ("more connections than rows, and the driver cannot tell hosts",
     ATTACHED.but(hosts_known=False, backend=(access(H1), access(H2))), ((Kind.ACCESS, H1),)),
    ("a stranger's session beside two servers of one host that the backend names",
     SHARED.but(
         known=(), attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H1)),
         servers=(server(X, A), server(Y, B)),
         backend=(Connection("h1", host=H1, sessions=1), access(H2, sessions=1)),
     ), ((Kind.SESSION, connector(H2).initiator or ""),)),
    ("a stranger's session beside the ports of one host, for which the only row stands",
     ATTACHED.but(
         known=(), backend=(*(Connection(port) for port in PORTS), access(H2, sessions=1)),
     ), ((Kind.SESSION, connector(H2).initiator or ""),)),
    ("left-over access of a learned host beside one that the backend alone names",
     BESIDE.but(
         known=(H1,), attachments=(attachment(B, instance_id=Y, host=H2),),
         backend=(Connection("h2", host=H2, sessions=1), access(H1)),
     ), ((Kind.ACCESS, H1),)),
    ("a shelved server's host is let in",
     SHELVED.but(backend=(access(H1),)), ((Kind.ACCESS, H1),)),
    ("left by an attach whose row is gone", UC5, ((Kind.ACCESS, H1),)),
    ("left by a second server's", BESIDE, ((Kind.ACCESS, H1),)),
    ("an attach that never finished", UC1, ((Kind.ATTACHMENT, A),)),
    ("a row of a live migration's source", LEFT, ((Kind.ATTACHMENT, A),)),
    ("a row of a deleted server beside a good one",
     SHARED.but(servers=(server(X, A),), gone=(Y,)), ((Kind.ATTACHMENT, B),)),
    ("a block device of a row that is gone",
     ATTACHED.but(servers=(server(X, A, "dead"),)), ((Kind.BLOCK_DEVICE, X),)),
    ("a block device that names none, beside one that names the only row",
     ATTACHED.but(servers=(server(X, A, None),)), ((Kind.BLOCK_DEVICE, X),)),
    ("the same of another server",
     SHARED.but(servers=(server(X, A), server(Y, B, "dead", host=H2))),
     ((Kind.BLOCK_DEVICE, Y),)),
    ("a server on the host that is let in, without a row",
     GHOST.but(holding=holding(X)), ((Kind.ACCESS, H1), (Kind.GUEST, X))),
    ("the same on a host beside a good attachment",
     ATTACHED.but(backend=(IN_SESSION, access(H2)), elsewhere=(holding(Y, host=H2),)),
     ((Kind.ACCESS, H2), (Kind.GUEST, Y))),
)  # fmt: skip


@pytest.mark.parametrize("picture", [p for _, p in EXPLAINED], ids=[w for w, _ in EXPLAINED])
def test_what_a_record_explains_is_no_finding(picture: Picture) -> None:
    """Every party has its record, or may have one that cannot be told -> nothing is unexplained."""
    assert unexplained(picture.situation) == ()


@pytest.mark.parametrize(
    ("picture", "parties"), [u[1:] for u in UNEXPLAINED], ids=[u[0] for u in UNEXPLAINED]
)
def test_what_no_record_explains_is_named(
    picture: Picture, parties: tuple[tuple[Kind, str], ...]
) -> None:
    """A party without a record -> it is found, what it is and whose, and nothing is well."""
    found = unexplained(picture.situation)
    assert [party.kind for party in found] == [kind for kind, _ in parties]
    assert all(name in party.words for party, (_, name) in zip(found, parties, strict=True))
    assert picture.diagnosis.verdict not in (Verdict.HEALTHY, Verdict.CLEAN)


def test_a_row_alone_holds_nothing() -> None:
    """A row is a record -> unexplained, but it is nobody who may be writing."""
    assert unexplained(LEFT.situation)
    assert may_hold(LEFT.situation) == ()


def test_nova_is_asked_only_of_hosts_that_have_a_name() -> None:
    """A learned host and a stranger's initiator -> the host alone can be asked for."""
    s = ATTACHED.but(backend=(IN_SESSION, access(H2), access("x"))).situation
    assert unexplained_hosts(s) == (H2,)
    assert host_of(s, Connection("x", host=H3)) == H3
    assert unexplained_hosts(ATTACHED.but(backend=(IN_SESSION, Connection("x", host=H3))).situation)


def test_the_reason_names_every_party_that_nothing_explains() -> None:
    """A second access and a server there -> both in the reason, for a person."""
    picture = ATTACHED.but(backend=(IN_SESSION, access(H2)), elsewhere=(holding(Y, host=H2),))
    assert f"access of {H2}" in picture.diagnosis.reason
    assert f"server {Y} on {H2}" in picture.diagnosis.reason
    left = LEFT.but(attachment_id=B, host=H2).diagnosis.reason
    assert f"attachment {A} of server {X}" in left


@pytest.mark.parametrize(
    ("asked", "verdict", "rule"),
    [
        (Holding(H1, None, Unknown("Nova: 503")), Verdict.UNKNOWN, "X2.nova-unknown"),
        (holding(up=False), Verdict.IN_FLIGHT, "B4.compute-down"),
        (holding(), Verdict.TERMINATE, "UC5.leaked"),
        (holding(Y), Verdict.PARK, "P20.another-user"),
    ],
)
def test_what_nova_says_of_the_host_decides(asked: Holding, verdict: Verdict, rule: str) -> None:
    """Access of a host that no row explains -> ended only where Nova proves that nobody uses it."""
    diagnosis = UC5.but(elsewhere=(asked,)).diagnosis
    assert (diagnosis.verdict, diagnosis.rule) == (verdict, rule)
    assert ("503" in diagnosis.reason) == (verdict is Verdict.UNKNOWN)


def test_what_nova_says_of_another_host_holds_nothing_up() -> None:
    """A stranger's host is down -> that is no reason to wait for the attachment's own."""
    asked = Holding(H2, False, None)
    assert UC5.but(elsewhere=(asked,)).diagnosis.rule == "UC5.leaked"


def test_no_two_ways_of_explaining() -> None:
    """The writers' count and the accounting -> the same connections of the same volume."""
    s = SHARED.but(backend=(*SHARED.backend, access(H3, sessions=1))).situation
    (left,) = accounting.unexplained_connections(s, s.volume.attachments, accounting.seen(s))
    assert host_of(s, left) == H3


Z = "instance-z"
RELEASED: tuple[tuple[str, Picture], ...] = (
    ("UC1", UC1),
    ("UC1, its row still reserved", UC1_RESERVED),
    ("UC1, unseen", UC1.but(backend=BLIND)),
    ("UC3", UC3.but(backend=(access(H1),))),
    ("UC3, unseen", UC3.but(backend=BLIND)),
    ("UC5", UC5),
    ("UC5, unseen", UC5.but(backend=BLIND, released_unasked=True)),
    ("UC5, beside others", BESIDE),
    ("S1", STRAY),
    ("S2", LEFT),
    ("S3", ENDED.but(backend=(access(H1),))),
    ("S4", ONE_DELETED),
    ("S5", ONE_LET_GO),
)


@pytest.mark.parametrize("picture", [p for _, p in RELEASED], ids=[w for w, _ in RELEASED])
def test_nobody_s_access_is_ended_that_another_server_may_be_using(picture: Picture) -> None:
    """A server without a row on the host that would lose its access -> a person is asked.

    With nobody else there, the verdict stays; without Nova's answer it is never carried out.
    """
    (host,) = hosts_let_go(picture.situation)
    alone = picture.diagnosis
    assert alone.verdict in RELEASING
    told = picture.but(elsewhere=(holding(Z, host=host),)).diagnosis
    assert (told.rule, told.verdict) == ("P20.another-user", Verdict.PARK)
    assert f"server {Z} on {host}" in told.reason
    steps = make_plan(alone, SEEING)
    trusted = BackendPolicy(mode=Mode.AUTO, trust_blind=True)
    for changes, rule in (
        ({"asked": False}, alone.rule),
        ({"elsewhere": (holding(host=host, up=None),)}, alone.rule),
        ({"elsewhere": (holding(host=host, up=False),)}, "B4.compute-down"),
        ({"elsewhere": (Holding(host, True, Unknown("Nova: 503")),)}, "X2.nova-unknown"),
    ):
        less = picture.but(**changes)
        assert less.diagnosis.rule == rule
        if rule == alone.rule:
            means = Means(SEEING, trusted, NOW, fingerprint(alone, steps))
            objection = guard(less.situation, steps, means)
            assert objection is not None
            assert objection.guard is Guard.HOST_NOT_LISTED
            ending = next(step for step in steps if Condition.UNUSED in step.conditions)
            assert "lists who uses" in (unmet(ending, alone, less.diagnosis) or "")


def test_a_clean_backend_has_nobody_who_could_lose_access() -> None:
    """Nobody is let in -> Nova is not asked, and the record alone is released."""
    picture = UC3.but(asked=False)
    assert hosts_to_ask_of(picture.diagnosis) == ()
    assert (picture.diagnosis.verdict, let_go_unproven(picture.situation)) == (Verdict.RELEASE, ())


def test_the_host_that_would_lose_its_access_is_asked_of_first() -> None:
    """More hosts are let in than Nova is asked of -> the one that is to be released is among them.

    It is so too where an attachment whose connector was never seen could be that of its host.
    """
    crowd = LEFT.but(backend=(access(H2, sessions=1), access("x"), access(H3), access(H1)))
    assert hosts_to_ask_of(crowd.diagnosis)[0] == H1
    assert hosts_to_ask_of(ONE_LET_GO.but(known=(H1,)).diagnosis) == (H1,)


def test_a_server_that_was_evacuated_off_the_host_may_be_running_there_still() -> None:
    """Nova lists the case's own server on the host that it has left -> its old guest may be there.

    On the host that it is on by Nova's record its block devices tell, not the list.
    """
    for picture in (LEFT, UC5.but(servers=(server(X, host=H2),))):
        told = picture.but(elsewhere=(holding(X),)).diagnosis
        assert (told.rule, told.verdict) == ("P20.another-user", Verdict.PARK)
    assert UC1.but(elsewhere=(holding(X),)).diagnosis.rule == "UC1.unfinished"
    deleted = ENDED.but(elsewhere=(holding(X),)).diagnosis
    assert deleted.rule == "P20.another-user"


AT_REST = {"vm_state": "error", "host": None, "compute_up": None}
STRANGERS: tuple[tuple[str, Picture], ...] = (
    (
        "a second attachment of the same server, which is at rest on its own host",
        ATTACHED.but(
            attachments=(attachment(A), attachment(B, "attaching")),
            backend=(IN_SESSION, access(H2)),
        ),
    ),
    (
        "the reservation of a server at rest on no host",
        SHARED.but(
            attachments=(attachment(A, host=H1), attachment(B, "reserved", Y)),
            servers=(server(X, A), server(Y, B, **AT_REST)),
            backend=(IN_SESSION, access(H2)),
        ),
    ),
    (
        "the reservation of a deleted server",
        SHARED.but(
            attachments=(attachment(A, host=H1), attachment(B, "reserved", Y)),
            servers=(server(X, A),), gone=(Y,), backend=(IN_SESSION, access(H2)),
        ),
    ),
    (
        "two servers of one host, and the driver cannot tell hosts",
        SHARED.but(
            hosts_known=False, backend=(access(H1), access(H2)),
            attachments=(attachment(A, host=H1), attachment(B, instance_id=Y, host=H1)),
            servers=(server(X, A), server(Y, B)),
        ),
    ),
    (
        "an attachment whose connector was never seen, on another host than the backend names",
        ATTACHED.but(known=(), backend=(Connection("c-1", host="compute-12"),)),
    ),
    (
        "the same by the full name",
        ATTACHED.but(known=(), backend=(Connection("c-1", host="Compute-12.Example.org"),)),
    ),
)  # fmt: skip


@pytest.mark.parametrize("picture", [p for _, p in STRANGERS], ids=[w for w, _ in STRANGERS])
def test_an_attachment_without_a_host_excuses_no_stranger(picture: Picture) -> None:
    """An idle access too many beside an attachment that has no host -> it is found."""
    found = [party for party in unexplained(picture.situation) if party.kind is Kind.ACCESS]
    assert len(found) == 1
    assert picture.diagnosis.verdict not in (Verdict.HEALTHY, Verdict.CLEAN)


@pytest.mark.parametrize(
    "told",
    ["compute-1", "COMPUTE-1", "compute-1.example.org", "Host_compute-1", "iqn.1993-08.org:01:ab",
     "192.0.2.7", "500507680b21ac5a", "2001:db8::7", None],
)  # fmt: skip
def test_the_backend_may_name_a_host_in_its_own_way(told: str | None) -> None:
    """The only attachment's host by another scheme -> the connection may be its own."""
    picture = ATTACHED.but(known=(), backend=(Connection("c-1", host=told, sessions=1),))
    assert unexplained(picture.situation) == ()
    assert picture.diagnosis.verdict is Verdict.HEALTHY
