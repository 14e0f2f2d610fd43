"""What users, Nova, Cinder's hung calls and an operator do in the small world, a step at a time.

Nova's order of work is that of nova/compute/manager.py and nova/virt/block_device.py: an attach
reserves, connects (with tries), opens the disk and completes; a detach takes the disk from the
guest and then deletes the row (with tries); a deletion ends the guest first and swallows Cinder's
errors; a live migration makes the second row, moves the guest, and deletes the source's row.

A nova-compute that is down goes on with nothing: what it was asked for waits, what it was at breaks
off. nova-api then deletes a server by itself, and nobody ends the guest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from handlers.notification import Notification
from tests.exhaustive import messages
from tests.exhaustive.world import (
    ATTACHED,
    INIT,
    RESERVED,
    TERMINATE,
    Job,
    Late,
    Row,
    World,
    complete,
    delete_attachment,
    drop,
    hang,
    initialize,
    land,
    spend,
    terminate,
    with_job,
    with_row,
    with_server,
)

TRIES = 2
"""Nova makes five; two tell all that several can do."""
ROWS = "ABCDEF"


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """One thing that happens: who does what, the world after it, and what the bus tells of it.

    ``wrong`` says which promise it breaks. ``long``: it takes as long as an RPC timeout at least.
    """

    words: str
    world: World
    told: tuple[Notification, ...] = ()
    wrong: str = ""
    long: bool = False


def moves(world: World) -> Iterator[Move]:
    """Yield everything that may happen next outside detachd."""
    for job in world.jobs:
        if not world.stalled(job):
            yield from _JOBS[job.kind](world, job)
    for late in dict.fromkeys(world.late):
        yield _landing(world, late)
    yield from _users(world)
    yield from _hosts(world)


def _landing(world: World, late: Late) -> Move:
    after = land(world, late)
    whose = "our" if late.ours else "Nova's"
    words = f"backend: {whose} late {late.kind} for {late.host} acts"
    lost = [s.name for s in world.using() if not after.server(s.name).guest]
    wrong = f"the guest of {lost[0]} loses its disk by a late call of ours" if lost else ""
    return Move(words, after, wrong=wrong if late.ours else "")


# -- users and operators ---------------------------------------------------------------------------


def _users(world: World) -> Iterator[Move]:
    busy = {job.server for job in world.jobs}
    for server in world.servers:
        if world.budget.user and server.name not in busy and not server.gone and not server.task:
            wishes = _wishes(spend(world, "user"), server.name)
            yield from (move for wish, move in wishes if wish in world.wishes)
    if world.budget.resets:
        yield from _resets(spend(world, "resets"))


def _wishes(world: World, name: str) -> Iterator[tuple[str, Move]]:
    server, request = world.server(name), f"req-{world.operations}"
    world = world._replace(operations=world.operations + 1)
    row = world.row(server.device)
    open_to = ("available", "in-use") if world.multiattach else ("available",)
    first = name == world.servers[0].name or world.operations > 1 or bool(world.servers[0].device)
    if not server.device and world.status in open_to and first:
        yield "attach", _reserve(world, name, request)
    if row and row.status == ATTACHED and world.status == "in-use":
        job = Job("detach", name, row.name, "begun", request)
        after = with_job(world._replace(status="detaching"), job, job)
        yield "detach", Move(f"user: asks Nova to detach {row.name} from {name}", after)
    if server.device and server.host in world.down:
        yield from (("delete", move) for move in _deleted_by_the_api(world, name, request))
    elif server.device or server.guest:
        job = Job("delete", name, server.device, "begun", request)
        after = with_server(with_job(world, job, job), server._replace(task="deleting"))
        yield "delete", Move(f"user: deletes server {name}", after)
    at_home = row and row.status == ATTACHED and world.status == "in-use" and server.guest
    if row and at_home and "migrate" in world.wishes:
        yield "migrate", _migrate(world, name, row, request)


def _reserve(world: World, name: str, request: str) -> Move:
    row = Row(ROWS[world.rows_made], RESERVED, name)
    server = world.server(name)._replace(device=row.name)
    status = "reserved" if world.status == "available" else world.status
    after = with_row(with_server(world, server), row)
    after = after._replace(rows_made=world.rows_made + 1, status=status)
    job = Job("attach", name, row.name, "reserved", request)
    return Move(
        f"user: attaches to {name}; Nova reserves row {row.name}", with_job(after, job, job)
    )


def _migrate(world: World, name: str, source: Row, request: str) -> Move:
    server = world.server(name)
    job = Job("migrate", name, moved_from(source.name), "begun", request, source=source.name)
    wishes = list(world.wishes)
    wishes.remove("migrate")
    after = with_server(world, server._replace(task="migrating"))._replace(wishes=tuple(wishes))
    return Move(f"user: live-migrates {name}", with_job(after, job, job))


def moved_from(source: str) -> str:
    """Return the name of the row by which a live migration replaces another one."""
    return f"{source}'"


def _resets(world: World) -> Iterator[Move]:
    forced = world._replace(status="available")
    dropped = forced._replace(rows=())
    for after, words in ((forced, "leaves the rows"), (dropped, "drops the rows")):
        if world.status != "available":
            told = tuple(
                messages.of_cinder(w, f"reset_status.{when}", "req-reset", "own-reset",
                                   publisher=messages.API)
                for w, when in ((world, "start"), (after, "end"))
            )  # fmt: skip
            yield Move(f"operator: resets the status to available and {words}", after, told)


# -- hosts that go down, and what a person says of them --------------------------------------------

WAITS = ("begun", "reserved")
"""The stages in which a job is still a message that waits for its compute."""


def _hosts(world: World) -> Iterator[Move]:
    """Let a host go down or come back, or a person say that it is off, rightly or wrongly."""
    for host in ("h1", "h2"):
        if host in world.down:
            yield from _comes_back(world, host)
        elif world.budget.deaths:
            yield from _goes_down(spend(world, "deaths"), host)
        if host in world.down and world.budget.words and host not in world.said_off:
            said = tuple(sorted({*world.said_off, host}))
            words = f"a person says that {host} is powered off"
            yield Move(words, spend(world, "words")._replace(said_off=said))


def _goes_down(world: World, host: str) -> Iterator[Move]:
    down = world._replace(down=tuple(sorted({*world.down, host})))
    yield Move(f"host {host}: its nova-compute dies, its guests run on", down)
    dark = down._replace(dark=tuple(sorted({*world.dark, host})))
    for server in world.servers:
        if server.guest == host:
            dark = _close(dark, server.name)
    yield Move(f"host {host}: loses its power", dark)


def _comes_back(world: World, host: str) -> Iterator[Move]:
    """Come back: deletions and what has waited are done, what was broken off is over.

    A host that was off takes minutes to boot. It may start its guests again, those that have their
    disk as far as Nova knows.
    """
    up = world._replace(
        down=tuple(h for h in world.down if h != host),
        dark=tuple(h for h in world.dark if h != host),
    )
    for job in world.jobs:
        if world.stalled(job) and job.stage not in WAITS and job.kind != "delete":
            up = _over(up, job)
    if host not in world.dark:
        yield Move(f"host {host}: its nova-compute is up again", up)
        return
    yield Move(f"host {host}: has power again, and no guest is started", up, long=True)
    for server in up.servers:
        row = up.row(server.device)
        if server.host == host and host in up.access and row and row.status == ATTACHED:
            started = with_server(up, server._replace(guest=host))
            words = f"host {host}: has power again and starts the guest of {server.name}"
            yield Move(words, started, long=True)


def _deleted_by_the_api(world: World, name: str, request: str) -> Iterator[Move]:
    """Let nova-api delete a server of a host that is down: Cinder is asked, no guest is ended."""
    server = world.server(name)
    for job in world.jobs:
        if job.server == name:
            world = _over(world, job)
    gone = with_server(world, server._replace(device="", task="", gone=True))
    job = Job("delete", name, server.device, "asked", request)
    row = world.row(server.device)
    words = f"user: deletes server {name}; nova-api does it alone"
    start = _told(gone, job, "detach.start") if row and row.status != RESERVED else ()
    if row is None:
        yield Move(words, gone)
        return
    after = delete_attachment(gone, row)
    yield Move(words, after, (*start, *_told(after, job, "detach.end", publisher=messages.API)))
    if world.budget.faults:
        yield Move(f"{words}; Cinder fails, which is swallowed", spend(gone, "faults"), start)


# -- what several jobs have in common --------------------------------------------------------------


def _own(job: Job) -> str:
    return f"{job.request}-{job.kind}-{job.stage}-{job.tries}"


def _told(
    world: World, job: Job, *names: str, publisher: str = messages.MANAGER
) -> tuple[Notification, ...]:
    return tuple(
        messages.of_cinder(world, name, job.request, _own(job), publisher=publisher)
        for name in names
    )


def _nova(world: World, job: Job, name: str) -> tuple[Notification, ...]:
    return (messages.of_nova(name, job.server, world.server(job.server).host, job.request),)


def _error(world: World, job: Job, function: str) -> tuple[Notification, ...]:
    host = world.server(job.server).host
    return (messages.of_nova_error(function, job.server, host, job.row, job.request),)


def _to(world: World, job: Job, stage: str) -> World:
    return with_job(world, job, job._replace(stage=stage))


def _over(world: World, job: Job) -> World:
    return with_job(world, job, None)


def _fails(
    world: World, job: Job, call: Late, again: str, given_up: Callable[[World, Job], Move]
) -> Iterator[Move]:
    """Let the call to the backend of this stage hang or fail; Nova tries again, or gives up."""
    if not world.budget.faults:
        return
    spent = spend(world, "faults")
    tries = job.tries + 1
    for after, words in ((hang(spent, call), "hangs"), (spent, "fails")):
        doing = f"backend: {call.kind} for {call.host} {words}"
        if tries < TRIES and again:
            tried = job._replace(tries=tries)
            told = _told(after, tried, again)
            move = Move(f"{doing}; Nova tries again", with_job(after, job, tried), told)
        else:
            gave_up = given_up(after, job)
            move = dataclasses.replace(gave_up, words=f"{doing}; {gave_up.words}")
        yield dataclasses.replace(move, long=words == "hangs")


def _close(world: World, name: str) -> World:
    return with_server(world, world.server(name)._replace(guest=""))


def _forget(world: World, name: str) -> World:
    return with_server(world, world.server(name)._replace(device=""))


# -- attach ----------------------------------------------------------------------------------------


def _attach(world: World, job: Job) -> Iterator[Move]:
    server, row = world.server(job.server), world.row(job.row)
    match job.stage:
        case "reserved":
            after = _to(world, job, "asked")
            told = (*_nova(world, job, "attach.start"), *_told(world, job, "attach.start"))
            if row is None:
                yield Move("Nova: the row is gone", _to(world, job, "failed"), told[:1])
            else:
                yield Move(f"Nova: asks Cinder to connect {row.name} to {server.host}", after, told)
        case "asked":
            after = initialize(world, server.host, job.row)
            stage = "connected" if row else "failed"
            yield Move(f"backend: lets {server.host} in for {job.row}", _to(after, job, stage))
            late = Late(INIT, server.host, job.row, ours=False)
            yield from _fails(world, job, late, "attach.start" if row else "", _attach_given_up)
        case "connected":
            if server.host in world.access:
                opened = with_server(world, server._replace(guest=server.host))
                yield Move(
                    f"Nova: the guest of {job.server} opens the disk", _to(opened, job, "open")
                )
            else:
                yield Move("Nova: the host cannot log in", _to(world, job, "failed"))
        case "open":
            yield from _attach_ends(world, job, row)
        case _:
            yield from _attach_cleaned_up(world, job, row)


def _attach_given_up(world: World, job: Job) -> Move:
    return Move("Nova gives the attach up", _to(world, job, "failed"))


def _attach_ends(world: World, job: Job, row: Row | None) -> Iterator[Move]:
    if row is None:
        yield Move("Nova: the row is gone", _to(_close(world, job.server), job, "failed"))
        return
    after = complete(world, row)
    told = (*_told(after, job, "attach.end"), *_nova(world, job, "attach.end"))
    yield Move(f"Nova: completes {job.row}", _over(after, job), told)
    if world.budget.faults:
        spent = spend(world, "faults")
        yield Move("Nova: the compute is killed before it completes", _over(spent, job))
        told = _error(spent, job, "attach_volume")
        for after, what in (
            (_close(spent, job.server), "takes the disk from the guest and forgets it"),
            (spent, "forgets the disk, which the guest goes on using"),
        ):
            if after is spent and "forget" not in world.wishes:
                continue
            forgotten = _over(_forget(after, job.server), job)
            yield Move(f"Nova: cinder-api is away; it {what}", forgotten, told)


def _attach_cleaned_up(world: World, job: Job, row: Row | None) -> Iterator[Move]:
    """Delete the row, whatever that gives, and the block device."""
    told = _nova(world, job, "attach.error")
    closed = _forget(_close(world, job.server), job.server)
    if row is None:
        yield Move("Nova: cleans up", _over(closed, job), told)
        return
    by = messages.API if row.status == RESERVED else messages.MANAGER
    after = delete_attachment(closed, row)
    start = _told(world, job, "detach.start", publisher=by)
    end = _told(after, job, "detach.end", publisher=messages.API)
    yield Move(f"Nova: cleans up and deletes {row.name}", _over(after, job), (*start, *end, *told))
    if row.status != RESERVED and world.budget.faults:
        late = Late(TERMINATE, row.host, row.name, ours=False)
        after = _over(hang(spend(closed, "faults"), late), job)
        yield Move(f"Nova: cleans up; deleting {row.name} hangs", after, (*start, *told))


# -- detach ----------------------------------------------------------------------------------------


def _detach(world: World, job: Job) -> Iterator[Move]:
    row = world.row(job.row)
    match job.stage:
        case "begun":
            after = _to(_close(world, job.server), job, "closed")
            told = _nova(world, job, "detach.start")
            yield Move(
                f"Nova: the guest of {job.server} gives the disk back", after, _heard(job, told)
            )
            if world.budget.faults:
                spent = spend(world, "faults")
                status = "in-use" if world.status == "detaching" else world.status
                after = _over(spent._replace(status=status), job)
                told = (*told, *_error(world, job, "detach_volume"))
                words = f"Nova: the guest of {job.server} refuses; Nova rolls back"
                yield Move(words, after, _heard(job, told))
                yield Move("Nova: the compute is killed before it detaches", _over(spent, job))
        case "closed" if row is None:
            yield Move("Nova: the row is gone already", _to(world, job, "deleted"))
        case "closed":
            yield _asked_to_delete(world, job, job.row, "asked")
        case "asked":
            yield from _row_deleted(world, job, row, _detach_given_up)
        case _:
            after = _over(_forget(world, job.server), job)
            yield Move(
                "Nova: forgets the disk", after, _heard(job, _nova(world, job, "detach.end"))
            )
            if world.budget.faults:
                yield Move("Nova: the compute is killed before it forgets the disk",
                           _over(spend(world, "faults"), job))  # fmt: skip


def _heard(job: Job, told: tuple[Notification, ...]) -> tuple[Notification, ...]:
    """Leave out what only bears the request id of our own call: it moves nothing."""
    return () if job.ours else told


def _asked_to_delete(world: World, job: Job, row: str, stage: str) -> Move:
    """Ask Cinder to delete a row: its start and its end bear the same two request ids."""
    told = _told(world, job._replace(stage=stage), "detach.start")
    return Move(f"Nova: asks Cinder to delete {row}", _to(world, job, stage), told)


def _row_deleted(
    world: World, job: Job, row: Row | None, given_up: Callable[[World, Job], Move]
) -> Iterator[Move]:
    if row is None:
        yield Move("Cinder: the row is gone already", _to(world, job, "deleted"))
        return
    after = drop(terminate(world, row.host), row.name)
    told = _told(after, job, "detach.end")
    words = f"backend: keeps {row.host} out; Cinder drops {row.name}"
    yield Move(words, _to(after, job, "deleted"), told)
    late = Late(TERMINATE, row.host, row.name, ours=False)
    yield from _fails(world, job, late, "detach.start", given_up)


def _detach_given_up(world: World, job: Job) -> Move:
    told = _heard(job, _error(world, job, "detach_volume"))
    return Move("Nova gives the detach up", _over(world, job), told)


# -- delete ----------------------------------------------------------------------------------------


def _delete(world: World, job: Job) -> Iterator[Move]:
    row = world.row(job.row)
    match job.stage:
        case "begun":
            after = _to(_close(world, job.server), job, "closed")
            yield Move(f"Nova: ends the guest of {job.server}", after)
        case "closed":
            yield _asked_or_dropped(world, job, row)
        case "asked":
            yield from _row_deleted(world, job, row, _swallowed)
        case _:
            server = world.server(job.server)
            gone = server._replace(device="", task="", gone=True, ended_on=server.host)
            yield Move(f"Nova: {job.server} is deleted", _over(with_server(world, gone), job))


def _asked_or_dropped(world: World, job: Job, row: Row | None) -> Move:
    """Go on to the driver's call; a row that is reserved is dropped without it."""
    if row is None:
        return Move("Nova: there is no row", _to(world, job, "deleted"))
    if row.status != RESERVED:
        return _asked_to_delete(world, job, job.row, "asked")
    after = drop(world, row.name)
    start = _told(world, job, "detach.start", publisher=messages.API)
    end = _told(after, job, "detach.end", publisher=messages.API)
    return Move(f"Nova: deletes {row.name}", _to(after, job, "deleted"), (*start, *end))


