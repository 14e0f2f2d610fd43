"""A person's word that a host is powered off: where it counts, and what contradicts it. Pure.

Nova says of a compute whether its service is heard of, and no more: a host that is only cut off
looks the same as one without power, while its guests run on and write. That it has no power, only a
person can know. The word is evidence of its own, and the weakest:

1. It counts only where the backend was seen, its driver can tell hosts, and the host has no session
   on the volume. A host that writes has one; so whatever else is seen wins over the word.
2. It counts for no host of which Nova says that its compute is up. Where one word is contradicted
   on a volume, none counts there: what was said in one breath is doubted together.
3. It is about that host alone. It explains no other party, and it makes no other host's silence
   harmless.
4. It is never a reason to ask Nova for a detach or to complete an attach: a compute without power
   carries out nothing, and a request would wait for it until it is back.
"""

from __future__ import annotations

from collections.abc import Iterator

from handlers.judgement import accounting
from handlers.judgement.evidence import Absent, Fact
from handlers.judgement.situation import Situation


def counts(s: Situation) -> frozenset[str]:
    """Return the hosts that are powered off by a person's word, where the word counts here."""
    if not s.off or s.nameless or not isinstance(s.backend, Fact | Absent):
        return frozenset()
    # A session of an initiator that nobody knows may be that of the host that is said to be off.
    if any(contradicted(s)) or not _sessions_are_told_apart(s):
        return frozenset()
    return frozenset(word.host for word in s.off)


def contradicted(s: Situation) -> Iterator[tuple[str, str]]:
    """Yield the hosts with a word that shows signs of life, each with what shows it."""
    up, in_session = _computes_up(s), _hosts_in_session(s)
    for word in s.off:
        if word.host in up:
            yield word.host, "its nova-compute is up"
        elif word.host in in_session:
            yield word.host, f"the backend has a live session of it on volume {s.case.volume_id}"


def in_session(s: Situation) -> frozenset[str]:
    """Return the hosts with a word that have a live session on the volume."""
    return frozenset(word.host for word in s.off) & _hosts_in_session(s)


def computes_up(s: Situation) -> frozenset[str]:
    """Return the hosts with a word of which Nova says that the compute is up."""
    return frozenset(word.host for word in s.off) & _computes_up(s)


def not_up(s: Situation) -> frozenset[str]:
    """Return the hosts in question whose compute is not known to be up."""
    server = s.server
    own = server.host if server is not None and server.compute_up is not True else None
    asked = (a.host for a in accounting.asked_of_hosts_let_go(s) if a.compute_up is False)
    return frozenset(host for host in (own, *asked) if host is not None)


def only_of(s: Situation, hosts: frozenset[str]) -> bool:
    """Tell whether whatever a release would end is of these hosts, and all else is explained.

    That is: nobody but these hosts loses access, the attachment is on none but these, and every
    other access, session, block device and guest has a record that says why it is there.
    """
    ends = {*accounting.hosts_let_go(s), s.attached_host} - {None}
    if not ends <= hosts or s.devices:
        return False
    theirs = {f"{accounting.Kind.ACCESS.value} of {host}" for host in hosts}
    return all(party.words in theirs for party in accounting.may_hold(s))


def _computes_up(s: Situation) -> set[str]:
    answers = (a.value for a in s.servers.values() if isinstance(a, Fact))
    up = {server.host for server in answers if server.host is not None and server.compute_up}
    up |= {host for host, is_up in s.computes.items() if is_up}
    return up | {asked.host for asked in accounting.asked_hosts(s) if asked.compute_up}


def _hosts_in_session(s: Situation) -> set[str]:
    return {accounting.host_of(s, c) for c in accounting.seen(s) if c.sessions}


def _sessions_are_told_apart(s: Situation) -> bool:
    """Tell whether every session is of a host that is known by name: an unknown one may be ours."""
    known = {host for host, connector in s.connectors.items() if connector.names()}
    own = s.connector.host if s.connector is not None and s.connector.names() else None
    named = {accounting.host_of(s, c) for c in accounting.seen(s) if c.sessions}
    return named <= {*known, own}
