"""``detachd simulate``: what it plays and what it refuses; it runs in tests/integration."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from consumer.bus.sender import Confirmation, ConfirmedSender, NotConfirmedError, Parcel
from consumer.cli.app import main
from consumer.demo import playing
from consumer.demo.playing import Player, UnknownSceneError, chosen
from consumer.demo.scenes import SCENES
from drivers.simulator import Cloud

Captured = pytest.CaptureFixture[str]
CONFIGURATION = """
[DEFAULT]
transport_url = kombu+memory:////
[ledger]
connection = sqlite:////nowhere/ledger.sqlite
[backend_defaults]
driver = simulator
"""


@pytest.fixture
def simulate(tmp_path: Path) -> Callable[..., int]:
    """Run the command with this configuration, and more of it."""

    def run(*words: str, more: str = "") -> int:
        file = tmp_path / "trial.conf"
        file.write_text(CONFIGURATION + more)
        return main(["simulate", "--config-file", str(file), *words])

    return run


def test_scenes_are_chosen_by_their_first_letters() -> None:
    """Uc1 and parked -> these two, in the order of the demo; none named -> all."""
    assert [s.name for s in chosen(["parked", "UC1"])] == [
        "UC1 attach never finished",
        "parked: the guest has the disk",
    ]
    assert chosen([]) == SCENES


@pytest.mark.parametrize(("name", "why"), [("uc9", "no scene"), ("uc", "several scenes")])
def test_a_name_for_no_scene_or_several_is_refused(name: str, why: str) -> None:
    """A typing error, or too few letters -> refused, with the names that there are."""
    with pytest.raises(UnknownSceneError, match=f"{why}.* begins? with {name}; .*uc5-export-left"):
        chosen([name])


def test_without_a_simulated_cloud_it_says_how_to_get_one(
    simulate: Callable[..., int], capsys: Captured
) -> None:
    """A configuration of a real cloud -> refused, with the command that writes one for a trial."""
    assert simulate() == 2
    assert "config minimal --simulated" in capsys.readouterr().err


def test_an_address_that_is_taken_is_named(simulate: Callable[..., int], capsys: Captured) -> None:
    """Another process listens there -> exit 2 and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert simulate(more=f"[simulator]\naddress = {address}\nauthkey = k\n") == 2
    said = capsys.readouterr().err
    assert f"cannot listen on {address}: Address already in use" in said
    assert "end another `detachd simulate`" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--listen", "127.0.0.1:99999"), "a port of at most 65535"),
        (("--every", "often"), "'often' is not a number of seconds"),
        (("--every", "0"), "0 is not between 0 and a year"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_words(
    simulate: Callable[..., int], capsys: Captured, words: tuple[str, ...], why: str
) -> None:
    """A port that there is not, a word for a number -> exit 2 and what is right."""
    assert simulate(*words, more="[simulator]\naddress = 127.0.0.1:0\nauthkey = k\n") == 2
    assert why in capsys.readouterr().err


class Answers:
    """A sender to which the broker answers so, the last answer again and again."""

    def __init__(self, *answers: Confirmation | NotConfirmedError) -> None:
        self.answers = list(answers)
        self.sent: list[Parcel] = []

    def send(self, parcel: Parcel) -> Confirmation:
        """Answer."""
        self.sent.append(parcel)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NotConfirmedError):
            raise answer
        return answer


def test_a_scene_waits_until_somebody_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is away, then nobody listens -> each is said once, and the scene is told whole."""
    monkeypatch.setattr(playing, "AGAIN_SECONDS", 0.0)
    away, returned = NotConfirmedError("refused"), Confirmation.RETURNED
    answers = Answers(away, away, returned, returned, Confirmation.CONFIRMED)
    said: list[str] = []
    with Cloud() as cloud:
        player = Player(cloud, cast("ConfirmedSender", answers), said.append)
        player.play(chosen(["uc1"]), threading.Event())
        volume_id = said[-1].split()[-4]
        assert cloud.statuses(volume_id)[0] == "attaching"
    assert [line.split(":")[0] for line in said] == [
        "waiting for the broker", "waiting", "UC1 attach never finished",
    ]  # fmt: skip
    assert len({parcel.body for parcel in answers.sent}) == 5


def test_a_stop_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is ever bound, and SIGTERM comes -> it ends, and no scene is said to be played."""
    monkeypatch.setattr(playing, "AGAIN_SECONDS", 60.0)
    said: list[str] = []
    stop = threading.Event()
    stop.set()
    with Cloud() as cloud:
        answers = cast("ConfirmedSender", Answers(Confirmation.RETURNED))
        Player(cloud, answers, said.append).play(chosen(["uc1"]), stop)
    assert [line.split(":")[0] for line in said] == ["waiting"]
