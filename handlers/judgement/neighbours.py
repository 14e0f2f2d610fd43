"""Who else is on a volume, or on the subject's host, by the records of the other rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.base import Connection, Connector
from drivers.control_plane import Row
from handlers.judgement.evidence import Fact, ServerEvidence


def belongs(connection: Connection, connectors: tuple[Connector, ...]) -> bool:
    """Tell whether a connection is of one of these hosts."""
    return any(connection.belongs_to(connector) for connector in connectors)


def shares(
    connector: Connector,
    rows: tuple[Row, ...],
    servers: Mapping[str, ServerEvidence],
    learned: Mapping[str, Connector],
) -> bool:
    """Tell whether one of these rows or its server is on that host, or nobody knows where."""
    if any(row.host is not None and row.host == connector.host for row in rows):
        return True
    answers = [servers.get(row.instance_id or "") for row in rows]
    return any(
        not isinstance(answer, Fact) or _may_be_on(answer.value.host, connector, learned)
        for answer in answers
    )


def _may_be_on(host: str | None, connector: Connector, learned: Mapping[str, Connector]) -> bool:
    if host is None or host == connector.host:
        return host is not None
    if host in learned:
        return bool(connector.names() & learned[host].names())
    return connector.host is None


def explained_by(
    rows: tuple[Row, ...],
    servers: Mapping[str, ServerEvidence],
    learned: Mapping[str, Connector],
) -> tuple[Connector, ...]:
    """Return the connectors of the hosts on which the servers of these rows are.

    Of a host whose connector was never seen only its name is known, which some backends tell too.
    """
    answers = (servers.get(row.instance_id or "") for row in rows)
    hosts = (a.value.host for a in answers if isinstance(a, Fact) and a.value.host)
    return tuple(learned.get(host, Connector(host=host)) for host in hosts)