def _swallowed(world: World, job: Job) -> Move:
    return Move("Nova swallows the error", _to(world, job, "deleted"))


# -- live migration --------------------------------------------------------------------------------


def _migrating(world: World, job: Job) -> Iterator[Move]:
    server, row = world.server(job.server), world.row(job.row)
    target = "h2" if server.host == "h1" else "h1"
    match job.stage:
        case "begun":
            after = with_row(world, Row(job.row, RESERVED, job.server))
            told = _told(after, job, "attach.start")
            words = f"Nova: asks Cinder for row {job.row} on {target}"
            yield Move(words, _to(after, job, "asked"), told)
        case "asked":
            after = initialize(world, target, job.row)
            if row is not None:
                after = with_server(after, server._replace(device=job.row))
            stage = "ready" if row else "undone"
            yield Move(f"backend: lets {target} in for {job.row}", _to(after, job, stage))
            late = Late(INIT, target, job.row, ours=False)
            yield from _fails(world, job, late, "", _undone)
        case "ready":
            yield from _switched(world, job, row, target)
        case "moved" if (source := world.row(job.source)) is not None:
            yield _asked_to_delete(world, job, source.name, "asked-source")
        case "asked-source":
            yield from _row_deleted(world, job, world.row(job.source), _ended)
        case "undone":
            yield from _rolled_back(world, job, row)
        case _:
            yield _ended(world, job)


