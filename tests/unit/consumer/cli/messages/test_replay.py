"""``detachd replay case|file`` on kombu's in-memory broker and a real ledger."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consumer.cli.app import main
from consumer.ledger import Ledger
from tests.bus import MEMORY, Peer, forget_memory
from tests.recorded import FAILED_ATTACH, SAMPLES, recording
from tests.services.ports import free_port
from tests.unit.consumer.due import only_case, open_case

Captured = pytest.CaptureFixture[str]
Run = Callable[..., tuple[int, str, str]]
REPLAY = "detachd.replay"
WHY = ("--reason", "the array is back", "--actor", "alice")


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give an empty in-memory broker."""
    forget_memory()
    with Peer(MEMORY) as made:
        yield made
    forget_memory()


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """Write a configuration file with that broker and that ledger."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {MEMORY}\n"
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        "[backend_defaults]\ndriver = simulator\n"
    )
    return path


@pytest.fixture
def run(configuration: Path, capsys: Captured) -> Run:
    """Run ``detachd`` with it; return exit code, stdout and stderr."""

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--config-file", str(configuration)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_command


def case_of(ledger: Ledger) -> str:
    """Open a case; return its id."""
    return only_case(ledger, open_case(ledger)).case.case_id


def waiting(peer: Peer) -> list[Any]:
    """Take every replay that waits on the queue."""
    return list(iter(lambda: peer.take(REPLAY), None))


# -- replay case -----------------------------------------------------------------------------------


def test_cases_are_sent(run: Run, ledger: Ledger, peer: Peer) -> None:
    """Two cases, one of them by its beginning and twice -> an order for each, under its own id."""
    first, second = case_of(ledger), case_of(ledger)
    code, out, err = run("replay", "case", first[:13], second, first, *WHY)
    assert (code, err) == (0, "")
    assert out == f"queued case {first} for replay\nqueued case {second} for replay\n"
    messages = waiting(peer)
    orders = [json.loads(message.body) for message in messages]
    assert orders == [
        {"case": case, "actor": "alice", "reason": "the array is back"} for case in (first, second)
    ]
    assert len({message.properties["message_id"] for message in messages}) == 2


def test_unknown_case_is_bad_input(run: Run, ledger: Ledger, peer: Peer) -> None:
    """One of the ids is no case's -> exit 2, told which, and none is sent."""
    known = case_of(ledger)
    code, out, err = run("replay", "case", known, "00000000", *WHY)
    assert (code, out, err) == (
        2,
        "",
        "detachd: there is no case 00000000; `detachd case list` shows them\n",
    )
    assert waiting(peer) == []


def test_reason_is_asked_for(run: Run, capsys: Captured) -> None:
    """No --reason -> exit 2."""
    assert main(["replay", "case", "0b7f9a52"]) == 2
    assert "--reason" in capsys.readouterr().err


def test_ledger_that_cannot_be_asked(run: Run, peer: Peer) -> None:
    """No ledger there -> said, and the ids are sent as they were given."""
    code, out, err = run("replay", "case", "0b7f9a52", *WHY)
    assert (code, out) == (0, "queued case 0b7f9a52 for replay\n")
    assert err.startswith("detachd: the ids are queued unchecked: There is no ledger at sqlite:")
    assert [json.loads(message.body)["case"] for message in waiting(peer)] == ["0b7f9a52"]


def test_broker_that_is_away(run: Run, configuration: Path, ledger: Ledger) -> None:
    """No broker -> exit 1, in words, without the password; nothing is claimed to be sent."""
    url = f"rabbit://detachd:swordfish@127.0.0.1:{free_port()}/"
    configuration.write_text(configuration.read_text().replace(MEMORY, url))
    code, out, err = run("replay", "case", case_of(ledger), *WHY)
    assert (code, out) == (1, "")
    assert "Connection refused" in err
    assert (
        "0 of 1 were sent; send the others again when the broker answers: `detachd doctor`" in err
    )
    assert "swordfish" not in err


def test_bad_transport_url(run: Run, configuration: Path, ledger: Ledger) -> None:
    """A URL that is none -> exit 2, what to write instead, nothing of it repeated."""
    configuration.write_text(configuration.read_text().replace(MEMORY, "kafka://u:swordfish@h/"))
    code, out, err = run("replay", "case", case_of(ledger), *WHY)
    assert (code, out) == (2, "")
    assert "rabbit://" in err
    assert "swordfish" not in err


# -- replay file -----------------------------------------------------------------------------------


def test_one_message(run: Run, peer: Peer, tmp_path: Path) -> None:
    """A file with one bare message -> sent as it is, with who and why in its headers."""
    start = next(m for m in recording(FAILED_ATTACH) if m.event_type == "volume.attach.start")
    path = tmp_path / "message.json"
    path.write_text(json.dumps(start.message, indent=1))
    assert run("replay", "file", str(path), *WHY) == (0, "queued for replay: 1\n", "")
    (message,) = waiting(peer)
    assert json.loads(message.body) == start.message
    assert message.headers["x-detachd-replay-actor"] == "alice"
    assert message.headers["x-detachd-replay-reason"] == "the array is back"


def test_recording_as_it_was_taken(run: Run, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON lines of a whole recording on stdin -> the bodies that concern an attachment."""
    text = (SAMPLES / f"{FAILED_ATTACH}.jsonl").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    code, out, _ = run("replay", "file", "-")
    wanted = [m for m in recording(FAILED_ATTACH) if not m.event_type.startswith("volume.create")]
    assert (code, out) == (0, f"queued for replay: {len(wanted)}\n")
    messages = waiting(peer)
    assert [message.body for message in messages] == [m.body for m in wanted]
    assert {m.headers["x-detachd-replay-reason"] for m in messages} == {"replayed from a file"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "there is nothing to replay: the input is empty", id="empty"),
        pytest.param('{"case": 7}', 'message 1: "case" is not the id of a case', id="no id"),
        pytest.param(
            f'{recording(FAILED_ATTACH)[5].body.decode()}\nnonsense\n{{"a": 1}}',
            "message 2: the body is not JSON",
            id="one broken among good ones",
        ),
        pytest.param(
            recording(FAILED_ATTACH)[0].body.decode(),
            "there is nothing to replay: volume.create.start cannot be replayed",
            id="of no concern",
        ),
    ],
)
def test_what_cannot_be_replayed(
    run: Run, peer: Peer, tmp_path: Path, text: str, expected: str
) -> None:
    """A file that holds something unusable -> exit 2, told what, and none of it is sent."""
    path = tmp_path / "messages"
    path.write_text(text)
    code, out, err = run("replay", "file", str(path))
    assert (code, out) == (2, "")
    assert expected in err
    assert waiting(peer) == []


def test_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    """No such file -> exit 2, and what to do."""
    code, _, err = run("replay", "file", str(tmp_path / "no"))
    assert code == 2
    assert "name a file that can be read, or - for standard input" in err
