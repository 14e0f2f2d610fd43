"""``detachd notification inspect``: what it prints, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cliff.app import App
from cliff.commandmanager import CommandManager

from consumer.cli.messages.notification import COLUMNS, NotificationInspect
from tests.recordings import SAMPLES, bodies, enveloped, inner, recorded

KEYS = {
    "source", "event_type", "operation", "phase", "volume_id", "instance_id", "attachment_id",
    "request_id", "relevant", "reason",
}  # fmt: skip
B_HANG = "nova-compute/b_hang_60.jsonl"


class Ran:
    """One run of the command: its exit code and what it printed."""

    def __init__(self, *words: str) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        app = App("detachd", "1", CommandManager("none"), stdout=self.out, stderr=self.err)
        command = NotificationInspect(app, None)
        self.code = command.run(command.get_parser("inspect").parse_args(words))

    @property
    def json(self) -> Any:
        """Return what was printed, read as JSON."""
        return json.loads(self.out.getvalue())


def inspected(tmp_path: Path, text: bytes | str) -> Any:
    """Return what the command prints as JSON for a file with this text."""
    file = tmp_path / "input"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    ran = Ran(str(file), "-f", "json")
    assert (ran.code, ran.err.getvalue()) == (0, "")
    return ran.json


def test_one_message_is_one_object() -> None:
    """A file with one JSON document -> one object with exactly the documented keys."""
    name = "nova/attach_fail-1-instance.volume_attach.error.json"
    data = inner(bodies(name)[0])["payload"]["nova_object.data"]
    assert Ran(str(SAMPLES / name), "-f", "json").json == {
        "source": "nova-versioned",
        "event_type": "instance.volume_attach.error",
        "operation": "attach",
        "phase": "error",
        "volume_id": data["volume_id"],
        "instance_id": data["uuid"],
        "attachment_id": None,
        "request_id": data["request_id"],
        "relevant": True,
        "reason": "an error: opens a case, diagnosed soon",
    }


def test_recorded_lines_are_a_list_in_their_order() -> None:
    """A recording of deliveries -> a list, one object a line, each saying what will be done."""
    shown = Ran(str(SAMPLES / B_HANG), "-f", "json").json
    assert [row["event_type"] for row in shown] == [inner(b)["event_type"] for b in bodies(B_HANG)]
    assert all(row.keys() == KEYS for row in shown)
    assert [row["relevant"] for row in shown] == [False] * 2 + [True] * 11
    reasons = {row["event_type"]: row["reason"] for row in shown}
    assert reasons == {
        "volume.create.start": "volume.create.start does not concern an attachment",
        "volume.create.end": "volume.create.end does not concern an attachment",
        "instance.volume_attach.start": "a start: opens a case that waits for the end",
        "volume.attach.start": "a start: opens a case that waits for the end",
        "volume.detach.start": (
            "a reserved row ended without a backend call: opens a case, diagnosed soon"
        ),
        "volume.detach.end": (
            "an end without an attachment id: the cases of its volume are diagnosed earlier"
        ),
        "instance.volume_attach.error": "an error: opens a case, diagnosed soon",
        "attach_volume": "an error: opens a case, diagnosed soon",
        "compute.exception": "an error: detachd finds its operation by the request id",
    }
    assert [row["source"] for row in shown[:3]] == ["cinder", "cinder", "nova-versioned"]
    assert (shown[-1]["operation"], shown[-1]["phase"]) == (None, "error")


def test_an_end_that_names_its_attachment_closes() -> None:
    """The healthy attach's end -> closes the same operation on the same attachment."""
    shown = Ran(str(SAMPLES / "nova-compute/o_healthy.jsonl"), "-f", "json").json
    (end,) = (row for row in shown if row["event_type"] == "volume.attach.end")
    assert end["reason"] == "an end: closes the case of the same operation on the same attachment"
    assert end["attachment_id"].startswith("c0af268e")


def test_every_kind_of_line_may_stand_in_one_stream(tmp_path: Path) -> None:
    """Bare, enveloped, recorded as text, recorded as object, broken, blank -> each on its own."""
    message = recorded("volume.attach.end", "cinder/inuse_new__del.jsonl")
    body = enveloped(message).decode()
    lines = [
        json.dumps(message),
        body,
        json.dumps({"exchange": "cinder", "routing_key": "notifications.info", "body": body}),
        "",
        json.dumps({"exchange": "cinder", "routing_key": "x", "body": json.loads(body)}),
        "not JSON",
        json.dumps({"exchange": "cinder", "body": None}),
        json.dumps({"exchange": "cinder", "body": "not JSON"}),
        json.dumps(message | {"body": "a key of the message's own"}),
        '{"body": ' + "[" * 500 + "]" * 500 + "}",
    ]
    shown = inspected(tmp_path, "\r\n".join(lines) + "\n")
    relevant = [row["relevant"] for row in shown]
    assert relevant == [True, True, True, True, False, False, False, True, False]
    same = [row for row in shown if row["relevant"]]
    assert all(row == same[0] for row in same)
    for row in (row for row in shown if not row["relevant"]):
        assert row.pop("reason")
        assert not row.pop("relevant")
        assert set(row.values()) == {None}
    assert inspected(tmp_path, "\n".join(lines))[4]["reason"].startswith("the body is not JSON")


