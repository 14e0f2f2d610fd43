"""``detachd quarantine ...`` on kombu's in-memory broker and a real ledger.

What is left on the queue, and what happens when the command is killed, is shown on RabbitMQ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.cli.app import main
from consumer.intake.listener import Listener
from consumer.ledger import BodyState, Ledger
from tests.bus import MEMORY, Peer, forget_memory, new_ledger, settings

Captured = pytest.CaptureFixture[str]
Run = Callable[..., tuple[int, str, str]]
REPLAY, QUARANTINE = "detachd.replay", "detachd.quarantine"
BROKEN = b'{"event_type": "volume.attach.start", "auth_password": "swordfish"}'
WHY = ("--reason", "the parser is mended", "--actor", "alice")


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give an empty in-memory broker."""
    forget_memory()
    with Peer(MEMORY) as made:
        made.declare("cinder")
        yield made
    forget_memory()


@pytest.fixture
def ledger(tmp_path: Path, peer: Peer) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def quarantine(ledger: Ledger, peer: Peer) -> Iterator[Callable[..., str]]:
    """Have the listener quarantine a body; return its hash."""
    listener = Listener(settings(MEMORY), ledger)
    listener.run_once()

    def put(body: bytes = BROKEN) -> str:
        peer.put(body, "cinder", "notifications.info")
        assert listener.run_once() == 1
        return hashlib.sha256(body).hexdigest()

    yield put
    listener.close()


@pytest.fixture
def run(tmp_path: Path, capsys: Captured) -> Run:
    """Run ``detachd`` with that broker and ledger; return exit code, stdout and stderr."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {MEMORY}\n"
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        "[backend_defaults]\ndriver = simulator\n"
    )

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--config-file", str(path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_command


def listed(run: Run, *words: str) -> list[dict[str, Any]]:
    """Return what the list shows to programs."""
    code, out, _ = run("quarantine", "list", "-f", "json", *words)
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)
    return found


# -- list and show ---------------------------------------------------------------------------------


def test_listed_for_programs(run: Run, quarantine: Callable[..., str]) -> None:
    """Two bodies, one of them twice -> the whole hash and plain values, the last one first."""
    quarantine()
    other = quarantine(b"{")
    body = quarantine()
    first, second = listed(run)
    assert (first["Hash"], first["Times"], second["Hash"]) == (body, 2, other)
    assert first["State"] == "held"
    assert first["Bus"] == "default"
    assert first["Routing key"] == "notifications.info"
    assert first["Size"] == len(BROKEN)
    assert "payload" in first["Reason"]
    assert first["First seen"] <= first["Last seen"]
    assert [body["Hash"] for body in listed(run, "--limit", "1")] == [body]
    assert listed(run, "--state", "discarded") == []


@pytest.mark.parametrize("form", ["table", "csv", "value", "yaml"])
def test_listed_as_openstack_s_clients_do(
    run: Run, quarantine: Callable[..., str], form: str
) -> None:
    """The other formats -> the same body, for people by the beginning of its hash."""
    body = quarantine()
    code, out, err = run("quarantine", "list", "-f", form)
    assert (code, err) == (0, "")
    assert body[:12] in out
    assert (body in out) is (form != "table")


def test_shown(run: Run, quarantine: Callable[..., str]) -> None:
    """One by the beginning of its hash -> all that is known, and no secret."""
    body = quarantine()
    code, out, _ = run("quarantine", "show", body[:8], "-f", "yaml")
    shown = yaml.safe_load(out)
    assert code == 0
    assert (shown["body_sha256"], shown["state"], shown["decided_by"]) == (body, "held", None)
    assert "volume.attach.start" in shown["excerpt"]
    assert "swordfish" not in out


@pytest.mark.parametrize("command", ["show", "replay", "discard"])
def test_unknown_hash_is_bad_input(
    run: Run, quarantine: Callable[..., str], peer: Peer, command: str
) -> None:
    """A hash that is none's, beside one that is -> exit 2, told which, nothing is done."""
    body = quarantine()
    words = ["quarantine", command, "ffffffff"]
    words += [body] if command != "show" else []
    words += ["--reason", "x"] if command == "discard" else []
    code, out, err = run(*words)
    assert (code, out, err) == (
        2,
        "",
        "detachd: there is no quarantined body ffffffff; `detachd quarantine list` shows them\n",
    )
    assert peer.take_all(QUARANTINE) == [BROKEN]


