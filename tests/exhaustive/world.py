"""The small world: one volume, its rows, who is let in, the servers, and what is under way.

Plain values that can be hashed (named tuples: a search hashes them millions of times). What changes
them follows Cinder 29 and Nova 34 as ``drivers/simulator`` does, and its sources are named there.
"""

from __future__ import annotations

from typing import NamedTuple

ATTACHED, ATTACHING, RESERVED = "attached", "attaching", "reserved"
VOLUME, BACKEND = "volume-1", "storage-1@tgt"
INIT, TERMINATE = "initialize_connection", "terminate_connection"


class Row(NamedTuple):
    """One attachment row; ``host`` is that of its connector, "" for none."""

    name: str
    status: str
    server: str
    host: str = ""


class Server(NamedTuple):
    """A server: Nova's record of it, and where a guest of it has the disk open, in truth.

    ``device`` is the row that its block device names, "" where it has none. ``ended_on`` is where
    Nova recorded that the guest of the deleted server was ended.
    """

    name: str
    host: str
    device: str = ""
    guest: str = ""
    task: str = ""
    gone: bool = False
    ended_on: str = ""


class Job(NamedTuple):
    """One operation of Nova's under way. ``request`` is Nova's request id.

    ``row`` is the row in question and ``source`` that of a live migration's source; ``ours`` says
    that our own call asked for it. ``tries`` counts Cinder's answers that were errors.
    """

    kind: str
    server: str
    row: str
    stage: str
    request: str
    source: str = ""
    tries: int = 0
    ours: bool = False


class Late(NamedTuple):
    """A call to the backend that all callers have given up, and that may still act.

    ``long``: it may still do so after one late horizon, as the process that made it died.
    """

    kind: str
    host: str
    row: str
    ours: bool
    long: bool = False


class Left(NamedTuple):
    """A call of ours that is on its way when the process dies, or is stopped and comes back.

    The second replica may have the case by then.
    """

    call: object
    long: bool = True


class Budget(NamedTuple):
    """How often each may still happen.

    ``user``: attach, detach, delete and migrate. ``faults``: a call to the backend that fails or
    hangs, a cinder-api that is away, a compute that is killed, a guest that refuses. ``own``: a
    call of ours that hangs. ``resets``: an operator's reset-state. ``deaths``: a nova-compute or a
    whole host that goes down. ``words``: a person who says that a host is powered off.
    """

    user: int = 0
    faults: int = 0
    own: int = 0
    crashes: int = 0
    resets: int = 0
    sweeps: int = 0
    deaths: int = 0
    words: int = 0


class World(NamedTuple):
    """All of it at one moment, every collection in one order.

    ``access`` are the hosts that the backend lets in. ``blind``: the driver is Cinder's own;
    ``lacks`` names what a driver that sees cannot do. ``wishes`` are the operations that users may
    ask for: migrate as often as it is there. Forget is Nova's, and lets the guest keep the disk.
    ``operations`` counts those that users asked for, ``rows_made`` the rows. ``down`` are the hosts
    whose nova-compute is down, ``dark`` those of them without power; ``said_off`` are the hosts of
    which a person says so, rightly or wrongly.
    """

    status: str
    rows: tuple[Row, ...]
    access: tuple[str, ...]
    servers: tuple[Server, ...]
    jobs: tuple[Job, ...] = ()
    late: tuple[Late, ...] = ()
    left: tuple[Left, ...] = ()
    budget: Budget = Budget()
    multiattach: bool = False
    blind: bool = False
    lacks: str = ""
    wishes: tuple[str, ...] = ("attach", "detach", "delete", "migrate")
    operations: int = 0
    rows_made: int = 0
    down: tuple[str, ...] = ()
    dark: tuple[str, ...] = ()
    said_off: tuple[str, ...] = ()

    def row(self, name: str) -> Row | None:
        """Return the row of this name, None where there is none."""
        return next((row for row in self.rows if row.name == name), None)

    def server(self, name: str) -> Server:
        """Return the server of this name."""
        return next(server for server in self.servers if server.name == name)

    def stalled(self, job: Job) -> bool:
        """Tell whether the compute that is to go on with a job is down; Cinder goes on."""
        return self.server(job.server).host in self.down and not job.stage.startswith("asked")

    def using(self) -> tuple[Server, ...]:
        """Return the servers whose guest has the disk open."""
        return tuple(server for server in self.servers if server.guest)


