"""What may never happen, as far as this world can show it; what a call of ours breaks: ``calls``.

``troubles`` is the truth, which detachd does not know: what is wrong with the world although nobody
is at work on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from handlers.announcement import Event
from handlers.case import Case, CaseState, Conclusion, Outcome, StepKind
from handlers.judgement import guards
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.judgement.rule import Verdict
from tests.exhaustive.attempts import announced
from tests.exhaustive.calls import TERMINATES, Call
from tests.exhaustive.ledger import Mind
from tests.exhaustive.world import ATTACHED, TERMINATE, World

TWO_WRITERS, LET_IN, UNDER_WAY = "two writers", "available and let in", "a call may still act"
RELEASES = (*(kind.value for kind in guards.UNDOES_ATTACH), TERMINATES)
GHOST = " has a block device for a row that is gone"
DANGERS = (TWO_WRITERS, LET_IN)


def troubles(world: World) -> tuple[str, ...]:
    """Return what is wrong, in truth."""
    return tuple(_troubles(world))


def _troubles(world: World) -> Iterator[str]:
    if len({server.guest for server in world.using()}) > 1 and not world.multiattach:
        yield TWO_WRITERS
    if world.status == "available" and (world.access or world.using()):
        yield LET_IN
    if any(late.kind == TERMINATE for late in world.late):
        yield UNDER_WAY
    if world.jobs:
        yield "an operation is under way"
        return
    if world.status not in ("available", "in-use"):
        yield f"the volume stays {world.status}"
    yield from _left_over(world)


def _left_over(world: World) -> Iterator[str]:
    names = {row.name for row in world.rows}
    for row in world.rows:
        server = world.server(row.server)
        if server.gone or server.device != row.name:
            yield f"row {row.name} is nobody's"
        elif row.status != ATTACHED:
            yield f"row {row.name} stays {row.status}"
        elif server.host not in world.access:
            yield f"{server.name} has lost its access"
    for server in world.servers:
        if server.device and server.device not in names:
            yield f"{server.name}{GHOST}"
    explained = {world.server(row.server).host for row in world.rows} | {r.host for r in world.rows}
    for host in world.access:
        if host not in explained:
            yield f"{host} is let in for nobody"


def _seen(world: World, found: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out what a backend that cannot be seen does not show."""
    hidden = ("let in", "lost its access", TWO_WRITERS)
    return tuple(f for f in found if not (world.blind and any(h in f for h in hidden)))


ORDERED = ("cinder.complete", "nova.detach")


def of_a_call(call: Call, world: World, policy: BackendPolicy, case: Case) -> str:
    """Return which word of the operator's a call goes against, "" for none."""
    ordered = case.approved_action is not None and call.name in ORDERED
    if policy.mode is not Mode.AUTO and not ordered:
        return f"a call in mode {policy.mode.value} that nobody approved"
    if world.blind and not policy.trust_blind and call.name in RELEASES:
        return "a release on a backend that cannot be seen and is not trusted"
    return ""


def of_an_outcome(outcome: Outcome, mind: Mind, world: World) -> str:
    """Return which promise an outcome breaks, by the truth at its last look; "" for none."""
    assert mind.going is not None
    found = _seen(world, mind.going.truth.troubles)
    well = outcome.verdict in (Verdict.HEALTHY.value, Verdict.CLEAN.value)
    wrong = [f for f in found if f in (*DANGERS, UNDER_WAY)]
    if wrong and Event.END in announced(outcome):
        return f"an end is announced although: {', '.join(wrong)}"
    if well and TWO_WRITERS in found:
        return f"two hosts that write are called {outcome.verdict}"
    if well and outcome.state is CaseState.CLOSED and outcome.conclusion is not Conclusion.ENDED:
        # Nova tells of a block device only where its server is asked for.
        asked = {row.server for row in world.rows} | {outcome.instance_id}
        ghosts = {f"{s.name}{GHOST}" for s in world.servers if s.name not in asked}
        left_out = ("an operation is under way", UNDER_WAY, *ghosts)
        if wrong := [f for f in found if f not in left_out]:
            return f"closed as {outcome.verdict} although: {', '.join(wrong)}"
    # A wish to detach that is put off is not to be seen in the world.
    wish = outcome.verdict == Verdict.NOVA_DETACH.value or _rolled_back(mind)
    parked = outcome.state is CaseState.PARKED and not outcome.held and not wish
    if parked and not found and not mind.going.truth.troubles:
        return f"parked although all is well: {outcome.reason}"
    return ""


def _rolled_back(mind: Mind) -> bool:
    assert mind.going is not None
    case = mind.case(mind.going.claimed.case_id)
    return any(intent.kind is StepKind.CINDER_ROLL_DETACHING for intent in case.intents)


def at_the_end(world: World, mind: Mind) -> str:
    """Return what is wrong where nothing happens any more."""
    if mind.untold:
        return f"a start was announced for {mind.untold[0]}, and nothing after it"
    rest = (CaseState.CLOSED, CaseState.PARKED, CaseState.AWAITING_APPROVAL)
    waiting = [c for c in mind.cases if c.state not in rest]
    if waiting:
        return f"{waiting[0].case_id} waits for ever"
    parked = any(case.state is not CaseState.CLOSED for case in mind.cases)
    if (found := _seen(world, troubles(world))) and not parked:
        return f"nobody was told: {', '.join(found)}"
    return "a person has a case although all is well" if parked and not troubles(world) else ""
