"""What a sweep takes for suspect, and what it does not."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from drivers.base import Connection, Export, VolumeRef
from drivers.control_plane import CinderAttachment, ListedAttachment, ListedVolume, Volume
from handlers.correlation import sweep
from handlers.correlation.sweep import Patience, Sighting, Standing
from handlers.notification import Notification, Operation, Phase, Source

HOSTS = {"iqn-1": "compute-1", "wwpn-1": "compute-1", "iqn-2": "compute-2"}
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE = Patience(
    attaching_seconds=900,
    detaching_seconds=800,
    reserved_seconds=3600,
    error_seconds=700,
    again_seconds=86_400,
)


def standing(
    status: str, attachment: str | None = None, age_seconds: float = 10_000.0, **known: float | int
) -> Standing:
    """Return a sighting of the volume, or of one of its rows."""
    return Standing(Sighting("vol", attachment, status, "v1"), NOW, age_seconds, **known)  # type: ignore[arg-type]


def volume(status: str, *attachments: tuple[str, str]) -> Volume:
    """Return the volume with rows of these ids and statuses, each of a server of its own."""
    return Volume(
        ref=VolumeRef("vol", "storage-1@tgt"),
        status=status,
        migration_status=None,
        attachments=tuple(
            CinderAttachment(i, s, f"server-of-{i}", has_connection_info=True)
            for i, s in attachments
        ),
        service_up=True,
    )


def found(of: Volume, *standings: Standing) -> list[tuple[Operation | None, str | None]]:
    """Return operation and row of each suspect."""
    return [(n.operation, n.attachment_id) for n in sweep.suspects(of, standings, {})]


# -- when it is time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "age_seconds", "ripe"),
    [
        ("attaching", 899, False),
        ("attaching", 900, True),
        ("detaching", 799, False),
        ("detaching", 800, True),
        ("reserved", 3599, False),
        ("reserved", 3600, True),
        ("error_attaching", 699, False),
        ("error_attaching", 700, True),
        ("error_detaching", 700, True),
    ],
)
def test_each_status_has_its_patience(status: str, age_seconds: float, ripe: bool) -> None:
    """Seen unchanged for less than its patience -> not yet; for as long -> now."""
    assert sweep.ripe(standing(status, age_seconds=age_seconds), PATIENCE) is ripe


def test_one_look_is_never_enough() -> None:
    """Seen for the first time, and no patience at all -> not ripe: one look shows no standstill."""
    none = Patience(0, 0, 0, 0, 60)
    assert not sweep.ripe(standing("attaching", age_seconds=0.0), none)


@pytest.mark.parametrize(("offered_seconds", "ripe"), [(86_399, False), (86_400, True)])
def test_what_was_looked_at_rests_for_a_day(offered_seconds: float, ripe: bool) -> None:
    """It became a case and has not moved since -> looked at again a day later, no sooner."""
    seen = standing("reserved", offers=1, offered_seconds=offered_seconds)
    assert sweep.ripe(seen, PATIENCE) is ripe


# -- whether a list can be believed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "before", "believed"),
    [
        (0, None, True),
        (100, None, True),
        (100, 100, True),
        (50, 100, True),
        (49, 100, False),
        (0, 100, False),
        (0, 1, False),
        (0, 0, True),
        (1000, 100, True),
    ],
)
def test_far_fewer_volumes_than_before_are_not_believed(
    counted: int, before: int | None, believed: bool
) -> None:
    """The API knows of none, or of less than half -> a reason, with both numbers."""
    reason = sweep.implausible(counted, before)
    assert (reason is None) is believed
    assert reason is None or (str(counted) in reason and str(before) in reason)


# -- what moves --------------------------------------------------------------------------------


def test_volume_that_was_written_is_another_sighting() -> None:
    """updated_at or the status changes -> another version; nothing changes -> the same."""
    listed = ListedVolume("vol", "attaching", "storage-1@tgt", "2026-11-24T10:00:00")
    same = sweep.of_volume(listed)
    assert sweep.of_volume(listed) == same
    later = dataclasses.replace(listed, updated_at="2026-11-24T10:00:01")
    other = dataclasses.replace(listed, status="reserved")
    assert len({same.version, sweep.of_volume(later).version, sweep.of_volume(other).version}) == 3


def test_attachment_that_comes_further_is_another_sighting() -> None:
    """A row goes from reserved to attaching -> the same key, another version."""
    before = sweep.of_attachment(ListedAttachment("attachment", "vol", "reserved", "server"))
    after = sweep.of_attachment(ListedAttachment("attachment", "vol", "attaching", "server"))
    assert before.key == after.key
    assert before.version != after.version


# -- whose it is -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["attaching", "reserved", "error_attaching"])
def test_unfinished_attachment_is_a_suspected_attach(status: str) -> None:
    """A row that never became attached -> its attach is suspected, by its own id."""
    of = volume("attaching", ("a", status))
    assert found(of, standing(status, "a"), standing("attaching")) == [(Operation.ATTACH, "a")]


@pytest.mark.parametrize("status", ["detaching", "error_detaching"])
def test_attachment_that_was_to_go_is_a_suspected_detach(status: str) -> None:
    """A row in detaching or error_detaching -> its detach is suspected."""
    of = volume("detaching", ("a", status))
    assert found(of, standing(status, "a"), standing("detaching")) == [(Operation.DETACH, "a")]


def test_detaching_volume_with_one_attachment_names_it() -> None:
    """The volume is detaching and its only row attached -> that row's detach is suspected."""
    of = volume("detaching", ("a", "attached"))
    assert found(of, standing("detaching")) == [(Operation.DETACH, "a")]


