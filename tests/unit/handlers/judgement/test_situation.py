"""What the evidence comes to for one attachment: whose rows, whose connections, whose host."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.base import Connection, Connector
from handlers.judgement.situation import Situation, situate
from handlers.notification import Operation
from tests.unit.handlers.judgement.acting_pictures import ENDED, LEFT
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    connector,
    server,
)


def seen(picture: Picture) -> Situation:
    """Return the situation of a picture, without asking the table."""
    return situate(picture.case, picture.volume, picture.evidence, picture.late_attach)


# -- the subject -----------------------------------------------------------------------------------


def test_the_case_names_its_attachment_and_no_other_is_taken() -> None:
    """The named row is gone, another is there -> no row, not ambiguous."""
    s = seen(Picture(attachments=(attachment(B),)))
    assert (s.attachment, s.ambiguous) == (None, False)
    assert s.others == (attachment(B),)


def test_without_a_name_the_only_attachment_of_the_instance_is_the_subject() -> None:
    """No attachment is known, the instance has one row -> that one."""
    s = seen(Picture(attachment_id=None, attachments=(attachment(A), attachment(B, instance_id=Y))))
    assert s.attachment == attachment(A)
    assert s.others == (attachment(B, instance_id=Y),)


def test_without_a_name_an_attach_is_about_the_attachment_that_is_not_attached() -> None:
    """An attached and an unfinished row of the instance, an attach -> the unfinished one."""
    picture = Picture(attachment_id=None, attachments=(attachment(B), attachment(A, "attaching")))
    assert seen(picture).attachment == attachment(A, "attaching")
    assert seen(picture.but(operation=Operation.DETACH)).ambiguous


def test_without_a_name_a_detach_is_about_the_attachment_that_its_server_has_left() -> None:
    """Two attached rows, Nova names one and its server is not on the other's host -> the other."""
    left = LEFT.but(attachment_id=None, host=None)
    assert (seen(left).attachment, seen(left).ambiguous) == (attachment(A, host=H1), False)
    assert seen(left.but(operation=Operation.ATTACH)).ambiguous
    assert seen(left.but(status="detaching")).ambiguous


def test_without_a_name_a_detach_is_about_the_attachment_that_is_more_than_reserved() -> None:
    """A shelving that broke off: the attached row, and one reserved for later -> the attached."""
    attachments = (attachment(B, "reserved"), attachment(A))
    broken_off = Picture(attachment_id=None, attachments=attachments, operation=Operation.DETACH)
    assert seen(broken_off).attachment == attachment(A)
    assert seen(broken_off.but(attachments=(attachment(B, "attaching"), attachment(A)))).ambiguous
    assert seen(broken_off.but(attachments=attachments[:1])).attachment == attachment(B, "reserved")


def test_a_attachment_s_own_instance_counts_even_where_it_has_none() -> None:
    """The named row is no server's, the case says one -> no instance, so nobody vouches for it."""
    assert seen(Picture(attachments=(attachment(A, instance_id=None),))).instance_id is None
    assert seen(Picture(attachments=(attachment(A, instance_id=Y),))).instance_id == Y
    assert seen(Picture()).instance_id == X


# -- the connector ---------------------------------------------------------------------------------


def test_the_recorded_identity_counts_in_order_of_nearness() -> None:
    """The attachment's own connector, then its host's, then its server's host's, then none."""
    picture = Picture(servers=(server(host="compute-3"),), host=H2)
    assert seen(picture.but(connector=connector(H1))).connector == connector(H1)
    assert seen(picture).connector == connector(H2)
    assert seen(picture.but(host=None)).connector == connector("compute-3")
    assert seen(picture.but(host=None, servers=(), gone=(X,))).connector is None
    told = picture.but(attachments=(attachment(A, host=H1),))
    assert seen(told).connector == connector(H1)
    assert seen(told.but(known=(H2,))).connector is None
    assert seen(told.but(connector=connector("compute-3"))).connector == connector("compute-3")


def test_of_two_attachments_of_one_server_none_is_taken_to_be_where_it_is() -> None:
    """A live migration's two rows, no host on record -> nobody's connector is put in its place."""
    two = Picture(attachments=(attachment(A, "reserved"), attachment(B)), host=None)
    assert seen(two).connector is None
    assert (
        seen(
            two.but(attachments=(attachment(A, "reserved"), attachment(B, instance_id=Y)))
        ).connector
        is not None
    )


def test_a_known_host_whose_connector_was_never_seen_is_not_replaced_by_another() -> None:
    """The attachment was on H1, only H2 is known -> none, though the server is on H2 now."""
    s = seen(Picture(host=H1, known=(H2,), servers=(server(host=H2),)))
    assert s.connector is None


# -- connections -----------------------------------------------------------------------------------

TWO = Picture(
    status="in-use",
    multiattach=True,
    attachments=(attachment(A), attachment(B, instance_id=Y)),
    servers=(server(X, A), server(Y, B, host=H2)),
    backend=(access(H1), access(H2), access("stranger")),
)


def test_connections_are_own_explained_or_foreign() -> None:
    """Three hosts let in -> the subject's is own, the other row's explained, the third foreign."""
    s = seen(TWO)
    assert s.own == (access(H1),)
    assert s.foreign == (access("stranger"),)


