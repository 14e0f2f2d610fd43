"""``detachd fence``: on a real ledger and a driver that fences, as a person gives the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.app import main
from consumer.ledger import Ledger
from consumer.ledger.periodic.fences import FenceState
from drivers.base import Fences
from drivers.errors import IndeterminateError
from drivers.rbd import RbdDriver
from tests.unit.consumer.ledger.periodic.test_fences import ADDRESS, BACKEND, made

Ask = Callable[..., tuple[int, str, str]]
OTHER = "192.0.2.1:0/2002"
UNTIL = datetime(2029, 11, 28, 12, 0, tzinfo=UTC)


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``detachd fence``; return exit code, stdout and stderr."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = kombu+memory:////\n"
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        "[simulator]\naddress = 127.0.0.1:1\nauthkey = key\n"
        f"[backend_defaults]\ndriver = simulator\n[backend:{BACKEND}]\ndriver = rbd\n"
    )

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["fence", *words, "--config-file", str(path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    """Give whom a cluster refuses, to which the driver goes instead of Ceph."""
    refused = {ADDRESS: UNTIL, OTHER: UNTIL}

    def lift(_: RbdDriver, address: str, *, timeout_seconds: float) -> Fences:
        del timeout_seconds
        refused.pop(address, None)
        return Fences("fsid-1", dict(refused))

    monkeypatch.setattr(RbdDriver, "lift_fence", lift)
    return refused


def listed(ask: Ask, *words: str) -> list[dict[str, Any]]:
    """Return what the list holds for programs."""
    found: list[dict[str, Any]] = json.loads(ask("list", *words, "-f", "json")[1])
    return found


def test_list_and_lift(ledger: Ledger, ask: Ask, cluster: dict[str, datetime]) -> None:
    """A fence stands, and is lifted -> that client alone is let in; on record who and why."""
    number = made(ledger)
    (row,) = listed(ask)
    assert (row["Fence"], row["State"], row["Client"], row["Host"]) == (
        number, "standing", ADDRESS, "compute1",
    )  # fmt: skip
    code, out, _ = ask("lift", str(number), "--reason", "started anew", "--actor", "anna")
    assert (code, out) == (0, f"lifted the fence of {ADDRESS}\n")
    assert set(cluster) == {OTHER}
    assert listed(ask) == []
    (row,) = listed(ask, "--all")
    assert (row["State"], row["Ended by"], row["Why"]) == ("over", "anna", "started anew")


def test_a_cluster_without_an_answer(
    ledger: Ledger, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster gives no answer -> said; not lifted on record, and nobody makes it again."""
    number = made(ledger)

    def silent(_: RbdDriver, address: str, *, timeout_seconds: float) -> Fences:
        raise IndeterminateError(f"no answer about {address} in {timeout_seconds:g} s")

    monkeypatch.setattr(RbdDriver, "lift_fence", silent)
    code, _, err = ask("lift", str(number), "--reason", "started anew")
    assert code != 0
    assert "was not lifted: no answer" in err
    assert ledger.fences.one(number).state is FenceState.LIFTING
    (row,) = listed(ask)
    assert (row["State"], row["Trouble"]) == ("lifting", err.strip().removeprefix("detachd: "))


@pytest.mark.usefixtures("cluster")
def test_a_backend_that_is_another_cluster_by_now(ledger: Ledger, ask: Ask) -> None:
    """The backend was given another cluster, which has no such fence -> said, and not lifted."""
    number = made(ledger)
    ledger.fences.seen(number, "fsid-0", UNTIL)
    code, _, err = ask("lift", str(number), "--reason", "started anew")
    assert code != 0
    assert "is in cluster fsid-0: remove it there" in err
    assert "remove it there" in listed(ask)[0]["Trouble"]
    assert ledger.fences.one(number).state is FenceState.LIFTING


@pytest.mark.usefixtures("cluster", "ledger")
def test_a_fence_that_is_not_there(ask: Ask) -> None:
    """No fence has the number -> said, with where to look."""
    code, _, err = ask("lift", "7", "--reason", "it is gone")
    assert code != 0
    assert "there is no fence 7; `detachd fence list` shows them" in err