def spend(world: World, what: str) -> World:
    """Take one from a budget."""
    left = getattr(world.budget, what) - 1
    return world._replace(budget=world.budget._replace(**{what: left}))


def with_server(world: World, server: Server) -> World:
    """Return the world with this server in place of that of its name."""
    changed = tuple(server if s.name == server.name else s for s in world.servers)
    return world._replace(servers=changed)


def with_row(world: World, row: Row) -> World:
    """Return the world with this row, new or in place of that of its name."""
    others = [r for r in world.rows if r.name != row.name]
    return world._replace(rows=tuple(sorted([*others, row])))


def with_job(world: World, job: Job, changed: Job | None) -> World:
    """Return the world with a job moved on, or over."""
    jobs = [j for j in world.jobs if j != job] + ([changed] if changed else [])
    return world._replace(jobs=tuple(sorted(jobs)))


# -- the backend -----------------------------------------------------------------------------------


def let_in(world: World, host: str) -> World:
    """Give a host access."""
    return world._replace(access=tuple(sorted({*world.access, host})))


def keep_out(world: World, host: str) -> World:
    """Revoke a host's access; guests that had the disk open there have lost it."""
    servers = tuple(s._replace(guest="") if s.guest == host else s for s in world.servers)
    access = tuple(h for h in world.access if h != host)
    return world._replace(access=access, servers=servers)


# -- Cinder ----------------------------------------------------------------------------------------


def recompute(world: World) -> World:
    """Derive the status from the rows, as ``volume_detached`` does."""
    least = min((row.status for row in world.rows), default="detached")
    named = {"attached": "in-use", "detached": "available"}
    return world._replace(status=named.get(least, least))


def drop(world: World, name: str) -> World:
    """Drop a row and recompute."""
    return recompute(world._replace(rows=tuple(row for row in world.rows if row.name != name)))


def terminate(world: World, host: str) -> World:
    """``terminate_connection``: a driver keeps a host in that a second row is on."""
    shared = sum(row.host == host for row in world.rows) > 1
    return world if shared else keep_out(world, host)


def initialize(world: World, host: str, name: str) -> World:
    """``attachment_update``: let the host in, then mark row and volume attaching.

    A row that is gone by then stays gone, and the host stays let in.
    """
    world = let_in(world, host)
    if (row := world.row(name)) is None:
        return world
    world = with_row(world, row._replace(status=ATTACHING, host=host))
    return world._replace(status="attaching")


def complete(world: World, row: Row) -> World:
    """``os-complete``: the row attached, the volume in-use."""
    return with_row(world, row._replace(status=ATTACHED))._replace(status="in-use")


def delete_attachment(world: World, row: Row) -> World:
    """``DELETE /attachments/{id}`` that goes well; the backend is not asked of a reserved row."""
    if row.status != RESERVED and row.host:
        world = terminate(world, row.host)
    return drop(world, row.name)


def guarded(world: World, row: Row) -> bool:
    """Tell whether Cinder refuses to delete the row, as Nova uses it (CVE-2023-2088)."""
    server = world.server(row.server)
    return row.status != RESERVED and not server.gone and server.device == row.name


def land(world: World, late: Late) -> World:
    """Let a late call act. Cinder's API has given it up: no row is dropped by it."""
    calls = list(world.late)
    calls.remove(late)
    world = world._replace(late=tuple(calls))
    if late.kind == INIT:
        return initialize(world, late.host, late.row)
    return terminate(world, late.host)


def hang(world: World, late: Late) -> World:
    """Let a call hang: its caller gives it up, and it may still act."""
    return world._replace(late=tuple(sorted([*world.late, late])))
