"""Whether Cinder, Nova and the backends answer, as /readyz and the log say it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.counting import Answered
from consumer.supervision.observing import Observer
from consumer.supervision.outside import Outside
from consumer.supervision.outside_looks import OutsideLooks
from drivers.errors import OutsideError, TransientError
from drivers.openstack import session
from drivers.openstack.cinder import CinderClient
from drivers.openstack.nova import NovaClient
from drivers.simulator import DEFAULT_BACKEND, Cloud
from handlers.counting import Called
from metrics.exporter import Check
from metrics.instruments import Instruments
from tests.openstack_api import PASSWORD, OpenStackApi, Reply

BACKEND = f"backend:{DEFAULT_BACKEND}"


class Clock:
    """A clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outside(clock: Clock) -> Outside:
    return Outside(clock)


@pytest.fixture
def observer(outside: Outside) -> Observer:
    return Observer(Instruments(), outside=outside)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


def looks(cloud: Cloud, outside: Outside, observer: Observer) -> OutsideLooks:
    """Return looks at the simulated cloud; its driver reports as one that is bounded."""
    return OutsideLooks(
        cloud.cinder, cloud.nova, cloud.driver, (DEFAULT_BACKEND,), outside, observer
    )


def check(outside: Outside, component: str) -> Check:
    """Return the check of one component."""
    (found,) = [one for one in outside.checks() if one.component == component]
    return found


def test_what_was_never_asked_is_no_trouble(outside: Outside) -> None:
    """Nobody has asked yet -> Cinder and Nova are there, ready, and the reason says so."""
    assert [(c.component, c.ok, c.degraded, c.reason) for c in outside.checks()] == [
        ("cinder", True, False, "not asked yet"),
        ("nova", True, False, "not asked yet"),
    ]


def test_a_problem_degrades_until_there_is_an_answer(
    outside: Outside, caplog: pytest.LogCaptureFixture
) -> None:
    """Nova fails three times, then answers -> degraded, then well; the log has two lines."""
    caplog.set_level(logging.INFO)
    for problem in ("no route", "no route", "503"):
        outside.note(Answered("nova", problem))
    assert check(outside, "nova") == Check("nova", ok=True, reason="503", degraded=True)
    outside.note(Answered("nova", None))
    outside.note(Answered("nova", None))
    assert check(outside, "nova") == Check("nova", ok=True, reason="answers")
    assert [r.getMessage() for r in caplog.records] == ["nova: no route", "nova answers again"]


def test_by_what_a_backend_is_reached_is_told_as_long_as_it_answers(outside: Outside) -> None:
    """Its driver tells which cluster it is -> so does the check, also after other answers."""
    outside.note(Answered(BACKEND, None, "cluster 1, through python3"))
    outside.note(Answered(BACKEND, None))
    reason = "answers: cluster 1, through python3"
    assert check(outside, BACKEND) == Check(BACKEND, ok=True, reason=reason)
    outside.note(Answered(BACKEND, "no answer"))
    assert check(outside, BACKEND).reason == "no answer"
    outside.note(Answered(BACKEND, None))
    assert check(outside, BACKEND).reason == reason


def test_hanging_calls_degrade_a_backend_that_answers_others(outside: Outside) -> None:
    """One call hangs while another is answered -> degraded as long as it hangs."""
    outside.note_hanging(DEFAULT_BACKEND, 1, stopped=False)
    outside.note(Answered(BACKEND, None))
    assert check(outside, BACKEND).degraded
    assert "1 calls of its storage driver hang" in check(outside, BACKEND).reason
    outside.note_hanging(DEFAULT_BACKEND, 4, stopped=True)
    assert "not called any more" in check(outside, BACKEND).reason
    outside.note_hanging(DEFAULT_BACKEND, 0, stopped=False)
    assert not check(outside, BACKEND).degraded


@pytest.mark.parametrize(
    ("method", "error", "degraded"),
    [
        ("volume", None, False),
        ("volume", "NotFoundError", False),
        ("volume", "TransientError", True),
        ("volume", "PermanentError", True),
        ("delete_attachment", "PermanentError", False),
        ("delete_attachment", "ConflictError", False),
        ("delete_attachment", "IndeterminateError", True),
    ],
)
def test_the_calls_of_an_attempt_say_how_cinder_is(
    outside: Outside, observer: Observer, method: str, error: str | None, *, degraded: bool
) -> None:
    """A call of an attempt ended -> a refusal is an answer; an outage, or no rights, is none."""
    observer(Called("cinder", method, 0.1, error, error and "its words"))
    assert check(outside, "cinder").degraded is degraded
    if degraded:
        assert check(outside, "cinder").reason == "its words"