def test_detaching_volume_with_two_attachments_names_none() -> None:
    """The volume is detaching and two rows are attached -> one suspect, of no row: not ours."""
    of = volume("detaching", ("a", "attached"), ("b", "attached"))
    assert found(of, standing("detaching")) == [(Operation.DETACH, None)]


def test_bare_reserve_is_suspected_without_a_attachment() -> None:
    """The volume is attaching and has no row -> an attach of no row is suspected."""
    assert found(volume("attaching"), standing("attaching")) == [(Operation.ATTACH, None)]


def test_stray_attachment_of_a_volume_in_use_is_suspected_alone() -> None:
    """In-use, one row attached and one reserved for hours -> the reserved one is suspected."""
    of = volume("in-use", ("good", "attached"), ("stray", "reserved"))
    assert found(of, standing("reserved", "stray")) == [(Operation.ATTACH, "stray")]


def test_young_attachment_is_no_suspect_and_hides_the_volume() -> None:
    """The volume is old in attaching, its unfinished row is not ripe -> nobody is suspected yet."""
    of = volume("attaching", ("young", "attaching"))
    assert found(of, standing("attaching")) == []


def test_attach_of_one_attachment_does_not_hide_the_detach_of_another() -> None:
    """Detaching, with a young unfinished row beside an attached one -> the detach is suspected."""
    of = volume("detaching", ("young", "reserved"), ("b", "attached"))
    assert found(of, standing("detaching")) == [(Operation.DETACH, None)]


@pytest.mark.parametrize(
    "of",
    [
        volume("available"),
        volume("in-use", ("a", "attached")),
        volume("detaching", ("a", "attached")),
    ],
)
def test_what_has_moved_since_the_list_is_no_suspect(of: Volume) -> None:
    """Listed as attaching, read anew as something else -> nobody is suspected."""
    assert found(of, standing("attaching"), standing("attaching", "a")) == []


def one(of: Volume, seen: Standing) -> Notification:
    """Return the only suspect."""
    (notification,) = sweep.suspects(of, [seen], HOSTS)
    return notification


def test_suspect_says_what_is_known() -> None:
    """A suspect -> an error by our sweep with the row's server and the volume's backend."""
    said = one(volume("attaching", ("a", "attaching")), standing("attaching", "a"))
    assert (said.source, said.phase) == (Source.SWEEP, Phase.ERROR)
    assert said.event_type == "sweep.attaching"
    assert (said.volume_id, said.instance_id) == ("vol", "server-of-a")
    assert (said.backend, said.volume_status) == ("storage-1@tgt", "attaching")


def test_same_offer_has_the_same_id_and_the_next_another() -> None:
    """Offered twice by a crash -> one message_id; a day later, or after a move -> another."""
    of = volume("attaching", ("a", "attaching"))
    first = standing("attaching", "a")
    moved = dataclasses.replace(first, sighting=dataclasses.replace(first.sighting, version="v2"))
    again = dataclasses.replace(first, offers=1)
    older = dataclasses.replace(first, age_seconds=20_000.0)
    assert one(of, first).message_id == one(of, older).message_id
    ids = {one(of, s).message_id for s in (first, moved, again)}
    assert len(ids) == 3


# -- available, and exported all the same ------------------------------------------------------


def ghost(*peers: str) -> Standing:
    """Return the standing of an available volume that these have access to."""
    listed = ListedVolume("vol", "available", "storage-1@tgt", "2026-11-24T10:00:00")
    export = Export("iqn:volume-vol", "vol", tuple(Connection(peer) for peer in peers))
    return Standing(sweep.of_export(listed, export), NOW, 10_000.0)


