"""How a scene on Ceph ends: what Cinder says, who writes on, and what the disk proves."""

from __future__ import annotations

import dataclasses

from tests.behaviour.ground import State
from tests.lab.openstack import until
from tests.lab_service.ceph_guests import BLOCKS, CephGuests
from tests.lab_service.ceph_scenes import CephScene, Outcome
from tests.lab_service.resting import concluded
from tests.lab_service.stage import CASE_SECONDS, Stage, other_host
from tests.services.rbd_clients import RbdClient

ROUND = BLOCKS + 2
USED_BY_ANOTHER = (Outcome.FREED, Outcome.TWO_WRITERS)


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """What came of it, and what the service decided and did."""

    outcome: Outcome
    decided: object
    done: tuple[str, ...]


def ended(scene: CephScene, guests: CephGuests, stage: Stage, before: State) -> Ended:
    """Wait until it is concluded; then see whether another host can use the volume safely.

    Where it is not given away its client was not cut off, and all that it has written is there.
    """
    unheard = scene.outcomes[stage.site.eyes] is Outcome.UNTOLD
    waits = scene.later is not None  # as what was held up does
    decided, done = (None, ()) if unheard else concluded(stage, waiting=waits)
    outcome = _outcome(stage, before, guests)
    if scene.later is not None:
        scene.later(stage, guests)
    elif outcome not in USED_BY_ANOTHER:
        _has_written_alone(stage, guests)
    return Ended(outcome, decided, done)


def _has_written_alone(stage: Stage, guests: CephGuests) -> None:
    first = guests.first[stage.volume_id]
    assert first.running, f"{first.name} was cut off: {first.said}"
    first.close()
    assert first.missing_writes(guests.content(stage.volume_id)) == []


def _outcome(stage: Stage, before: State, guests: CephGuests) -> Outcome:
    first = guests.first.get(stage.volume_id)
    writes = first is not None and first.running and first.makes_progress()
    given_away = stage.look().status == "available"
    told = stage.told()
    match given_away, "parked" in told:
        case True, True:
            return Outcome.TOLD
        case True, False if writes and before.status == "available" and not told:
            return Outcome.UNTOLD
        case True, False:
            return _used_by_another(stage, guests, first)
        case False, True:
            return Outcome.WITHHELD
        case _:
            return Outcome.KEPT


def _used_by_another(stage: Stage, guests: CephGuests, first: RbdClient | None) -> Outcome:
    """Attach the volume to another host, whose guest writes each block anew, and then ends.

    Nobody else may have written: each block is as that guest wrote it last. Where the first client
    goes on, it does so while that guest writes, and then once more, over all that is that guest's.
    """
    site, host = stage.site, other_host(stage.host)
    server_id = site.ground.servers.shared(host)
    assert site.ground.servers.attach(stage.volume_id, server_id)
    second = guests.opens(stage.volume_id, host)
    others = [first] if first is not None and first.running else []
    for client in (*others, second):
        _goes_round(client)
    second.close()
    for client in others:
        _goes_round(client)
        client.close()
    lost = second.missing_writes(guests.content(stage.volume_id))
    site.cast.detach(stage.volume_id, server_id)
    return Outcome.TWO_WRITERS if lost else Outcome.FREED


def _goes_round(client: RbdClient) -> None:
    ends_at = client.writes + ROUND
    until(lambda: client.writes >= ends_at, f"{client.name} goes round", CASE_SECONDS)
