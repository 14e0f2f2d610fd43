"""Out of the quarantine queue of a real RabbitMQ: what is not wanted stays, nothing is lost."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.bus.sender import NotConfirmedError
from consumer.intake.deciding import ORIGIN, Decided, Quarantines, discard_bodies, replay_bodies
from consumer.intake.replay_queue import ReplaySender, Requester
from consumer.ledger import BodyState, Ledger, LedgerUnavailableError, QuarantinedBody
from consumer.settings import buses
from tests.bus import Peer, configured, new_ledger
from tests.raw_amqp import DEEP, GZIP, LATE, bomb, publish, text, with_headers
from tests.services.ports import free_port
from tests.services.rabbitmq import RabbitMQ

REPLAY, QUARANTINE = "detachd.replay", "detachd.quarantine"
REQUESTER = Requester("alice", "the parser is mended")
BODIES = [b"broken %d" % number for number in range(9)]


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    """Give a virtual host of the test's own."""
    return rabbitmq.fresh_vhost()


@pytest.fixture
def quarantines(url: str) -> Quarantines:
    """Give the one quarantine queue and the replay queue, all by default."""
    return buses.quarantines(configured(url))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger on SQLite."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def peer(url: str, quarantines: Quarantines, ledger: Ledger) -> Iterator[Peer]:
    """Give somebody at the broker, nine bodies in quarantine and in the ledger."""
    with Peer(url) as made:
        for queue in (quarantines.replay.queue, quarantines.replay.quarantine):
            queue.declare(made.connection)
        for body in BODIES:
            quarantine(made, ledger, body)
        yield made


def quarantine(peer: Peer, ledger: Ledger, body: bytes) -> None:
    """Put a body aside, as the listener does: on the queue first."""
    peer.put(body, "", QUARANTINE, delivery_mode=2)
    ledger.quarantine("default", "notifications.info", sha256(body), len(body), "not JSON", "x")


def sha256(body: bytes) -> str:
    """Return a body's hash."""
    return hashlib.sha256(body).hexdigest()


def named(ledger: Ledger, *bodies: bytes) -> list[QuarantinedBody]:
    """Return what the ledger has of these bodies."""
    return [ledger.quarantined_body(sha256(body)) for body in bodies]


def states(ledger: Ledger) -> dict[str, BodyState]:
    """Return what was decided of each body."""
    return {body.body_sha256: body.state for body in ledger.quarantined()}


def counted(decided: Decided) -> dict[str, int]:
    """Return how many copies of each were taken off."""
    return dict(decided.copies)


def test_what_is_not_named_stays_in_its_place(
    peer: Peer, ledger: Ledger, quarantines: Quarantines
) -> None:
    """Three of nine are replayed -> these on the replay queue, the others where they were."""
    chosen = [BODIES[0], BODIES[4], BODIES[8]]
    decided = replay_bodies(ledger, quarantines, named(ledger, *chosen), REQUESTER)
    assert counted(decided) == {sha256(body): 1 for body in chosen}
    assert peer.take_all(REPLAY) == chosen
    assert peer.take_all(QUARANTINE) == [body for body in BODIES if body not in chosen]
    replayed = {sha256(body) for body in chosen}
    assert {h for h, s in states(ledger).items() if s is BodyState.REPLAYED} == replayed


def test_all(peer: Peer, ledger: Ledger, quarantines: Quarantines) -> None:
    """--all, one of them already discarded and come to lie there -> all but that one."""
    body = named(ledger, BODIES[3])[0]
    ledger.decide_quarantined(body, BodyState.DISCARDED, actor="bob", decision="no")
    decided = replay_bodies(ledger, quarantines, None, REQUESTER)
    others = [body for body in BODIES if body != BODIES[3]]
    assert peer.take_all(REPLAY) == others
    assert peer.take_all(QUARANTINE) == [BODIES[3]]
    assert decided.missing == ()


def test_copies_go_together(peer: Peer, ledger: Ledger, quarantines: Quarantines) -> None:
    """The same body three times -> replayed once, all three off the queue."""
    for _ in range(2):
        quarantine(peer, ledger, BODIES[5])
    decided = replay_bodies(ledger, quarantines, named(ledger, BODIES[5]), REQUESTER)
    assert counted(decided) == {sha256(BODIES[5]): 3}
    assert peer.take_all(REPLAY) == [BODIES[5]]
    assert len(peer.take_all(QUARANTINE)) == 8


def test_discarded_and_nothing_else(peer: Peer, ledger: Ledger, quarantines: Quarantines) -> None:
    """One of nine is discarded -> off the queue for good, the others in their places."""
    discard_bodies(ledger, quarantines, named(ledger, BODIES[2]), REQUESTER)
    assert peer.take_all(QUARANTINE) == [body for body in BODIES if body != BODIES[2]]
    assert peer.take_all(REPLAY) == []
    assert states(ledger)[sha256(BODIES[2])] is BodyState.DISCARDED


def test_gone_is_told(peer: Peer, ledger: Ledger, quarantines: Quarantines) -> None:
    """The queue has dropped it -> told by its hash, and still held."""
    assert peer.take(QUARANTINE).body == BODIES[0]
    decided = replay_bodies(ledger, quarantines, named(ledger, *BODIES[:2]), REQUESTER)
    assert decided.missing == (sha256(BODIES[0]),)
    assert states(ledger)[sha256(BODIES[0])] is BodyState.HELD


