"""The fixture where the lab cannot run: a skip with the reason, a failure in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.fixtures import installed_lab


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the environment where there is none."""
    monkeypatch.setenv("DETACHD_LAB_CACHE", str(tmp_path))
    monkeypatch.delenv("DETACHD_LAB", raising=False)
    monkeypatch.delenv("CI", raising=False)


def test_skips_with_the_cure() -> None:
    """Not installed, no CI -> skipped, naming the command that installs it."""
    with pytest.raises(pytest.skip.Exception, match="make lab-environment"):
        installed_lab()


def test_skips_with_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched off -> skipped, naming the switch."""
    monkeypatch.setenv("DETACHD_LAB", "off")
    with pytest.raises(pytest.skip.Exception, match="DETACHD_LAB=off"):
        installed_lab()


@pytest.mark.parametrize("switch", ["", "off"])
def test_fails_in_ci(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI=true -> failed, whatever was switched off."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("DETACHD_LAB", switch)
    with pytest.raises(pytest.fail.Exception):
        installed_lab()
