"""Arbitrary cases and arbitrary evidence, likely and absurd, from few ids so that they collide."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from drivers.base import Capabilities, ClientInstance, Connection, Reach
from drivers.control_plane import Swap
from handlers.case import Intent, StepKind, StepResult
from handlers.judgement.evidence import Fact, Holding, Unknown
from handlers.judgement.policy import BackendPolicy, LateAttach, Mode
from handlers.notification import Operation
from tests.unit.handlers.judgement import acting_pictures as acting
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    H2,
    H3,
    OPENED_AT,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    client,
    connector,
    ip,
    server,
)
from tests.unit.handlers.judgement.writer_pictures import SHARED, SHUT_OUT, TWO

C = "attachment-c"
GHOSTS = (acting.GHOST, acting.GHOST_HELD)
BASES = (
    acting.UC1, acting.UC1_RESERVED, acting.UC1_LEGACY, acting.UC2, acting.UC2_LATE, acting.UC3,
    acting.COMPLETED, acting.UC4, acting.ROLLED, acting.UC5, acting.HELD, acting.BESIDE,
    acting.STRAY, acting.LEFT, acting.MOVED_BACK, acting.ONE_DELETED, acting.ONE_LET_GO,
    acting.ATTACHED, acting.SHELVED, acting.MIGRATING, acting.ENDED, *GHOSTS, TWO,
    SHARED, SHUT_OUT, Picture(),
)  # fmt: skip
LEARNED = ClientInstance(f"{ip(H1)}:0/1001", "client.1", 7, OPENED_AT)
OF_CLIENTS = tuple(
    picture.but(addressed=True, learned=((A, LEARNED),), backend=(client(H1, 1, 7),))
    for picture in (acting.UC1, acting.UC3, acting.ENDED, acting.ONE_DELETED, acting.ATTACHED)
)
"""On a backend that knows clients, of which one was learned."""

hosts = st.sampled_from([H1, H2, H3])
ids = st.sampled_from([A, B, C])
instances = st.sampled_from([X, Y])
statuses = st.sampled_from(["available", "attaching", "in-use", "detaching", "reserved"])
any_statuses = statuses | st.sampled_from(
    ["error", "maintenance",
     "backing-up", "uploading", "deleting", "awaiting-transfer", "error_extending", "new-status"]
)  # fmt: skip
attachment_statuses = st.sampled_from(
    ["attached", "attaching", "reserved", "detaching", "error_attaching", "error_detaching"]
)
attachments = st.lists(
    st.builds(
        attachment,
        ids,
        attachment_statuses,
        st.none() | instances,
        info=st.booleans(),
        host=st.none() | hosts,
    ),
    max_size=3,
    unique_by=lambda r: r.attachment_id,
).map(tuple)


@st.composite
def servers(draw: st.DrawFn) -> tuple[object, ...]:
    """Draw at most two servers with any block devices, in any state."""
    made = []
    for instance_id in draw(st.lists(instances, max_size=2, unique=True)):
        names = draw(st.lists(st.none() | ids | st.just("dead"), max_size=2))
        facts = {
            "vm_state": draw(st.sampled_from(["active", "stopped", "error", "shelved_offloaded"])),
            "task_state": draw(st.sampled_from([None, None, None, "migrating"])),
            "host": draw(st.none() | hosts),
            "compute_up": draw(st.sampled_from([True, True, True, False, None])),
            "launched": draw(st.sampled_from([True, True, False])),
        }
        made.append(server(instance_id, *names, **facts))
    return tuple(made)


connections = st.builds(
    Connection,
    name=st.sampled_from([access(h).name for h in (H1, H2, H3)] + ["stranger"]),
    host=st.none() | hosts,
    access=st.booleans(),
    sessions=st.sampled_from([0, 0, 1, 2, None]),
) | st.builds(client, hosts, st.integers(1, 2), st.sampled_from([7, 8]))
backends = (
    st.lists(connections, max_size=3).map(tuple) | st.just(UNSEEN) | st.just(BLIND) | st.just(())
)
holdings = st.builds(
    Holding,
    hosts,
    st.sampled_from([True, True, False, None]),
    st.sampled_from(
        [Fact(()), Fact(()), Fact((X,)), Fact((X, Y)), Unknown("Nova: no answer"), None]
    ),
)
intents = st.lists(
    st.builds(
        Intent,
        st.sampled_from(StepKind),
        st.sampled_from(StepResult),
        st.just("req-1"),
        st.integers(1, 5),
        st.none() | ids,
        st.none() | st.integers(0, 3000).map(lambda s: OPENED_AT + timedelta(seconds=s)),
    ),
    max_size=5,
).map(tuple)

FACTS: dict[str, st.SearchStrategy[object]] = {
    "status": any_statuses,
    "migration": st.sampled_from([None, None, "success", "migrating", "target:x"]),
    "attachments": attachments,
    "servers": servers(),
    "gone": st.lists(instances, max_size=1).map(tuple),
    "stranger": st.lists(instances, max_size=1).map(tuple),
    "unseen": st.lists(instances, max_size=1).map(tuple),
    "backend": backends,
    "ended": st.lists(st.tuples(instances, hosts), max_size=1).map(tuple),
    "computes": st.lists(st.tuples(hosts, st.booleans()), max_size=1).map(tuple),
    "known": st.lists(hosts, unique=True, max_size=3).map(tuple),
    "multiattach": st.booleans(),
    "shared_targets": st.booleans(),
    "hosts_known": st.booleans(),
    "holding": st.none() | holdings,
    "elsewhere": st.lists(holdings, max_size=2).map(tuple),
    "asked": st.booleans(),
    "protocol": st.sampled_from([None, None, Fact("iscsi"), Fact("scaleio"), Unknown("?")]),
    "addressed": st.booleans(),
    "learned": st.lists(
        st.tuples(
            ids,
            st.builds(
                ClientInstance,
                hosts.map(lambda host: f"{ip(host)}:0/1001"),
                st.sampled_from(["client.1", "client.2"]),
                st.sampled_from([7, 8]),
                st.just(OPENED_AT),
            ),
        ),
        max_size=2,
        unique_by=lambda pair: pair[0],
    ).map(tuple),
    "reach": st.sampled_from(
        [
            None,
            None,
            Fact(Reach((), 0)),
            Fact(Reach(("image-2",), 0)),
            Fact(Reach(("image-2",), 1)),
            Fact(Reach((), 9, whole_host=True)),
            Unknown("no answer"),
        ]
    ),
    "swapping": st.sampled_from([None, None, *map(Fact, Swap), Unknown("Nova: no answer")]),
    "service_up": st.booleans(),
    "operation": st.sampled_from(Operation),
    "attachment_id": st.none() | ids,
    "instance_id": st.none() | instances,
    "host": st.none() | hosts,
    "attempts": st.integers(1, 6),
    "failures": st.integers(0, 9),
    "mended_attempt": st.integers(0, 5),
    "late_attach": st.sampled_from(LateAttach),
    "end_seen": st.booleans(),
    "released_unasked": st.booleans(),
    "starts": st.integers(0, 2),
    "connector": st.none() | hosts.map(connector),
    "intents": intents,
    "approved_fingerprint": st.none() | st.just("a fingerprint"),
    "approved_at": st.none() | st.just(OPENED_AT),
    "first_clean_at": st.none() | st.just(OPENED_AT),
    "mended_at": st.none() | st.just(OPENED_AT),
}


@st.composite
def pictures(draw: st.DrawFn, bases: tuple[Picture, ...] = BASES) -> Picture:
    """Draw a picture: one on which something is known to happen, with some facts changed, or all.

    Wholly arbitrary evidence seldom makes a rule act; evidence that is nearly right often does.
    """
    if draw(st.integers(0, 4)) == 0:
        return Picture().but(**{name: draw(facts) for name, facts in FACTS.items()})
    base = draw(st.sampled_from(bases))
    changed = draw(st.lists(st.sampled_from(sorted(FACTS)), max_size=3, unique=True))
    return base.but(**{name: draw(FACTS[name]) for name in changed})


def unwanted(picture: Picture) -> bool:
    """Tell whether we completed the attach, and the operator wants such detached: bare facts."""
    s = picture.situation
    attachment = s.attachment.attachment_id if s.attachment else None
    kinds = [
        i.kind for i in s.case.intents if attachment is not None and i.attachment_id == attachment
    ]
    unheard = picture.late_attach is LateAttach.DETACH and not s.case.end_seen
    return unheard and StepKind.CINDER_COMPLETE in kinds


by_client = st.builds(
    Capabilities,
    sees_connections=st.just(True),
    sees_hosts=st.just(True),
    sees_sessions=st.just(True),
    ends_sessions=st.booleans(),
    by_learned_client=st.just(True),
)
capabilities = (
    st.builds(
        Capabilities,
        sees_connections=st.booleans(),
        revokes_access=st.booleans(),
        ends_sessions=st.booleans(),
        acts_through_cinder=st.booleans(),
        accepts_no_connector=st.booleans(),
    )
    | by_client
)
policies = st.builds(
    BackendPolicy,
    mode=st.sampled_from(Mode),
    trust_blind=st.booleans(),
    allow_no_connector=st.booleans(),
)
moments = st.integers(0, 3 * 86400).map(lambda s: OPENED_AT + timedelta(seconds=s))
