"""Scripted faults: whether the call acted, what its caller heard, and how long it took."""

import random
import threading
import time

import pytest

from drivers.errors import (
    ConflictError,
    IndeterminateError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.simulator import Cloud, Effect, Fault, Landing
from tests.bus import until

CALL = {"request_id": "req-test", "timeout_seconds": 0.2}


def status(cloud: Cloud, volume: str) -> str:
    """Look at the volume without adding a call to the journal."""
    return cloud.statuses(volume)[0]


@pytest.mark.parametrize(
    ("fault", "heard", "after"),
    [
        (Fault.before("cinder.reserve"), TransientError, "available"),
        (Fault.before("cinder.reserve", PermanentError), PermanentError, "available"),
        (Fault.before("cinder.reserve", IndeterminateError), IndeterminateError, "available"),
        (Fault.after("cinder.reserve"), IndeterminateError, "attaching"),
        (Fault.hang("cinder.reserve", 60.0), IndeterminateError, "available"),
        (Fault.hang("cinder.reserve", 60.0, effect=Effect.NOW), IndeterminateError, "attaching"),
        (Fault.late("cinder.reserve"), IndeterminateError, "available"),
        (Fault.slow("cinder.reserve", 60.0), IndeterminateError, "available"),
    ],
)
def test_fault_strikes_once(
    cloud: Cloud, fault: Fault, heard: type[OutsideError], after: str
) -> None:
    """A scripted fault -> heard as scripted, done or not as scripted, and the next call is fine."""
    volume = cloud.create_volume()
    cloud.script(fault)
    began = time.monotonic()
    with pytest.raises(heard):
        cloud.cinder.reserve(volume, **CALL)
    assert time.monotonic() - began < 30.0
    assert status(cloud, volume) == after
    assert cloud.faults_left() == ()
    cloud.set_status(volume, "available")
    cloud.cinder.reserve(volume, **CALL)


def test_slow_call_succeeds_within_its_limit(cloud: Cloud) -> None:
    """A call sleeps for less than its limit -> it succeeds, later."""
    volume = cloud.create_volume()
    cloud.script(Fault.slow("cinder.reserve", 0.05))
    began = time.monotonic()
    cloud.cinder.reserve(volume, **CALL)
    assert time.monotonic() - began >= 0.05
    assert status(cloud, volume) == "attaching"


def test_a_lost_answer_hides_a_refusal_too(cloud: Cloud) -> None:
    """The answer is lost and the call was refused -> IndeterminateError all the same."""
    volume = cloud.create_volume()
    cloud.set_status(volume, "in-use")
    cloud.script(Fault.after("cinder.reserve"))
    with pytest.raises(IndeterminateError):
        cloud.cinder.reserve(volume, **CALL)


def test_faults_go_by_volume_times_and_skip(cloud: Cloud) -> None:
    """A fault for one volume, twice, after one pass -> just those two calls are struck."""
    ours, other = cloud.create_volume(), cloud.create_volume()
    cloud.script(Fault.before("cinder.volume", volume_id=ours, times=2, skip=1))
    outcomes = []
    for volume in (other, ours, other, ours, ours, ours):
        try:
            cloud.cinder.volume(volume, timeout_seconds=1)
            outcomes.append("ok")
        except TransientError:
            outcomes.append("struck")
    assert outcomes == ["ok", "ok", "ok", "struck", "struck", "ok"]


def test_faults_are_taken_in_order_and_can_be_cleared(cloud: Cloud) -> None:
    """Two faults for one method -> first come, first struck; cleared ones strike nobody."""
    volume = cloud.create_volume()
    cloud.script(
        Fault.before("cinder.volume"),
        Fault.before("cinder.volume", PermanentError),
        Fault.before("cinder.volume"),
    )
    with pytest.raises(TransientError):
        cloud.cinder.volume(volume, timeout_seconds=1)
    with pytest.raises(PermanentError):
        cloud.cinder.volume(volume, timeout_seconds=1)
    cloud.clear_faults()
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "available"


def test_unknown_method_is_refused() -> None:
    """A fault on a method that nobody calls -> ValueError, so that no test waits in vain."""
    with pytest.raises(ValueError, match=r"cinder\.reserv is not called"):
        Fault.before("cinder.reserv")
    with pytest.raises(ValueError, match=r"nova\.look is not called"):
        Landing(after_method="nova.look")


def test_late_effect_lands_when_told(cloud: Cloud) -> None:
    """A call timed out -> nothing yet; it lands once, when told to."""
    volume = cloud.create_volume()
    cloud.script(Fault.late("cinder.reserve"))
    with pytest.raises(IndeterminateError):
        cloud.cinder.reserve(volume, **CALL)
    assert cloud.under_way() == ("cinder.reserve",)
    assert (cloud.land_late(), cloud.land_late()) == (1, 0)
    assert status(cloud, volume) == "attaching"


def test_late_effect_lands_for_its_volume_only(cloud: Cloud) -> None:
    """Two late calls -> landing one volume leaves the other's under way."""
    first, second = cloud.create_volume(), cloud.create_volume()
    cloud.script(Fault.late("cinder.reserve", times=2))
    for volume in (first, second):
        with pytest.raises(IndeterminateError):
            cloud.cinder.reserve(volume, **CALL)
    assert cloud.land_late(second) == 1
    assert (status(cloud, first), status(cloud, second)) == ("available", "attaching")


def test_late_effect_lands_after_a_number_of_calls(cloud: Cloud) -> None:
    """Scripted to land after the second look at the volume -> calls for others do not count."""
    volume, other = cloud.create_volume(), cloud.create_volume()
    landing = Landing(after_method="cinder.volume", after_calls=2)
    cloud.script(Fault.late("cinder.reserve", landing))
    with pytest.raises(IndeterminateError):
        cloud.cinder.reserve(volume, **CALL)
    seen = []
    for looked_at in (volume, other, volume):
        cloud.cinder.volume(looked_at, timeout_seconds=1)
        seen.append(status(cloud, volume))
    assert seen == ["available", "available", "attaching"]


def test_late_effect_lands_after_a_delay(cloud: Cloud) -> None:
    """Scripted to land after a tenth of a second -> it does, on a thread that close() joins."""
    volume = cloud.create_volume()
    cloud.script(Fault.late("cinder.reserve", Landing(after_seconds=0.1)))
    with pytest.raises(IndeterminateError):
        cloud.cinder.reserve(volume, **CALL)
    until(lambda: status(cloud, volume) == "attaching")


def test_late_effect_that_is_refused_is_lost_quietly(cloud: Cloud) -> None:
    """The state has changed when it lands -> Cinder refuses, nobody hears of it."""
    volume = cloud.create_volume()
    cloud.script(Fault.late("cinder.reserve"))
    with pytest.raises(IndeterminateError):
        cloud.cinder.reserve(volume, **CALL)
    cloud.set_status(volume, "in-use")
    assert cloud.land_late() == 1
    assert status(cloud, volume) == "in-use"


def test_close_wakes_sleepers_and_stops_timers() -> None:
    """The cloud is closed -> a hanging call ends at once, a timed effect never lands."""
    cloud = Cloud()
    volume = cloud.create_volume()
    cloud.script(
        Fault.late("cinder.reserve", Landing(after_seconds=60)), Fault.hang("cinder.volume", 60)
    )
    with pytest.raises(IndeterminateError):
        cloud.cinder.reserve(volume, **CALL)
    heard: list[OutsideError] = []

    def look() -> None:
        try:
            cloud.cinder.volume(volume, timeout_seconds=60)
        except OutsideError as error:
            heard.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    while not cloud.calls("cinder.volume"):
        time.sleep(0.01)
    cloud.close()
    looking.join(timeout=60)
    assert not looking.is_alive()
    assert [type(e) for e in heard] == [IndeterminateError]
    assert status(cloud, volume) == "available"
    with pytest.raises(TransientError):
        cloud.cinder.volume(volume, timeout_seconds=1)


def test_latency_delays_calls_and_not_each_other(cloud: Cloud) -> None:
    """A latency of a second, ten callers at once -> all are done long before ten seconds."""
    volume = cloud.create_volume()
    cloud.set_latency(1.0)

    def look() -> None:
        cloud.cinder.volume(volume, timeout_seconds=60)

    threads = [threading.Thread(target=look) for _ in range(10)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1.0 <= time.monotonic() - began < 9.0


def test_latency_beyond_the_limit_is_a_timeout(cloud: Cloud) -> None:
    """The latency exceeds the call's limit -> IndeterminateError when the limit is over."""
    volume = cloud.create_volume()
    cloud.set_latency(60)
    with pytest.raises(IndeterminateError):
        cloud.cinder.reserve(volume, **CALL)


def test_journal_tells_every_call(cloud: Cloud) -> None:
    """Calls that succeed, fail, hang -> each is in the journal with ids, outcome, thread, times."""
    volume = cloud.create_volume()
    cloud.cinder.reserve(volume, request_id="req-1", timeout_seconds=1)
    with pytest.raises(ConflictError):
        cloud.cinder.reserve(volume, request_id="req-2", timeout_seconds=1)
    cloud.cinder.delete_attachment("gone", request_id="req-3", timeout_seconds=1)
    cloud.nova.server("nobody", volume, timeout_seconds=1)
    told = [(c.name, c.volume_id, c.asked.request_id, c.outcome) for c in cloud.journal]
    assert told == [
        ("cinder.reserve", volume, "req-1", "ok"),
        ("cinder.reserve", volume, "req-2", "ConflictError"),
        ("cinder.delete_attachment", None, "req-3", "ok"),
        ("nova.server", volume, None, "ok"),
    ]
    assert cloud.journal[2].argument("attachment_id") == "gone"
    assert all(c.thread == threading.current_thread().name for c in cloud.journal)
    assert all(c.ended_seconds >= c.began_seconds for c in cloud.journal)
    assert len(cloud.calls(writes=True)) == 3
    assert len(cloud.calls("nova.server", volume_id=volume)) == 1
    assert cloud.calls("nova.server", volume_id="another") == ()


def test_many_threads_on_few_volumes(cloud: Cloud) -> None:
    """Twelve threads attach, detach, reserve, look, with faults and timers -> all calls end."""
    volumes = [cloud.create_volume() for _ in range(3)]
    servers = [cloud.boot_server(host=f"compute-{n}") for n in range(3)]
    cloud.script(
        Fault.late("cinder.reserve", Landing(after_seconds=0.01), times=20),
        Fault.late("cinder.unreserve", Landing(after_method="cinder.volume"), times=20),
        Fault.before("backend.terminate_connection", times=20),
    )
    problems: list[Exception] = []

    def live(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            volume, server = chance.choice(volumes), chance.choice(servers)
            act = chance.choice(acts)
            try:
                act(volume, server)
            except OutsideError:
                continue
            except Exception as error:  # noqa: BLE001 - a thread's error would be lost otherwise
                problems.append(error)

    acts = [
        cloud.attach,
        cloud.detach,
        lambda v, s: cloud.cinder.reserve(v, **CALL),
        lambda v, s: cloud.cinder.unreserve(v, **CALL),
        lambda v, s: cloud.cinder.volume(v, timeout_seconds=1),
        lambda v, s: cloud.nova.server(s, v, timeout_seconds=1),
        lambda v, s: cloud.nova.detach(s, v, **CALL),
    ]
    threads = [threading.Thread(target=live, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(t.is_alive() for t in threads)
    assert problems == []
    assert all(c.ended_seconds is not None for c in cloud.journal)
