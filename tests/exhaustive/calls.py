"""What our own calls do to the small world, and which promise one breaks in doing so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

from handlers.case import StepKind
from handlers.intents import REACHES_BACKEND
from tests.exhaustive.world import (
    ATTACHED,
    RESERVED,
    TERMINATE,
    Job,
    Late,
    Left,
    Row,
    World,
    complete,
    delete_attachment,
    drop,
    guarded,
    hang,
    keep_out,
    spend,
    terminate,
    with_job,
)

TERMINATES = "cinder.terminate_connection"
DONE, UNANSWERED, CONFLICT, NOT_FOUND = "done", "no answer", "conflict", "not found"


class Call(NamedTuple):
    """One call of ours: its step, and what it names; "" for nothing."""

    name: str
    row: str = ""
    server: str = ""
    host: str = ""

    @property
    def reaches_backend(self) -> bool:
        """Tell whether it may change who is let in."""
        return self.name == TERMINATES or StepKind(self.name) in REACHES_BACKEND


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """How a call went: the world after it, the answer, and which promise it breaks."""

    words: str
    world: World
    answer: str
    wrong: str = ""


def make(world: World, call: Call, let_in: tuple[str, ...]) -> Iterator[Made]:
    """Yield each way in which the call may go; ``let_in`` are the hosts at the last look."""
    after, answer = _DOES[call.name](world, call)
    broken = wrong(world, after, call) or _freed_while_let_in(world, after, call, let_in)
    yield Made(f"{words(call)}: {answer}", after, answer, broken)
    host = _host(world, call)
    if answer == DONE and host and world.budget.own and call.reaches_backend:
        late = Late(TERMINATE, host, call.row, ours=True)
        yield Made(f"{words(call)}: hangs", hang(spend(world, "own"), late), UNANSWERED)


def leave(world: World, call: Call) -> World:
    """Leave a call on its way."""
    return world._replace(left=tuple(sorted([*world.left, Left(call)])))


def arrive(world: World, left: Left) -> Made:
    """Let a call arrive whose process is dead, or had been stopped."""
    assert isinstance(left.call, Call)
    calls = list(world.left)
    calls.remove(left)
    world = world._replace(left=tuple(calls))
    after, answer = _DOES[left.call.name](world, left.call)
    said = f"a call of the dead process arrives, {words(left.call)}: {answer}"
    return Made(said, after, answer, wrong(world, after, left.call))


def words(call: Call) -> str:
    """Return the call in words."""
    about = [part for part in (call.row, call.server, call.host) if part]
    return f"{call.name} ({', '.join(about)})"


def _host(world: World, call: Call) -> str:
    row = world.row(call.row)
    if call.name == StepKind.CINDER_DELETE_ATTACHMENT.value:
        return row.host if row and row.status != RESERVED else ""
    return call.host


# -- what may never happen -------------------------------------------------------------------------


def wrong(before: World, after: World, call: Call) -> str:
    """Return which promise a call broke, "" for none."""
    found = (judge(before, after, call) for judge in _PROMISES)
    return next((said for said in found if said), "")


def _every_host(before: World, after: World, call: Call) -> str:
    ends = (StepKind.BACKEND_FORCE_DETACH.value, StepKind.CINDER_FORCE_DETACH.value, TERMINATES)
    return "connector None: every host would be cut" if call.name in ends and not call.host else ""


def _cut(before: World, after: World, call: Call) -> str:
    for server in before.using():
        if not after.server(server.name).guest:
            return f"the guest of {server.name}, which runs, loses its disk"
    return ""


def _freed_while_let_in(before: World, after: World, call: Call, let_in: tuple[str, ...]) -> str:
    """Judge by the last look: what a late attach does after it is mended when that is seen."""
    if call.name == StepKind.NOVA_DETACH.value and after != before and not after.blind:
        explained = {row.host for row in before.rows}
        left = [host for host in before.access if host in let_in and host not in explained]
        return f"Nova is to detach while the backend lets {left[0]} in for nobody" if left else ""
    if after.status != "available" or before.status == "available":
        return ""
    still = set(after.access).intersection({call.host} if after.blind else let_in)
    return f"available while the backend lets {min(still)} in" if still else ""


def _asked_in_vain(before: World, after: World, call: Call) -> str:
    vain = before.lacks == "revoking" and call.name == StepKind.BACKEND_FORCE_DETACH.value
    return "a driver that cannot keep a host out is asked to" if vain else ""


def _row_dropped(before: World, after: World, call: Call) -> str:
    for row in before.rows:
        if after.row(row.name) is not None:
            continue
        attach = any(job.row == row.name and job.kind != "detach" for job in before.jobs)
        if attach and before.server(row.server).task != "deleting":
            return f"row {row.name} is dropped while Nova is attaching it"
        covered = any(other.host == row.host for other in after.rows)
        if row.host in after.access and not covered and not after.blind:
            return f"row {row.name} is dropped while the backend lets {row.host} in"
    return ""


def _given_away(before: World, after: World, call: Call) -> str:
    frees = after.status == "available" != before.status
    asks_nova = call.name == StepKind.NOVA_DETACH.value and after != before
    if not (frees or asks_nova):
        return ""
    for late in before.late:
        if late.kind == TERMINATE or (before.blind and not asks_nova):
            whose = "ours" if late.ours else "Nova's"
            return f"given to others while a call of {whose} may still act on {late.host}"
    if any(isinstance(left.call, Call) and left.call.reaches_backend for left in before.left):
        return "given to others while a call of ours is on its way"
    return ""


def _detached_another(before: World, after: World, call: Call) -> str:
    if call.name != StepKind.NOVA_DETACH.value or after == before:
        return ""
    device = before.server(call.server).device
    same = device.rstrip("'") == call.row.rstrip("'")  # the same, moved to another host
    return "" if same else f"Nova detaches {device}, not {call.row}"


_PROMISES: tuple[Callable[[World, World, Call], str], ...] = (
    _every_host, _cut, _asked_in_vain, _row_dropped, _given_away,
    _detached_another,
)  # fmt: skip


# -- what each call does ---------------------------------------------------------------------------


def _reserve(world: World, call: Call) -> tuple[World, str]:
    if world.status not in (("available", "in-use") if world.multiattach else ("available",)):
        return world, CONFLICT
    return world._replace(status="attaching"), DONE


def _unreserved(world: World) -> World:
    if world.status != "attaching":
        return world
    return world._replace(status="in-use" if world.rows else "available")


def _unreserve(world: World, call: Call) -> tuple[World, str]:
    return _unreserved(world), DONE


def _roll_detaching(world: World, call: Call) -> tuple[World, str]:
    return (world._replace(status="in-use") if world.status == "detaching" else world), DONE


def _complete(world: World, call: Call) -> tuple[World, str]:
    row = world.row(call.row)
    return (complete(world, row), DONE) if row else (world, NOT_FOUND)


def _delete(world: World, call: Call) -> tuple[World, str]:
    row = world.row(call.row)
    if row is None:
        return world, DONE
    return (world, CONFLICT) if guarded(world, row) else (delete_attachment(world, row), DONE)


def _backend(world: World, call: Call) -> tuple[World, str]:
    return (world if world.lacks == "revoking" else keep_out(world, call.host)), DONE


def _terminate(world: World, call: Call) -> tuple[World, str]:
    """``os-terminate_connection``: the backend, then what os-unreserve does."""
    if len(world.rows) > 1 or any(guarded(world, row) for row in world.rows):
        return world, CONFLICT
    return _unreserved(terminate(world, call.host)), DONE


def _force_detach(world: World, call: Call) -> tuple[World, str]:
    """``os-force_detach``: the same, then ``os-detach`` of the row, or of all where none is."""
    after, answer = _terminate(world, call)
    if answer != DONE:
        return after, answer
    if call.row:
        return (drop(after, call.row), DONE) if after.row(call.row) else (after, UNANSWERED)
    return (after._replace(status="available") if not after.rows else after), DONE


def _nova_detach(world: World, call: Call) -> tuple[World, str]:
    server = world.server(call.server)
    if server.gone or not server.device:
        return world, NOT_FOUND
    row = world.row(server.device)
    busy = any(job.server == server.name for job in world.jobs) or server.task
    if world.status != "in-use" or not row or row.status != ATTACHED or busy:
        return world, CONFLICT
    job = Job("detach", server.name, row.name, "begun", "req-ours", ours=True)
    return with_job(world._replace(status="detaching"), job, job), DONE


_DOES: dict[str, Callable[[World, Call], tuple[World, str]]] = {
    StepKind.CINDER_RESERVE.value: _reserve,
    StepKind.CINDER_UNRESERVE.value: _unreserve,
    StepKind.CINDER_ROLL_DETACHING.value: _roll_detaching,
    StepKind.CINDER_COMPLETE.value: _complete,
    StepKind.CINDER_DELETE_ATTACHMENT.value: _delete,
    StepKind.CINDER_FORCE_DETACH.value: _force_detach,
    StepKind.BACKEND_FORCE_DETACH.value: _backend,
    StepKind.NOVA_DETACH.value: _nova_detach,
    TERMINATES: _terminate,
}
__all__ = [
    "CONFLICT",
    "DONE",
    "NOT_FOUND",
    "UNANSWERED",
    "Call",
    "Made",
    "Row",
    "arrive",
    "leave",
    "make",
    "words",
]