# -- replay and discard ----------------------------------------------------------------------------


def test_replayed(run: Run, quarantine: Callable[..., str], peer: Peer, ledger: Ledger) -> None:
    """One that came twice -> once on the replay queue, as it was, with who, why and its origin."""
    quarantine()
    body = quarantine()
    assert run("quarantine", "replay", body[:8], *WHY) == (
        0, f"replayed {body[:12]} (2 copies)\n", "",
    )  # fmt: skip
    assert peer.take_all(QUARANTINE) == []
    message = peer.take(REPLAY)
    assert message.body == BROKEN
    assert message.headers == {
        "x-detachd-bus": "default",
        "x-detachd-exchange": "cinder",
        "x-detachd-routing-key": "notifications.info",
        "x-detachd-replay-actor": "alice",
        "x-detachd-replay-reason": "the parser is mended",
    }
    assert message.properties["message_id"]
    assert peer.take(REPLAY) is None
    known = ledger.quarantined_body(body)
    assert (known.state, known.decided_by, known.decision) == (
        BodyState.REPLAYED, "alice", "the parser is mended",
    )  # fmt: skip


def test_all_that_are_held(
    run: Run, quarantine: Callable[..., str], peer: Peer, ledger: Ledger
) -> None:
    """--all -> every held body, and one that the ledger does not know yet."""
    known = {quarantine(), quarantine(b"{")}
    unknown = b"not on record yet"
    peer.put(unknown, "", QUARANTINE)
    code, out, err = run("quarantine", "replay", "--all")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    assert sorted(peer.take_all(REPLAY)) == sorted([BROKEN, b"{", unknown])
    assert {b.body_sha256 for b in ledger.quarantined(state=BodyState.REPLAYED)} == known


def test_body_that_is_gone(
    run: Run, quarantine: Callable[..., str], peer: Peer, ledger: Ledger
) -> None:
    """The queue has dropped it -> exit 1, said in words, and it stays held."""
    body = quarantine()
    peer.take_all(QUARANTINE)
    code, out, err = run("quarantine", "replay", body)
    assert (code, out) == (1, "")
    assert err == (
        f"detachd: {body[:12]}: the message is no longer in the quarantine queue: the broker "
        "dropped it when the queue was full, or another client took it; it cannot be replayed\n"
    )
    assert ledger.quarantined_body(body).state is BodyState.HELD


def test_discarded(run: Run, quarantine: Callable[..., str], peer: Peer, ledger: Ledger) -> None:
    """A body discarded -> off the queue, with who and why on record; not by --all afterwards."""
    body = quarantine()
    assert run("quarantine", "discard", body, *WHY) == (0, f"discarded {body[:12]}\n", "")
    assert peer.take_all(QUARANTINE) == []
    known = ledger.quarantined_body(body)
    assert (known.state, known.decided_by) == (BodyState.DISCARDED, "alice")
    assert run("quarantine", "replay", "--all") == (0, "", "")


def test_gone_can_be_discarded(
    run: Run, quarantine: Callable[..., str], peer: Peer, ledger: Ledger
) -> None:
    """The queue has dropped it, discarded all the same -> off the list of what is held."""
    body = quarantine()
    peer.take_all(QUARANTINE)
    code, _, err = run("quarantine", "discard", body, *WHY)
    assert code == 0
    assert "it is recorded as discarded" in err
    assert ledger.quarantined_body(body).state is BodyState.DISCARDED


def test_comes_again_after_all(run: Run, quarantine: Callable[..., str], ledger: Ledger) -> None:
    """Discarded, and the same body comes again -> held again."""
    body = quarantine()
    run("quarantine", "discard", body, *WHY)
    quarantine()
    assert ledger.quarantined_body(body).state is BodyState.HELD


@pytest.mark.parametrize(
    "words",
    [["replay"], ["replay", "--all", "abcd"], ["discard", "abcd"], ["show"]],
    ids=" ".join,
)
def test_wrong_usage(words: list[str], capsys: Captured) -> None:
    """Nothing named, both named, no reason -> exit 2 and no traceback."""
    assert main(["quarantine", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err