def _switched(world: World, job: Job, row: Row | None, target: str) -> Iterator[Move]:
    server = world.server(job.server)
    if row is None or target not in world.access or not server.guest:
        yield Move("Nova: the destination cannot log in", _to(world, job, "undone"))
        return
    after = with_server(complete(world, row), server._replace(guest=target, host=target))
    told = _told(after, job, "attach.end")
    yield Move(f"Nova: the guest of {job.server} moves to {target}", _to(after, job, "moved"), told)


def _undone(world: World, job: Job) -> Move:
    return Move("Nova rolls the migration back", _to(world, job, "undone"))


def _rolled_back(world: World, job: Job, row: Row | None) -> Iterator[Move]:
    server = world.server(job.server)
    after = with_server(world, server._replace(device=job.source, task=""))
    if row is None:
        yield Move("Nova: is back on the source", _over(after, job))
        return
    by = messages.API if row.status == RESERVED else messages.MANAGER
    gone = delete_attachment(after, row)
    start = _told(world, job, "detach.start", publisher=by)
    end = _told(gone, job, "detach.end", publisher=messages.API)
    yield Move(f"Nova: is back on the source, deletes {row.name}", _over(gone, job), (*start, *end))
    if world.budget.faults:
        late = Late(TERMINATE, row.host, row.name, ours=False)
        left = spend(after, "faults")
        left = hang(left, late) if row.status != RESERVED else left
        words = f"Nova: is back on the source; deleting {row.name} fails"
        yield Move(words, _over(left, job), start if row.status != RESERVED else ())


def _ended(world: World, job: Job) -> Move:
    server = world.server(job.server)
    after = with_server(world, server._replace(task=""))
    return Move(f"Nova: the migration of {job.server} is over", _over(after, job))


_JOBS: dict[str, Callable[[World, Job], Iterator[Move]]] = {
    "attach": _attach,
    "detach": _detach,
    "delete": _delete,
    "migrate": _migrating,
}