def test_odd_ones_stop_no_search(peer: Peer, ledger: Ledger, quarantines: Quarantines) -> None:
    """Odd properties, a bomb, headers that fill a frame -> replayed as they are, as all others."""
    packed = bomb(64)
    full = with_headers(*(text(name.encode(), b"x" * 40_000) for name in ORIGIN))
    odd = {b"late": LATE, b"deep": DEEP, packed: GZIP, b"full": full}
    for body, properties in odd.items():
        publish(peer, body, properties, "", QUARANTINE)
    replay_bodies(ledger, quarantines, None, REQUESTER)
    assert peer.take_all(REPLAY) == [*BODIES, *odd]
    assert peer.take_all(QUARANTINE) == []


# -- in the midst ----------------------------------------------------------------------------------


def test_ledger_lost_between_sending_and_ack(
    peer: Peer, ledger: Ledger, quarantines: Quarantines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent, then the ledger cannot mark it -> in both queues; done again it is done."""
    real, losses = Ledger.decide_quarantined, iter([False, True])

    def lose_second(self: Ledger, *arguments: object, **more: object) -> bool:
        if next(losses, False):
            raise LedgerUnavailableError("gone")
        return real(self, *arguments, **more)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(Ledger, "decide_quarantined", lose_second)
    with pytest.raises(LedgerUnavailableError):
        replay_bodies(ledger, quarantines, None, REQUESTER)
    assert states(ledger)[sha256(BODIES[1])] is BodyState.HELD
    replay_bodies(ledger, quarantines, None, REQUESTER)
    assert peer.take_all(REPLAY) == [BODIES[0], BODIES[1], *BODIES[1:]]
    assert peer.take_all(QUARANTINE) == []
    assert set(states(ledger).values()) == {BodyState.REPLAYED}


def test_replay_queue_lost_in_the_midst(
    peer: Peer, ledger: Ledger, quarantines: Quarantines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth is not confirmed -> told how many were; the others are in their places."""
    real, answers = ReplaySender.send, iter([True] * 3)

    def send(self: ReplaySender, *arguments: object, **more: object) -> None:
        if not next(answers, False):
            raise NotConfirmedError("timed out")
        real(self, *arguments, **more)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(ReplaySender, "send", send)
    with pytest.raises(
        NotConfirmedError, match="3 were replayed; the others are still in quarantine"
    ):
        replay_bodies(ledger, quarantines, None, REQUESTER)
    assert peer.take_all(REPLAY) == BODIES[:3]
    assert peer.take_all(QUARANTINE) == BODIES[3:]


KILLED = """
import os, signal, sys
from consumer.cli.app import main
from consumer.intake import deciding, quarantine

at, times = sys.argv[1], int(sys.argv[2])
owner, name = {
    "before sending": (deciding.ReplaySender, "send"),
    "after marking": (deciding._Decision, "note"),
}[at]
real = getattr(owner, name)

def killing(*arguments, **more):
    global times
    times -= 1
    if times < 0 and at == "before sending":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = real(*arguments, **more)
    if times < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

setattr(owner, name, killing)
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize("at", ["before sending", "after marking"])
def test_killed(url: str, peer: Peer, ledger: Ledger, tmp_path: Path, at: str) -> None:
    """`detachd quarantine replay --all` is killed in the midst -> each body is somewhere."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {url.replace('amqp://', 'rabbit://')}\n"
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        "[backend_defaults]\ndriver = simulator\n"
    )
    words = ["quarantine", "replay", "--all", "--config-file", str(path)]
    command = [sys.executable, "-c", KILLED, at, "4", *words]
    killed = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    replayed = peer.take_all(REPLAY)
    assert len(replayed) == {"before sending": 4, "after marking": 5}[at]
    kept = peer.take_all(QUARANTINE)
    assert {*replayed, *kept} == set(BODIES)
    assert len(replayed) + len(kept) - len(BODIES) == {"before sending": 0, "after marking": 1}[at]


# -- several buses ---------------------------------------------------------------------------------


def test_one_broker_of_several_is_away(
    url: str, rabbitmq: RabbitMQ, peer: Peer, ledger: Ledger, tmp_path: Path
) -> None:
    """Three buses, a broker each, one away -> the others' bodies go; none counts as gone."""
    own = rabbitmq.fresh_vhost()
    rabbit = url.replace("amqp://", "rabbit://")
    away = f"rabbit://guest:guest@127.0.0.1:{free_port()}/"
    conf = configured(own)
    path = tmp_path / "buses.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {own.replace('amqp://', 'rabbit://')}\n"
        f"[bus:cell1]\ntransport_url = {rabbit}\n[bus:cell2]\ntransport_url = {away}\n"
    )
    conf(["--config-file", str(path)], default_config_files=[], default_config_dirs=[])
    places = buses.quarantines(conf)
    assert [place.bus for place in places.places] == ["cell1", "cell2", "replay"]
    ledger.quarantine("cell2", "notifications.info", "f" * 64, 1, "not JSON", "x")
    decided = replay_bodies(ledger, places, None, REQUESTER)
    assert counted(decided) == {sha256(body): 1 for body in BODIES}
    assert list(decided.unreached) == ["cell2"]
    assert "refused" in decided.unreached["cell2"]
    assert decided.missing == ()
    with Peer(own) as at_home:
        assert at_home.take_all(REPLAY) == BODIES


def test_quarantine_is_bounded_in_bytes(url: str) -> None:
    """Five bodies of 5 MiB, 16 MiB allowed -> the last three are kept, the oldest are dropped."""
    conf = configured(url)
    buses.quarantines(conf)  # registers the options
    conf.set_override("quarantine_max_bytes", 16 * 1024 * 1024, group="listener")
    queue = buses.quarantines(conf).replay.quarantine
    bodies = [bytes([number]) * (5 * 1024 * 1024) for number in range(5)]
    with Peer(url) as peer:
        assert queue.declare(peer.connection) is None
        for body in bodies:
            peer.put(body, "", QUARANTINE, delivery_mode=2)
        assert peer.take_all(QUARANTINE) == bodies[2:]