@pytest.mark.parametrize(
    ("peers", "host"),
    [
        (("iqn-1",), "compute-1"),
        (("iqn-1", "wwpn-1"), "compute-1"),
        (("iqn-1", "iqn-2"), None),
        (("iqn-1", "nobody"), None),
        (("nobody",), None),
        (("nobody", "nobody-else"), None),
    ],
)
def test_exported_though_available_is_suspected(peers: tuple[str, ...], host: str | None) -> None:
    """Available, no row, exported -> an attach is suspected, of the host where that is one."""
    said = one(volume("available"), ghost(*peers))
    assert (said.operation, said.attachment_id, said.host) == (Operation.ATTACH, None, host)
    assert said.event_type == "sweep.exported"


@pytest.mark.parametrize(
    "of", [volume("in-use", ("a", "attached")), volume("attaching"), volume("backing-up")]
)
def test_exported_and_no_longer_available_is_no_ghost(of: Volume) -> None:
    """Attached, reserved or backed up by now -> its export is somebody's business."""
    assert found(of, ghost("iqn-1")) == []


def test_another_peer_is_another_sighting() -> None:
    """Somebody else has access now -> another version, whatever the order they are told in."""
    assert ghost("a", "b").sighting == ghost("b", "a").sighting
    assert ghost("a").sighting.version != ghost("b").sighting.version


def test_ghosts_have_the_patience_of_errors() -> None:
    """Exported and available for as long as an error may stand -> ripe, no sooner."""
    assert [
        sweep.ripe(dataclasses.replace(ghost("a"), age_seconds=age), PATIENCE) for age in (699, 700)
    ] == [False, True]


# -- volumes that others may get, and volumes that several hosts have --------------------------


def occupied() -> Standing:
    """Return the sighting of a free volume that has an attached row."""
    listed = ListedVolume("vol", "available", "storage-1@tgt", "t1", attached=True)
    return Standing(sweep.of_occupied(listed), NOW, 10_000.0)


def shared(*peers: str) -> Standing:
    """Return the sighting of a volume that these names have access to."""
    export = Export("iqn:volume-vol", "vol", tuple(Connection(peer) for peer in peers))
    return Standing(sweep.of_shared("vol", export), NOW, 10_000.0)


@pytest.mark.parametrize("status", ["available", "awaiting-transfer"])
@pytest.mark.parametrize("by", [occupied(), ghost("iqn-1")], ids=["occupied", "exported"])
def test_attached_row_of_a_free_volume(status: str, by: Standing) -> None:
    """Others may get it and a row is attached, exported or not -> an attach of that row."""
    assert found(volume(status, ("a", "attached")), by) == [(Operation.ATTACH, "a")]
    several = volume(status, ("a", "attached"), ("b", "attached"))
    assert found(several, by) == [(Operation.ATTACH, None)]


def test_row_in_error_is_told_once() -> None:
    """A free volume has an error_* row, which has a sighting itself -> that one alone."""
    of = volume("available", ("a", "error_detaching"))
    row = standing("error_detaching", "a")
    assert found(of, row, occupied()) == [(Operation.DETACH, "a")]
    assert found(of, row, ghost("iqn-1")) == [(Operation.DETACH, "a")]


@pytest.mark.parametrize("of", [volume("available"), volume("in-use", ("a", "attached"))])
def test_occupied_no_longer(of: Volume) -> None:
    """The row is gone, or the volume in-use again -> nothing."""
    assert found(of, occupied()) == []


def test_exported_though_it_is_up_for_transfer() -> None:
    """Up for transfer, no row, exported -> suspected as an available one is."""
    assert one(volume("awaiting-transfer"), ghost("iqn-1")).host == "compute-1"


@pytest.mark.parametrize(
    ("peers", "suspected"),
    [
        (("iqn-1", "iqn-2"), [(Operation.ATTACH, "a")]),
        (("iqn-1", "wwpn-1"), []),
        (("iqn-1", "nobody"), []),
    ],
)
def test_more_hosts_than_rows(peers: tuple[str, ...], suspected: list[object]) -> None:
    """Two learned hosts have access and one row is there -> suspected; names of one host: not."""
    of = volume("in-use", ("a", "attached"))
    said = list(sweep.suspects(of, [shared(*peers)], HOSTS))
    assert [(n.operation, n.attachment_id) for n in said] == suspected


def test_a_row_for_each_host() -> None:
    """Multiattach, or a live migration: two hosts and two rows -> nothing."""
    of = volume("in-use", ("a", "attached"), ("b", "attached"))
    assert list(sweep.suspects(of, [shared("iqn-1", "iqn-2")], HOSTS)) == []
