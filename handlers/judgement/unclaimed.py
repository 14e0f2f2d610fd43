"""The signs of a connection that no record claims: no row in Cinder, no instance in any message.

Whose it is, only the one host that is let in can tell, and of that host Nova. Pure.
"""

from __future__ import annotations

from handlers.judgement.evidence import Fact, Unknown
from handlers.judgement.situation import Situation


def nobody_holds(s: Situation) -> bool:
    """Nova proves that no server may be using the volume on the host, a compute that is up."""
    asked = s.holding if _unclaimed(s) else None
    proven = asked is not None and asked.compute_up is True and asked.holders == Fact(())
    return proven and asked is not None and asked.host == s.host


def holders(s: Situation) -> tuple[str, ...]:
    """Return the servers that may be using the volume on the host, by Nova's records."""
    told = s.holding.holders if s.holding is not None else None
    return told.value if isinstance(told, Fact) else ()


def not_told(s: Situation) -> bool:
    """Nova did not say who may be using the volume on the host, or not surely all of them."""
    return s.holding is not None and isinstance(s.holding.holders, Unknown)


def host_down(s: Situation) -> bool:
    """Its host is a compute, and the service is down: what the guests there do, nobody can say."""
    return s.holding is not None and s.holding.compute_up is False


def accounted_for(s: Situation) -> bool:
    """Nova could be asked in the place of an instance, and said something that decides."""
    return nobody_holds(s) or bool(holders(s)) or host_down(s)


def ghost(s: Situation) -> bool:
    """Cinder says available, and exactly one compute host is let in, where nobody has the volume.

    Whoever else may be connected, known or not, turns it away: nothing but that host's own
    connections may be there.
    """
    only_his = bool(s.own) and not (s.foreign or s.nameless)
    return s.status == "available" and only_his and nobody_holds(s)


def _unclaimed(s: Situation) -> bool:
    return s.instance_id is None and not s.volume.rows
