"""What a file with messages holds."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from consumer.intake.bodies import UnreadableInputError, read, split, unwrap


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(b'{"a": 1}\n', b'{"a": 1}\n', id="one line -> one document"),
        pytest.param(b'{\n "a": 1\n}', b'{\n "a": 1\n}', id="over several lines -> one document"),
        pytest.param(b"{\n broken", b"{\n broken", id="broken over several -> one document"),
        pytest.param(b'{"a": 1}\n\n{"b": 2}\n', [b'{"a": 1}', b'{"b": 2}'], id="two -> a list"),
        pytest.param(b'{"a": 1}\nnonsense', [b'{"a": 1}', b"nonsense"], id="one broken -> a list"),
        pytest.param(b"\n \n", [], id="blank -> nothing"),
    ],
)
def test_split(text: bytes, found: object) -> None:
    """A text -> one document, or one a line."""
    assert split(text) == found


@pytest.mark.parametrize(
    ("document", "body"),
    [
        pytest.param(b'{"routing_key": "x", "body": "{}"}', b"{}", id="text in a record"),
        pytest.param(b'{"body": {"a": 1}}', b'{"a":1}', id="object in a record"),
        pytest.param(b'{"event_type": "e", "body": "x"}', None, id="a message with a body"),
        pytest.param(b'{"a": 1}', None, id="no record"),
        pytest.param(b"[1]", None, id="no object"),
        pytest.param(b"\xff\x00", None, id="no JSON"),
    ],
)
def test_unwrap(document: bytes, body: bytes | None) -> None:
    """A record of a delivery -> the body in it; anything else -> itself."""
    assert unwrap(document) == (document if body is None else body)


def test_read_a_file(tmp_path: Path) -> None:
    """A file -> its bytes; one that is not there -> said so, and what to do."""
    path = tmp_path / "messages"
    path.write_bytes(b"\xff{}")
    assert read(str(path)) == b"\xff{}"
    with pytest.raises(UnreadableInputError, match=r"No such file.*or - for standard input"):
        read(str(tmp_path / "no"))


def test_read_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """- -> what comes in on standard input."""
    text = json.dumps({"a": 1}).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    assert read("-") == text
