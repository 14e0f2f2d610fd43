"""Cases whose backend no message named: Cinder's first answer says which, and that is kept."""

from __future__ import annotations

import pytest

from drivers.errors import IndeterminateError
from drivers.simulator import DEFAULT_BACKEND, Cloud, Fault, scenes
from handlers.case import CaseState, CrowdedError
from tests.unit.handlers.recovery.stuck import ATTACH
from tests.unit.handlers.recovery.trial import CrashError, Trial, recovery_on


class Full(Trial):
    """A trial whose backend has no room for one more case."""

    def locate(self, backend: str) -> None:
        """Write it down, and refuse to go on."""
        super().locate(backend)
        raise CrowdedError


class Dying(Trial):
    """A trial whose process dies as soon as it is written."""

    def locate(self, backend: str) -> None:
        """Write it down, and die."""
        super().locate(backend)
        raise CrashError


def test_backend_is_on_record_before_it_is_asked(cloud: Cloud) -> None:
    """The process dies right after Cinder's answer -> the backend is kept, and was not asked."""
    trial = Dying(scenes.uc1(cloud), ATTACH, backend=None)
    assert trial.attempt(recovery_on(cloud)) is None
    assert trial.kept.backend == DEFAULT_BACKEND
    assert cloud.calls("driver.observe") == ()


def test_case_without_room_ends_before_anything_is_asked_or_meant(cloud: Cloud) -> None:
    """The backend has as many cases as it may -> no further question, no intent, no write."""
    trial = Full(scenes.uc1(cloud), ATTACH, backend=None)
    with pytest.raises(CrowdedError):
        recovery_on(cloud).attempt(trial)
    assert [call.name for call in cloud.calls()] == ["cinder.volume"]
    assert trial.kept.intents == ()
    assert trial.announced == []


def test_backend_is_told_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole case, of many looks -> the backend is written down at the first alone."""
    trial = Trial(scenes.uc1(cloud), ATTACH, backend=None)
    heard: list[str] = []
    write = trial.locate

    def locate(backend: str) -> None:
        heard.append(backend)
        write(backend)

    monkeypatch.setattr(trial, "locate", locate)
    assert trial.run(recovery_on(cloud)).state is CaseState.CLOSED
    assert heard == [DEFAULT_BACKEND]


def test_backend_stays_unknown_where_cinder_does_not_answer(cloud: Cloud) -> None:
    """Cinder gives no answer -> nothing is written down, and the next attempt asks again."""
    trial = Trial(scenes.uc1(cloud), ATTACH, backend=None)
    cloud.script(Fault.before("cinder.volume", IndeterminateError))
    outcome = trial.attempt(recovery_on(cloud))
    assert outcome is not None
    assert outcome.rule == "X1.cinder-unknown"
    assert trial.kept.backend is None
