"""What must be true in the end, whatever happened to the service in between."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from consumer.ledger import CaseRecord
from handlers.case import Case, CaseState, StepResult
from tests.integration.site import EVERY, Act, Site

POLL_SECONDS = 0.1
AT_REST = (CaseState.CLOSED, CaseState.PARKED)


def wait_until_over(site: Site, acts: Sequence[Act], seconds: float = 60.0) -> None:
    """Wait until every scene has come to rest and all was announced; fail with what has not."""
    ends_at = time.monotonic() + seconds
    while left := unfinished(site, acts):
        assert time.monotonic() < ends_at, left
        time.sleep(POLL_SECONDS)


def unfinished(site: Site, acts: Sequence[Act]) -> list[str]:
    """Return what is still to come: scenes and the states of their cases, and announcements."""
    cases: dict[str, list[Case]] = {act.volume_id: [] for act in acts}
    for case in site.ledger.cases(limit=EVERY):
        cases.setdefault(case.volume_id, []).append(case)
    told = Counter(volume_id for volume_id, _ in site.told().values())
    left = [
        f"{act.scene.name}: {[(c.state.value, c.rule) for c in cases[act.volume_id]]}"
        for act in acts
        if not _rests(act, cases[act.volume_id], told[act.volume_id])
    ]
    pending = site.ledger.outbox_pending()[0]
    return [*left, f"{pending} announcements"] if pending else left


def _rests(act: Act, cases: Sequence[Case], told: int) -> bool:
    expected = act.scene.expected
    rest = [c.state in AT_REST or c.state.value == expected.state for c in cases]
    looked = any(c.attempts for c in cases)
    return looked and all(rest) and told >= len(expected.announced)


def all_is_well(site: Site, acts: Sequence[Act]) -> None:
    """Fail where something was lost, harmed, or told under two names; a repeat is no fault."""
    for act in acts:
        ended_well(site, act)
        told_enough(site, act)
    nothing_lost(site, [body for act in acts for body in act.bodies])
    nothing_harmed(site)
    announced_once(site)
    nobody_holds_anything(site)


def as_in_the_demo(site: Site, act: Act) -> None:
    """Fail unless the scene took exactly the course that it says, step by step."""
    expected, acted = act.scene.expected, _acted(site, act)
    steps = tuple(i.kind.value for i in acted.intents if i.result is StepResult.DONE)
    assert (act.scene.name, steps) == (act.scene.name, expected.steps)
    assert _decided(acted) == (expected.verdict, expected.rule)
    assert tuple(site.announced(act.volume_id)) == expected.announced
    ended_well(site, act)


def ended_well(site: Site, act: Act) -> None:
    """Fail unless Cinder, the backend and the case are in the end as the scene says."""
    expected, acted = act.scene.expected, _acted(site, act)
    hosts = sorted(host.replace("HOST", act.stage.host) for host in expected.backend)
    found = (site.status(act.volume_id), list(site.cloud.exported_to(act.volume_id)))
    assert (act.scene.name, *found) == (act.scene.name, expected.cinder, hosts)
    assert (act.scene.name, acted.case.state.value) == (act.scene.name, expected.state)
    if not expected.steps:
        assert (act.scene.name, site.writes(act.volume_id)) == (act.scene.name, [])


def told_enough(site: Site, act: Act) -> None:
    """Fail unless each edge that the scene must announce was, in order; a repeat is no fault.

    An attempt that a crash cut off has announced its start; the one that goes on may say so again.
    """
    heard = iter(site.announced(act.volume_id))
    missing = [event for event in act.scene.expected.announced if event not in heard]
    assert (act.scene.name, missing) == (act.scene.name, [])


def nothing_harmed(site: Site) -> None:
    """Fail where a call endangered data, or reached the cloud without having been written down."""
    assert site.cloud.hazards() == ()
    made = {call.asked.request_id for call in site.cloud.calls(writes=True)}
    intended = set(column(site, "SELECT request_id FROM intents"))
    assert made <= intended


def nothing_lost(site: Site, bodies: Iterable[bytes]) -> None:
    """Fail unless each of these messages is on record once, and is one case's and no other's."""
    filed = Counter(column(site, "SELECT message_id FROM notifications WHERE case_id IS NOT NULL"))
    wanted = [json.loads(json.loads(body)["oslo.message"])["message_id"] for body in bodies]
    assert {m: filed[m] for m in wanted} == dict.fromkeys(wanted, 1)


def announced_once(site: Site) -> None:
    """Fail unless what was heard is what the outbox holds: each row once or more, under one id."""
    heard = {m["message_id"]: (m["event_type"], m["payload"]) for m in site.listen()}
    rows = site.outbox()
    assert heard == {row.message_id: (row.event_type, dict(row.payload)) for row in rows}
    assert [row.event_type for row in rows if row.sent_at is None] == []


def nobody_holds_anything(site: Site) -> None:
    """Fail where a claim is left that nobody works."""
    assert column(site, "SELECT volume_id FROM claims WHERE owner IS NOT NULL") == []


def column(site: Site, query: str) -> list[str]:
    """Read a column of the ledger's database, past all code of ours."""
    engine = sa.create_engine(site.detachd.places.ledger_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(sa.text(query))]


def _acted(site: Site, act: Act) -> CaseRecord:
    """Return the scene's case; where Nova's clean-up opened a second one, the one that acted."""
    return max(site.cases(act.volume_id), key=lambda c: (len(c.intents), c.case.attempts))


def _decided(record: CaseRecord) -> tuple[str | None, str | None]:
    """Return the verdict and rule of the first look that acted; where none did, of the last."""
    for sent in record.outbox:
        return sent.payload["verdict"], sent.payload["rule"]
    return record.case.verdict, record.case.rule