def test_a_malformed_message_of_an_attachment_says_which_it_is(tmp_path: Path) -> None:
    """A known event without its volume -> not relevant, but source and event type are shown."""
    message = recorded("volume.attach.end", "cinder/inuse_new__del.jsonl")
    message["payload"]["volume_id"] = None
    shown = inspected(tmp_path, json.dumps(message))
    assert (shown["source"], shown["event_type"]) == ("cinder", "volume.attach.end")
    assert (shown["relevant"], shown["volume_id"]) == (False, None)
    assert "payload.volume_id is not a text" in shown["reason"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_message_over_several_lines_is_one_message(tmp_path: Path, indent: int | None) -> None:
    """One JSON document, however it is laid out -> one object."""
    message = recorded("volume.attach.end", "cinder/inuse_new__del.jsonl")
    assert inspected(tmp_path, json.dumps(message, indent=indent) + "\n")["relevant"] is True


def test_a_message_broken_anywhere_is_one_message(tmp_path: Path) -> None:
    """One JSON document whose lines mean nothing by themselves -> one object."""
    assert inspected(tmp_path, '{"event_type":\n"volume.create.end"}')["source"] == "cinder"


def test_a_broken_message_over_several_lines_is_one_broken_message(tmp_path: Path) -> None:
    """A message laid out over lines, one of them broken -> one answer, not one for every line."""
    message = recorded("volume.attach.end", "cinder/inuse_new__del.jsonl") | {"x": float("nan")}
    shown = inspected(tmp_path, json.dumps(message, indent=2))
    assert shown["reason"].startswith("the body is not JSON")


@pytest.mark.parametrize("text", ["not JSON", "[]", "7"])
def test_one_line_that_is_no_message_is_one_object(tmp_path: Path, text: str) -> None:
    """A single line that is no notification -> one object that says so."""
    assert inspected(tmp_path, text)["relevant"] is False


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_no_lines_are_an_empty_list(tmp_path: Path, text: str) -> None:
    """Nothing in the file -> an empty list."""
    assert inspected(tmp_path, text) == []


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """FILE is - -> what stands on standard input is shown."""
    (body,) = bodies("nova/detach_ok-0-instance.volume_detach.start.json")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(body)))
    assert Ran("-", "-f", "json").json["event_type"] == "instance.volume_detach.start"


def test_a_file_that_cannot_be_read_is_one_clear_message(tmp_path: Path) -> None:
    """No such file, or a directory -> one line that names it and the way out, exit 2."""
    for file, cause in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        ran = Ran(str(file), "-f", "json")
        assert (ran.code, ran.out.getvalue()) == (2, "")
        (line,) = ran.err.getvalue().splitlines()
        assert line.startswith(f"detachd: cannot read {file}: {cause}")
        assert "standard input" in line


@pytest.mark.parametrize("lines", [1, 13])
@pytest.mark.parametrize("form", ["table", "csv", "yaml", "value", "json"])
def test_every_format_shows_one_message_and_several(tmp_path: Path, form: str, lines: int) -> None:
    """Each of cliff's formats, one message or a stream -> every message is in it."""
    file = tmp_path / "input"
    text = (SAMPLES / B_HANG).read_text().splitlines(keepends=True)
    file.write_text("".join(text[-lines:]))
    ran = Ran(str(file), "-f", form)
    out = ran.out.getvalue()
    assert ran.code == 0
    assert out.count("finds its operation by the request id") == 1
    assert out.count("opens a case") == (0 if lines == 1 else 9)
    match form:
        case "csv":
            rows = list(csv.reader(io.StringIO(out)))
            assert rows[0] == list(COLUMNS)
            assert len(rows) == lines + 1
        case "yaml" | "json":
            shown = yaml.safe_load(out)
            assert isinstance(shown, dict if lines == 1 else list)


def test_columns_can_be_chosen() -> None:
    """-c event_type -> nothing else is shown, for one message and for several."""
    one = Ran(
        str(SAMPLES / "nova/attach_fail-2-compute.exception.json"), "-f", "json", "-c", "source"
    )
    assert one.json == {"source": "nova-versioned"}
    several = Ran(str(SAMPLES / B_HANG), "-f", "value", "-c", "event_type")
    assert several.out.getvalue().splitlines()[0] == "volume.create.start"


def test_the_columns_are_the_documented_keys() -> None:
    """The columns -> exactly the keys that the documentation promises."""
    assert set(COLUMNS) == KEYS
