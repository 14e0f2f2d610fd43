"""The accounting of a volume: each party is explained by a record, or named as unexplained."""

from __future__ import annotations

import pytest

from drivers.base import Connection, Connector
from handlers.judgement import accounting
from handlers.judgement.accounting import Kind, host_of, may_hold, unexplained, unexplained_hosts
from handlers.judgement.evidence import Holding, Unknown
from handlers.judgement.rule import Verdict
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    GHOST,
    LEFT,
    MIGRATING,
    SHELVED,
    UC1,
    UC5,
)
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    H3,
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