def test_one_look_at_each_at_the_start(
    cloud: Cloud, outside: Outside, observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts -> each is asked once, and the log says what it found."""
    caplog.set_level(logging.INFO)
    looks(cloud, outside, observer).look_first()
    assert {call.name for call in cloud.journal} == {
        "cinder.volumes_in", "nova.compute_up", "driver.list_exports",
    }  # fmt: skip
    assert [r.getMessage() for r in caplog.records if "answers" in r.getMessage()] == [
        "cinder answers",
        "nova answers",
    ]


def test_what_others_have_asked_is_not_asked_again(
    cloud: Cloud, clock: Clock, outside: Outside, observer: Observer
) -> None:
    """An attempt has asked Cinder just now -> only Nova is; a minute later both are."""
    looking = looks(cloud, outside, observer)
    observer(Called("cinder", "volume", 0.1, None))
    looking.look_again()
    assert [call.name for call in cloud.journal] == ["nova.compute_up"]
    clock.now += 60.0
    looking.look_again()
    assert [call.name for call in cloud.journal][1:] == ["cinder.volumes_in", "nova.compute_up"]


def test_an_outage_is_noticed_and_its_end_too(
    cloud: Cloud, clock: Clock, outside: Outside, observer: Observer
) -> None:
    """Nova's API stops and starts -> degraded within a minute, and well within another."""
    looking = looks(cloud, outside, observer)
    cloud.set_apis(nova_up=False)
    looking.look_first()
    assert (check(outside, "cinder").degraded, check(outside, "nova").degraded) == (False, True)
    cloud.set_apis()
    looking.look_again()
    assert not check(outside, "nova").degraded


def test_a_backend_is_asked_again_while_it_has_a_problem_and_nothing_hangs(
    cloud: Cloud, outside: Outside, observer: Observer
) -> None:
    """It had a problem -> asked what it exports; while a call of its driver hangs -> not asked."""
    looking = looks(cloud, outside, observer)

    def asked() -> int:
        looking.look_again()
        return len(cloud.calls("driver.list_exports"))

    assert asked() == 0
    observer(Answered(BACKEND, "no route"))
    outside.note_hanging(DEFAULT_BACKEND, 1, stopped=False)
    assert asked() == 0
    outside.note_hanging(DEFAULT_BACKEND, 0, stopped=False)
    assert asked() == 1


class Failing:
    """Cinder and Nova that fail as told."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, _: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise self.error

        return fail


@pytest.mark.parametrize("error", [KeyError("a bug"), TransientError("away")])
def test_no_error_ends_the_looks(
    error: Exception, outside: Outside, observer: Observer, cloud: Cloud
) -> None:
    """A look fails, even by a bug -> it is logged, and the loop goes on."""
    failing: Any = Failing(error)
    OutsideLooks(failing, failing, cloud.driver, (), outside, observer).look_first()
    assert check(outside, "nova").degraded is isinstance(error, OutsideError)


def test_a_wrong_password_is_told_at_the_start_without_the_password(
    tmp_path: Path, outside: Outside, observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    """Keystone says 401 -> /readyz and the log name the section to check, and no password."""
    caplog.set_level(logging.DEBUG)
    with OpenStackApi() as api:
        api.replies["POST /identity/v3/auth/tokens"] = [Reply(401, b"{}")]
        conf = api.conf(tmp_path)
        cinder = CinderClient(session.cinder_endpoint(conf))
        nova = NovaClient(session.nova_endpoint(conf), lambda _: False)
        OutsideLooks(cinder, nova, Failing(KeyError()), (), outside, observer).look_first()
    for section in ("cinder", "nova"):
        reason = check(outside, section).reason
        assert check(outside, section).degraded
        assert "Keystone answered 401" in reason
        assert f"check the credentials in [{section}]" in reason
        assert reason in caplog.text
    assert PASSWORD not in caplog.text
