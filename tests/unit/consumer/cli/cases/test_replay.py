"""``detachd replay case``: filters and preview; the ramp on a real ledger, worked in its pauses."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from consumer.cli.app import main
from consumer.cli.cases.ramp import Ramp, Replaying, StoppedError
from consumer.ledger import Ledger, Replay
from drivers.simulator import Cloud
from drivers.simulator.remote import serve_cloud
from handlers.case import Case, CaseState, Conclusion
from tests.bus import MEMORY, Peer, forget_memory
from tests.unit.consumer.cli.cases.test_listing import worked
from tests.unit.consumer.cli.conftest import Run
from tests.unit.consumer.due import open_case, outcome

WHY = ("--reason", "the array is back", "--actor", "alice")
REPLAY = "detachd.replay"


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Give an empty in-memory broker."""
    forget_memory()
    with Peer(MEMORY) as made:
        yield made
    forget_memory()


@pytest.fixture
def replay(
    tmp_path: Path, cloud: Cloud, peer: Peer, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run ``detachd replay case`` with that broker and that cloud."""
    path = tmp_path / "replay.conf"
    with serve_cloud(cloud, authkey=b"key") as server:
        path.write_text(
            f"[DEFAULT]\ntransport_url = {MEMORY}\n"
            f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
            f"[simulator]\naddress = {server.address}\nauthkey = key\n"
            "[backend_defaults]\ndriver = simulator\nmode = auto\n"
        )

        def run(*words: str) -> tuple[int, str, str]:
            code = main(["replay", "case", *words, "--config-file", str(path)])
            shown = capsys.readouterr()
            return code, shown.out, shown.err

        yield run


def queued(peer: Peer) -> int:
    """Return how many orders wait."""
    return len(peer.take_all(REPLAY))


# -- which cases -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*WHY,), "name cases by their ids, or choose them by filters"),
        (("4f1c2a3b", "--state", "parked", *WHY), "name cases by their ids, or choose them"),
        (("--state", "parked"), "give --reason"),
        (("--backend", "typo@lab", *WHY), "there is no backend typo@lab"),
    ],
    ids=["nothing", "both", "no reason", "mistyped"],
)
def test_what_is_not_clear_replays_nothing(
    ledger: Ledger, replay: Run, peer: Peer, words: tuple[str, ...], said: str
) -> None:
    """No case, both ways, no reason, an unknown backend -> exit 2, words, nothing queued."""
    worked(ledger)
    code, out, err = replay(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert queued(peer) == 0


def test_filter_replays_its_cases_and_no_other(ledger: Ledger, replay: Run, peer: Peer) -> None:
    """Parked ones of one backend -> an order for each, none for the others."""
    ours = [worked(ledger, backend="other@lab") for _ in range(3)]
    worked(ledger)
    open_case(ledger, backend="other@lab")
    code, out, err = replay("--state", "parked", "--backend", "other@lab", *WHY)
    assert (code, err) == (0, "3 cases were queued\n")
    assert sorted(line.split()[2] for line in out.splitlines()) == sorted(ours)
    assert queued(peer) == 3


def test_project_alone_is_a_filter(ledger: Ledger, replay: Run, peer: Peer) -> None:
    """--project and nothing else -> the parked cases of that project; beside an id -> refused."""
    ours = worked(ledger, project_id="p-1")
    worked(ledger, project_id="p-2")
    code, out, err = replay(ours, "--project", "p-1", *WHY)
    assert (code, out) == (2, "")
    assert "name cases by their ids, or choose them" in err
    assert replay("--project", "p-1", *WHY)[1].split()[2] == ours
    assert queued(peer) == 1


def test_filter_without_a_state_leaves_closed_cases_alone(
    ledger: Ledger, replay: Run, peer: Peer
) -> None:
    """A backend alone -> its parked and asked cases; the closed and the due one only by --state."""
    worked(ledger, CaseState.CLOSED, conclusion=Conclusion.HEALTHY)
    ours = worked(ledger), worked(ledger, CaseState.AWAITING_APPROVAL, fingerprint="f" * 64)
    open_case(ledger)
    out = replay("--backend", "labhost@lab", *WHY)[1]
    assert sorted(line.split()[2] for line in out.splitlines()) == sorted(ours)
    assert queued(peer) == 2
    assert len(replay("--state", "closed", *WHY)[1].splitlines()) == 1


def test_preview_says_what_would_come_out_and_replays_nothing(
    ledger: Ledger, replay: Run, peer: Peer, cloud: Cloud
) -> None:
    """A parked case, whose volume is well by now -> what changed; no order, no row changed."""
    volume_id, server_id = cloud.create_volume(), cloud.boot_server(host="compute1")
    cloud.attach(volume_id, server_id)
    case_id = worked(ledger, volume_id=volume_id, rule="C0.cinder-unknown")
    before = ledger.case(case_id)
    code, out, err = replay("--state", "parked", "--preview")
    assert code == 0
    assert out.startswith(f"{case_id[:8]}  parked")
    assert "C0.cinder-unknown -> " in out
    assert err.startswith("1 cases looked at, nothing replayed: 1 ")
    assert queued(peer) == 0
    assert ledger.case(case_id) == before


# -- few first, at a rate --------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class Night:
    """A ledger whose cases are replayed, and worked whenever the ramp pauses.

    ``comes_to`` says what the attempt at the n-th replayed case comes to.
    """

    ledger: Ledger
    comes_to: Callable[[int], CaseState]
    now: float = 0.0
    sent: list[str] = dataclasses.field(default_factory=list)
    told: list[str] = dataclasses.field(default_factory=list)
    sent_at: list[float] = dataclasses.field(default_factory=list)
    _orders: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def replaying(self, ramp: Ramp) -> Replaying:
        """Return the ramp on this ledger."""
        return Replaying(ramp, self.send, self.read, self.told.append, self.sleep, lambda: self.now)

    def send(self, case: Case) -> None:
        """Replay a case as the service does."""
        self.sent.append(case.case_id)
        self.sent_at.append(self.now)
        number = next(self._orders)
        order = Replay(f"delivery-{number}", f"{number:064x}", "replay", "alice", "again")
        self.ledger.replay(order, case.case_id)

    def read(self, ids: Sequence[str]) -> list[Case]:
        """Read the cases."""
        return [self.ledger.case(one).case for one in ids]

    def sleep(self, seconds: float) -> None:
        """Let time pass, in which a worker works what is due."""
        self.now += seconds
        for claim in self.ledger.claim("w:1", limit=100, lease_seconds=60.0, deadlines=True):
            state = self.comes_to(self.sent.index(claim.case.case_id))
            conclusion = Conclusion.MENDED if state is CaseState.CLOSED else None
            self.ledger.finish(claim, outcome(state, conclusion=conclusion))


def parked(ledger: Ledger, number: int) -> list[Case]:
    """Return so many parked cases."""
    return [ledger.case(worked(ledger)).case for _ in range(number)]


def closed(_: int) -> CaseState:
    """Every case comes right."""
    return CaseState.CLOSED


def test_first_ones_come_right_and_the_others_follow(ledger: Ledger) -> None:
    """A canary of two that is mended -> the others, at the rate, in order."""
    cases, night = parked(ledger, 5), Night(ledger, closed)
    night.replaying(Ramp(canary=2, per_minute=6.0)).run(cases)
    assert night.sent == [case.case_id for case in cases]
    assert night.told == ["the first 2: 2 well, 0 parked"]
    pauses = [b - a for a, b in itertools.pairwise(night.sent_at[2:])]
    assert pauses == [10.0, 10.0]


def test_first_one_that_is_parked_again_stops_all(ledger: Ledger) -> None:
    """One of a canary of two is parked again -> nothing else is replayed."""
    cases = parked(ledger, 5)
    night = Night(ledger, lambda n: CaseState.PARKED if n == 1 else CaseState.CLOSED)
    with pytest.raises(StoppedError, match="1 of the first 2 are parked again; 3 cases were not"):
        night.replaying(Ramp(canary=2)).run(cases)
    assert len(night.sent) == 2


def test_service_that_does_not_run_stops_after_the_first(ledger: Ledger) -> None:
    """Nobody works the first ones -> after the wait, nothing else; old states are not taken."""
    cases, night = parked(ledger, 3), Night(ledger, closed)
    replaying = night.replaying(Ramp(canary=1, wait_seconds=5.0))

    def idle(seconds: float) -> None:
        night.now += seconds

    replaying.sleep = idle
    with pytest.raises(StoppedError, match="only 0 came to rest within 5 s; 2 cases were not"):
        replaying.run(cases)


def test_stop_after_so_many(ledger: Ledger) -> None:
    """Every second one is parked again -> it stops at the third, and says how many are left."""
    cases = parked(ledger, 12)
    night = Night(ledger, lambda n: CaseState.PARKED if n % 2 else CaseState.CLOSED)
    with pytest.raises(StoppedError, match="3 are parked again; 6 cases were not replayed"):
        night.replaying(Ramp(per_minute=60.0, stop_after=3)).run(cases)
    assert len(night.sent) == 6


def test_case_that_did_not_rest_has_only_to_move(ledger: Ledger) -> None:
    """A due case is in the canary -> its next attempt counts, without a new round."""
    due = ledger.case(ledger.cases(volume_id=open_case(ledger))[0].case_id).case
    night = Night(ledger, closed)
    night.replaying(Ramp(canary=1)).run([due])
    assert night.told == ["the first 1: 1 well, 0 parked"]
