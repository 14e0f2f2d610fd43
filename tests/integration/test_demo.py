"""`make demo`'s command as it is, the whole service in it."""

from __future__ import annotations

import json

import pytest

from consumer.cli.app import main
from consumer.demo import performance


def test_every_scene_comes_out_as_it_must(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ten scenes on embedded parts -> the five use cases mended, the look-alikes left alone."""
    monkeypatch.setattr(performance, "PATIENCE_SECONDS", 90.0)
    code = main(["demo", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row for row in rows if not row["ok"]] == []
    assert code == 0
    names = [row["scenario"] for row in rows]
    assert [name.split()[0] for name in names[:5]] == ["UC1", "UC2", "UC3", "UC4", "UC5"]
    assert len([name for name in names if name.startswith("healthy")]) == 3
    for row in rows:
        if row["scenario"].startswith("UC"):
            assert row["announced"][0] == "volume.force_detach.start"
            assert row["verified_by"] == "probe"
    untouched = [row for row in rows if row["verdict"] in ("healthy", "in-flight", "park")]
    assert [row["steps"] for row in untouched] == [[]] * 3
