"""Evidence as history keeps it: plain JSON, the four answers told apart, nothing lost of a look."""

from __future__ import annotations

import json

import pytest

from handlers.judgement.approval import fingerprint
from handlers.judgement.diagnosis import diagnose
from handlers.judgement.evidence import Absent, Evidence, Holding, Unknown
from handlers.judgement.guards import Means, objections
from handlers.judgement.plan import make_plan
from handlers.judgement.policy import BackendPolicy
from handlers.recovery.summary import Judged, summarise
from tests.unit.handlers.judgement.acting_pictures import BESIDE, GHOST, UC1, UC5
from tests.unit.handlers.judgement.ghost_pictures import GHOSTS
from tests.unit.handlers.judgement.pictures import (
    BLIND,
    H1,
    NOW,
    SEEING,
    UNSEEN,
    Picture,
    X,
    Y,
    holding,
    server,
)
from tests.unit.handlers.judgement.situations import ACTING_AND_HEALTHY
from tests.unit.handlers.judgement.situations_of_others import NOT_FOR_US


def summary(picture: Picture) -> dict[str, object]:
    """Return a picture's summary after a journey through JSON."""
    steps = make_plan(picture.diagnosis, SEEING)
    made = summarise(picture.evidence, picture.diagnosis, steps)
    back: dict[str, object] = json.loads(json.dumps(made))
    assert back == made
    return back


@pytest.mark.parametrize(
    "picture",
    [p for _, p, _ in (*ACTING_AND_HEALTHY, *NOT_FOR_US, *GHOSTS)],
    ids=[words for words, _, _ in (*ACTING_AND_HEALTHY, *NOT_FOR_US, *GHOSTS)],
)
def test_every_situation_is_plain_json(picture: Picture) -> None:
    """Any look -> it comes back from JSON as it went in, with its rule and its verdict."""
    made = summary(picture)
    assert made["rule"] == picture.diagnosis.rule
    assert made["verdict"] == picture.diagnosis.verdict.value
    assert {"cinder", "nova", "backend", "reason", "plan"} <= made.keys()


def test_what_cinder_said_is_kept() -> None:
    """A volume -> its status, its backend and its rows."""
    assert summary(UC1)["cinder"] == {
        "status": "attaching", "migration_status": None, "backend": "storage-1@tgt",
        "service_up": True,
        "attachments": [{"attachment_id": "attachment-a", "status": "attaching",
                  "instance_id": "instance-x", "has_connection_info": True, "host": None,
                  "protocol": None, "read_only": False}],
    }  # fmt: skip


def test_each_server_s_answer_is_kept_apart() -> None:
    """One server there, one gone, one not answering -> three different answers."""
    picture = BESIDE.but(servers=(server(X, "a"),), gone=(Y,), unseen=("z",))
    nova = summary(picture)["nova"]
    assert isinstance(nova, dict)
    assert nova[X]["block_devices"] == [{"attachment_id": "a", "device": "/dev/vdb"}]
    assert nova[X]["compute_up"] is True
    assert nova[Y] == {"absent": "Nova has its deletion on record"}
    assert nova["z"] == {"unknown": "Nova: no answer"}


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (
            UC5.but(backend=()),
            {"connections": [], "control": "the daemon answered and has the volume"},
        ),
        (UC5.but(backend=UNSEEN), {"unknown": "backend storage-1@tgt: no answer"}),
        (UC5.but(backend=BLIND), {"blind": "CinderManagedDriver"}),
    ],
    ids=["absent", "unknown", "blind"],
)  # fmt: skip
def test_the_backend_s_answers_are_never_mixed_up(
    picture: Picture, expected: dict[str, object]
) -> None:
    """Nobody there, not seen, cannot see -> three different answers; the control is kept."""
    assert summary(picture)["backend"] == expected


def test_connections_are_kept_with_access_and_sessions() -> None:
    """A host let in -> by which name, with what."""
    backend = summary(UC5)["backend"]
    assert isinstance(backend, dict)
    assert backend["connections"] == [
        {"name": "iqn.2026-01.test:compute-1", "host": None, "address": None, "access": True,
         "sessions": 0}
    ]  # fmt: skip


def test_the_plan_is_kept_step_by_step() -> None:
    """A leak -> its three steps, each with its target."""
    plan = summary(UC5)["plan"]
    assert isinstance(plan, list)
    kinds = [step["step"] for step in plan]
    assert kinds == ["cinder.reserve", "backend.force_detach", "cinder.unreserve"]
    assert {step["host"] for step in plan} == {"compute-1"}


def test_a_volume_that_cinder_did_not_show_is_told_as_that() -> None:
    """Unknown or absent at Cinder -> so, and nothing of the other sides."""
    for answer, key in ((Unknown("no answer"), "unknown"), (Absent("no such volume"), "absent")):
        evidence = Evidence(answer)
        made = summarise(evidence, diagnose(UC1.case, evidence))
        assert list(made["cinder"]) == [key]
        assert made["nova"] == {}
        assert made["backend"] == {"unknown": "not looked at"}


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (None, None),
        (holding(), {"host": H1, "compute_up": True, "holders": []}),
        (holding(X, Y), {"host": H1, "compute_up": True, "holders": [X, Y]}),
        (holding(up=False), {"host": H1, "compute_up": False}),
        (
            Holding(H1, None, Unknown("Nova: half a list")),
            {"host": H1, "compute_up": None, "unknown": "Nova: half a list"},
        ),
    ],
)
def test_what_nova_said_of_a_ghost_s_host_is_kept(told: Holding | None, kept: object) -> None:
    """Who may be using it there -> all of them, nobody, not asked and not known kept apart."""
    assert summary(GHOST.but(holding=told))["holding"] == kept


def test_reason_names_who_may_be_using_a_ghost() -> None:
    """A server of the host has it -> the person who is asked reads which, and where."""
    reason = GHOST.but(holding=holding(X, Y)).diagnosis.reason
    assert reason.endswith(f"(on {H1} by instance {X}, {Y})")
    assert (
        "Nova: half a list"
        in GHOST.but(holding=Holding(H1, None, Unknown("Nova: half a list"))).diagnosis.reason
    )


@pytest.mark.parametrize(
    "picture", [UC1, UC5, BESIDE, GHOST], ids=["UC1", "UC5", "beside", "ghost"]
)
def test_what_explains_a_look_takes_less_than_a_kilobyte(picture: Picture) -> None:
    """Parties, facts, guards and times with ids of real length -> under 1 KiB in each look."""
    steps = make_plan(picture.diagnosis, SEEING)
    mark = fingerprint(picture.diagnosis, steps)
    means = Means(SEEING, BackendPolicy(), NOW, mark)
    judged = Judged(mark, objections(picture.situation, steps, means))
    asked_at = dict.fromkeys(("cinder", "nova", "backend"), NOW)
    made = summarise(picture.evidence, picture.diagnosis, steps, judged=judged, asked_at=asked_at)
    added = {name: made[name] for name in ("asked_at", "facts", "parties", "guards")}
    text = json.dumps(added).replace("attachment-", "a" * 35).replace("instance-", "i" * 35)
    assert len(text) < 1024