def test_a_host_without_a_known_connector_is_told_by_its_name() -> None:
    """The backend names hosts -> the other row's host explains its connection all the same."""
    by_name = Connection(name="iqn.unheard-of", host=H2)
    s = seen(TWO.but(known=(H1,), backend=(access(H1), by_name)))
    assert (s.own, s.foreign) == ((access(H1),), ())


def test_a_host_without_connector_or_name_explains_nothing() -> None:
    """Neither is known -> its connection is foreign, so that nothing is taken for clean."""
    s = seen(TWO.but(known=(H1,), backend=(access(H1), access(H2))))
    assert s.foreign == (access(H2),)
    assert not s.clean


def test_live_sessions_are_those_of_the_subject_s_host() -> None:
    """The other server's host is logged in -> the subject's is not."""
    assert not seen(TWO.but(backend=(access(H1), access(H2, sessions=1)))).live_sessions
    assert seen(TWO.but(backend=(access(H1, sessions=1),))).live_sessions


@pytest.mark.parametrize(
    ("picture", "clean"),
    [
        (Picture(), True),
        (Picture(backend=(access(H1),)), False),
        (Picture(backend=(access("stranger"),)), False),
        (Picture(backend=UNSEEN), False),
        (Picture(backend=BLIND), False),
        (TWO.but(backend=(access(H2),)), True),
        (TWO.but(backend=(access(H1), access(H2))), False),
        (TWO.but(backend=(access(H2), access("stranger"))), False),
    ],
    ids=[
        "nobody is let in", "the host is", "a stranger is", "unknown", "blind",
        "only the other row's host", "the host beside the other's", "a stranger beside the other's",
    ],
)  # fmt: skip
def test_clean_is_what_the_probe_proved(picture: Picture, clean: bool) -> None:
    """Who is let in -> clean only where everybody is accounted for by another row."""
    assert seen(picture).clean is clean


# -- the shared host -------------------------------------------------------------------------------


def shared(picture: Picture) -> bool:
    """Tell whether the subject's host is held to be shared."""
    return seen(picture).shared_host


def test_a_host_is_shared_by_name_or_by_what_the_backend_knows_it_by() -> None:
    """The other server on the same host, or on one with the same initiator -> shared."""
    assert not shared(TWO)
    assert shared(TWO.but(servers=(server(X, A), server(Y, B, host=H1))))
    assert shared(TWO.but(servers=(server(X, A), server(Y, B, host=H1)), known=()).but(
        connector=connector(H1)
    ))  # fmt: skip
    renamed = dataclasses.replace(connector(H2), host=H1)
    assert shared(TWO.but(connector=renamed))


def test_a_server_that_nobody_can_place_may_be_on_the_same_host() -> None:
    """The other row's server is gone, unseen or nobody's -> shared, to be safe."""
    assert shared(TWO.but(servers=(server(X, A),), gone=(Y,)))
    assert shared(TWO.but(servers=(server(X, A),), unseen=(Y,)))
    assert shared(TWO.but(attachments=(attachment(A), attachment(B, instance_id=None))))


def test_a_host_known_by_name_only_shares_nothing_with_another_name() -> None:
    """H2's connector was never seen, ours says H1 -> not shared; ours says no host -> shared."""
    assert not shared(TWO.but(known=(H1,)))
    nameless = Connector(initiator="iqn.2026-01.test:somewhere")
    assert shared(TWO.but(known=(), connector=nameless))


def test_a_server_that_is_on_no_host_shares_none() -> None:
    """The other row is a shelved server's -> not shared."""
    assert not shared(TWO.but(servers=(server(X, A), server(Y, B, host=None))))


# -- the server ------------------------------------------------------------------------------------


def test_block_devices_are_named_or_not() -> None:
    """One device names the row, one a dead row, one nothing -> named, and two unnamed."""
    s = seen(Picture(attachments=(attachment(A),), servers=(server(X, A, "dead", None),)))
    assert s.named_by_device
    assert [d.attachment_id for d in s.devices_without_attachment] == ["dead", None]


def test_a_server_that_nova_does_not_have_is_gone_and_one_unseen_is_neither() -> None:
    """Absent -> gone; unknown -> neither there nor gone."""
    gone, unseen = seen(Picture(servers=(), gone=(X,))), seen(Picture(servers=(), unseen=(X,)))
    assert (gone.server, gone.server_gone) == (None, True)
    assert (unseen.server, unseen.server_gone) == (None, False)
    assert gone.devices == ()


def test_the_subject_s_host_is_compared_with_where_its_server_is() -> None:
    """Recorded on H1, the server on H2 -> not on its server's host."""
    assert seen(Picture()).on_host_of_its_server
    assert not seen(Picture(servers=(server(host=H2),))).on_host_of_its_server
    assert not seen(Picture(known=())).on_host_of_its_server


def test_a_guest_that_ended_says_nothing_of_a_session_that_no_attachment_kept_others_from() -> None:
    """The deleted server's row is gone -> a session of its host may be another guest's by now."""
    assert ENDED.situation.guest_ended
    bare = ENDED.but(status="available", attachments=(), host=H1, attachment_id=A)
    assert not bare.situation.guest_ended
    assert bare.situation.guest_may_write or bare.situation.foreign
