"""Which targets are a volume's, and what is told of them."""

from __future__ import annotations

import pytest

from drivers.base import Connection, Connector, Export, VolumeRef
from drivers.errors import NotFoundError
from drivers.registry import parsed
from drivers.tgt.listing import (
    Disk,
    ElsewhereError,
    Nexus,
    Sighting,
    Target,
    exports_of,
    read_targets,
    sight,
)
from drivers.tgt.options import OPTS, TgtOptions
from tests.recordings import SAMPLES

LISTED = read_targets((SAMPLES / "tgt" / "targets.txt").read_text())
CONTROL = "iqn.2026-01.org.example:storage-1"
PREFIX = "iqn.2010-10.org.openstack:volume-"
BACKEND = "storage-1@tgt"
HOST = "iqn.1994-05.com.redhat:compute-"
ONE, TWO, THREE, NONE = (f"1b2c3d4e-0000-4000-8000-00000000000{n}" for n in (1, 2, 3, 9))


def options(**changes: object) -> TgtOptions:
    """Return the driver's options."""
    return TgtOptions.read(parsed(OPTS, {"control_target": CONTROL, **changes}))


def seen(ref: VolumeRef, listed: tuple[Target, ...] = LISTED, **changes: object) -> Sighting:
    """Look for a volume."""
    return sight(ref, listed, options(**changes))


def target(name: str, *rules: str, tid: int = 9, path: str = "/dev/vg/x") -> Target:
    """Return a target with one disk."""
    return Target(tid, name, (), (Disk(1, path),), rules)


def test_sessions_of_one_host_are_counted() -> None:
    """Two sessions of one host, one of another -> a connection for each host."""
    observation = seen(VolumeRef(ONE, BACKEND)).observation()
    assert observation.connections == (
        Connection(f"{HOST}1", address="127.0.0.1", access=True, sessions=2),
        Connection(f"{HOST}2", address="127.0.0.1", access=True, sessions=1),
    )
    assert PREFIX + ONE in observation.control


@pytest.mark.parametrize(
    "ref",
    [
        VolumeRef(ONE, BACKEND),
        VolumeRef(NONE, BACKEND, name_id=ONE),
        VolumeRef(ONE, BACKEND, name_id=NONE),
        VolumeRef(NONE, BACKEND, provider_location=f"192.0.2.1:3260,1 {PREFIX}{ONE} 1"),
        VolumeRef(NONE, BACKEND, provider_location=f"192.0.2.1:3260;[::1]:3260,1 {PREFIX}{ONE} 1"),
    ],
    ids=["id", "name_id", "id beside name_id", "location", "two portals"],
)  # fmt: skip
def test_volume_is_found_under_every_name(ref: VolumeRef) -> None:
    """By id, after a migration by either id, by Cinder's provider_location -> the same target."""
    assert [t.name for t in seen(ref).targets] == [PREFIX + ONE]


def test_targets_under_two_names_are_one_volume() -> None:
    """Both names of a migrated volume have a target -> who is let in to either is told."""
    ref = VolumeRef(ONE, BACKEND, name_id=THREE)
    names = {c.name for c in seen(ref).observation().connections}
    assert names == {f"{HOST}1", f"{HOST}2", f"{HOST}4"}


def test_own_template() -> None:
    """Another prefix and volume_name_template -> found by those."""
    listed = (target("iqn.2026-01.org.example:disk-" + ONE, f"{HOST}1"),)
    found = seen(VolumeRef(ONE, BACKEND), listed, target_template="iqn.2026-01.org.example:disk-%s")
    assert len(found.targets) == 1


def test_no_target_with_the_control_target_seen_is_clean() -> None:
    """No target, the control target is there -> nobody is connected, and why that is known."""
    observation = seen(VolumeRef(NONE, BACKEND)).observation()
    assert observation.connections == ()
    assert f"has the control target {CONTROL}" in observation.control


@pytest.mark.parametrize(
    ("listed", "control", "words"),
    [
        (LISTED, None, "the option control_target, which is not set"),
        (LISTED[1:], CONTROL, "the wrong tgtd was asked, or it has lost its targets"),
        ((), CONTROL, "the wrong tgtd was asked, or it has lost its targets"),
    ],
    ids=["not set", "not there", "an empty daemon"],
)
def test_no_target_without_control_is_unknown(
    listed: tuple[Target, ...], control: str | None, words: str
) -> None:
    """No target and no control -> NotFoundError with what to do; other targets prove nothing."""
    with pytest.raises(NotFoundError, match=words):
        seen(VolumeRef(NONE, BACKEND), listed, control_target=control)


@pytest.mark.parametrize("beside", [(), LISTED], ids=["alone", "beside its own"])
@pytest.mark.parametrize(
    "other",
    [target(f"iqn.2026-01.org.example:{ONE}"), target("iqn.x:y", path=f"/dev/vg/volume-{ONE}")],
    ids=["its name", "its disk"],
)
def test_volume_behind_another_name_is_not_called_clean(
    other: Target, beside: tuple[Target, ...]
) -> None:
    """A target of a foreign name mentions the volume -> refused with that name, never absent."""
    control = target(CONTROL, tid=10)
    with pytest.raises(ElsewhereError, match=other.name):
        seen(VolumeRef(ONE, BACKEND), (*(beside or (control,)), other))


def test_open_rules_are_told_as_nobody_s_access() -> None:
    """ALL, a network and an empty name -> each a connection that belongs to no host."""
    connections = seen(VolumeRef(TWO, BACKEND)).observation().connections
    words = [c.name for c in connections if c.name.startswith("any host")]
    assert words == [
        "any host by the rule ALL",
        "any host by the rule 192.0.2.0/24",
        "any host by the rule (an empty name)",
    ]
    host = Connector(host="compute-3", initiator=f"{HOST}3", ip="192.0.2.3")
    assert [c.name for c in connections if c.belongs_to(host)] == [f"{HOST}3"]
    assert not any(c.belongs_to(Connector(host="ALL")) for c in connections)


def test_session_by_an_open_rule_has_access() -> None:
    """In session, not named, the rule ALL -> it may come back: access, not a session alone."""
    held = (Nexus(7, f"{HOST}5", "192.0.2.5"),)
    listed = (Target(9, PREFIX + ONE, held, (), ("ALL",)),)
    (host, _rule) = seen(VolumeRef(ONE, BACKEND), listed).observation().connections
    assert (host.access, host.sessions, host.address) == (True, 1, "192.0.2.5")


def test_session_without_rule_is_told_as_such() -> None:
    """Revoked but still in session -> no access, one session."""
    listed = (Target(9, PREFIX + ONE, (Nexus(7, f"{HOST}5", "192.0.2.5"),), (), ()),)
    (host,) = seen(VolumeRef(ONE, BACKEND), listed).observation().connections
    assert (host.access, host.sessions) == (False, 1)


def test_exports_are_the_targets_that_somebody_may_enter() -> None:
    """A listing -> each target with access or sessions, its id where the name has one."""
    listed = (
        *LISTED,
        target("iqn.x:by-hand", f"{HOST}8"),
        target(PREFIX + "snapshot", "ALL", tid=8),
    )
    exports = exports_of(listed, options())
    assert [(e.name, e.volume_id) for e in exports] == [
        (PREFIX + ONE, ONE), (PREFIX + TWO, TWO), (PREFIX + THREE, THREE),
        ("iqn.x:by-hand", None), (PREFIX + "snapshot", None),
    ]  # fmt: skip
    assert isinstance(exports[0], Export)
    assert exports[0].connections == seen(VolumeRef(ONE, BACKEND)).observation().connections
