"""A person's word that hosts are powered off, over arbitrary evidence: what it never does."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from handlers.judgement import off
from handlers.judgement.accounting import Kind, host_of, hosts_let_go, may_hold, seen
from handlers.judgement.evidence import Absent, Fact
from handlers.judgement.rule import ACTING, RELEASING, Verdict
from tests.properties.evidences import hosts, pictures
from tests.unit.handlers.judgement.pictures import Picture

SURE = (Verdict.HEALTHY, Verdict.CLEAN, Verdict.GONE)


@st.composite
def dead(draw: st.DrawFn) -> Picture:
    """Draw a picture in which computes may be down and sessions gone, and words for hosts."""
    picture = draw(pictures())
    up = draw(st.sampled_from([None, False, False, True]))
    if up is not True:
        servers = tuple(dataclasses.replace(s, compute_up=up) for s in picture.servers)
        picture = picture.but(servers=servers)
    said = draw(st.lists(hosts, unique=True, min_size=1, max_size=3))
    return picture.but(off=tuple(said))


@given(dead())
def test_it_makes_nothing_sure_and_nothing_but_a_release(picture: Picture) -> None:
    """With the word another verdict -> nothing completed, asked of Nova or called over."""
    without, with_it = picture.but(off=()).diagnosis, picture.diagnosis
    if with_it.verdict is without.verdict:
        return
    assert with_it.verdict not in SURE
    assert with_it.verdict not in ACTING - RELEASING


@given(dead())
def test_a_release_on_the_word_is_of_the_named_hosts_alone(picture: Picture) -> None:
    """With the word a release -> all that ends is the named hosts', seen, and without a session."""
    without, with_it = picture.but(off=()).diagnosis, picture.diagnosis
    if with_it.verdict not in RELEASING or without.verdict in RELEASING:
        return
    s = picture.situation
    named = set(picture.off)
    assert isinstance(s.backend, Fact | Absent)
    assert not s.nameless
    assert s.devices == ()
    assert {*hosts_let_go(s), s.attached_host} - {None} <= named
    assert not any(c.sessions for c in seen(s) if host_of(s, c) in named)
    for party in may_hold(s):
        assert party.kind is Kind.ACCESS
        assert any(party.words.endswith(host) for host in named)
    up = {a.value.host for a in s.servers.values() if isinstance(a, Fact) and a.value.compute_up}
    assert not up & named & set(hosts_let_go(s))


@given(dead())
def test_it_counts_only_where_it_is_said_and_nothing_speaks_against_it(picture: Picture) -> None:
    """Whatever is seen -> it counts for named hosts without a session and without a compute up."""
    s = picture.situation
    counted, against = off.counts(s), dict(off.contradicted(s))
    assert counted <= set(picture.off)
    assert not counted & set(against)
    if s.blind or s.nameless:
        assert not counted


@given(dead(), hosts)
def test_a_word_for_a_host_that_has_nothing_of_it_changes_nothing(
    picture: Picture, stranger: str
) -> None:
    """A word for one host more, which the volume does not concern -> the same verdict."""
    s = picture.situation
    concerned = {s.host, s.attached_host, *hosts_let_go(s)}
    concerned |= {a.value.host for a in s.servers.values() if isinstance(a, Fact)}
    concerned |= {row.host for row in s.volume.attachments} | {host_of(s, c) for c in seen(s)}
    if stranger in concerned or stranger in picture.off:
        return
    more = picture.but(off=(*picture.off, stranger))
    assert more.diagnosis.rule == picture.diagnosis.rule
