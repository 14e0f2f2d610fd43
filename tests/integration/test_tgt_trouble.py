"""The tgt driver in trouble: tgtd frozen, killed, another one, or without the volume's target."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from drivers.base import VolumeRef
from drivers.child import Deadline
from drivers.errors import IndeterminateError, NotFoundError, OutsideError, TransientError
from drivers.tgt.listing import ElsewhereError, Sighting, read_targets, sight
from drivers.tgt.release import AccessGivenAgainError, Release
from tests.bus import until
from tests.iscsi import BACKEND, CONTROL_TARGET, Iscsi, Volume, connector_of, release, seen
from tests.services.fixtures import installed
from tests.services.tgtd import Tgtd

ABSENT = "2f9a1d52-0b6c-4c0e-9a53-3f6f4b1d2c10"
A, B = "compute-a", "compute-b"


# -- tgtd is frozen, killed, started anew, or another one ------------------------------------------


def test_frozen_before_it_was_asked_is_nothing_done(iscsi: Iscsi) -> None:
    """Frozen at the first look -> TransientError in time; thawed, everything is as it was."""
    volume = iscsi.volume(A)
    host = iscsi.log_in(volume, A).logged_in()
    with iscsi.frozen():
        began = time.monotonic()
        with pytest.raises(TransientError, match="did not answer in time"):
            release(iscsi, volume, A, seconds=1.0)
        with pytest.raises(TransientError, match="did not answer in time"):
            iscsi.driver().observe(volume.ref, timeout_seconds=1.0)
        assert time.monotonic() - began < 30
    assert host.makes_progress()
    assert (iscsi.may_enter(volume), iscsi.in_session(volume)) == ([A], [A])


def interrupted(
    iscsi: Iscsi, volume: Volume, *, after: Callable[[], None], looks: int, seconds: float = 4.0
) -> Release:
    """Make a release in which something happens right after a number of looks."""
    driver, made = iscsi.driver(control_target=CONTROL_TARGET), []
    deadline = Deadline.after(seconds)

    def look() -> Sighting:
        listed = read_targets(driver._tgtadm.show_targets(deadline))
        found = sight(volume.ref, listed, driver._options)
        made.append(found)
        if len(made) == looks:
            after()
        return found

    return Release(driver._tgtadm, look, connector_of(A).initiator or "", deadline)


def test_frozen_while_it_writes_is_indeterminate_and_done_later(iscsi: Iscsi) -> None:
    """Frozen between look and revoke -> IndeterminateError; the thaw takes the access after all."""
    volume = iscsi.volume(A)
    try:
        with pytest.raises(IndeterminateError, match="carries out the request when it continues"):
            interrupted(iscsi, volume, after=iscsi.tgtd.pause, looks=1).run()
    finally:
        iscsi.tgtd.resume()
    until(lambda: iscsi.may_enter(volume) == [])


def test_frozen_after_a_write_is_no_transient_error(iscsi: Iscsi) -> None:
    """Revoked, then frozen at a mere look -> Indeterminate: something was done."""
    volume = iscsi.volume(A)
    host = iscsi.log_in(volume, A).logged_in()
    try:
        with pytest.raises(IndeterminateError, match="Done in part"):
            interrupted(iscsi, volume, after=iscsi.tgtd.pause, looks=2).run()
    finally:
        iscsi.tgtd.resume()
    assert iscsi.may_enter(volume) == []
    assert host.running


def test_refused_after_a_write_is_no_refusal(iscsi: Iscsi) -> None:
    """Revoked, then a look that cannot be used -> Indeterminate: "refused" would be "not done"."""
    volume = iscsi.volume(A)
    iscsi.log_in(volume, A).logged_in()
    by_hand = f"iqn.2001-04.com.example:{volume.ref.volume_id}"
    export = partial(iscsi.tgtd.add_target, by_hand, iscsi.image())
    with pytest.raises(IndeterminateError, match="Done in part, then: Volume"):
        interrupted(iscsi, volume, after=export, looks=2).run()
    assert iscsi.may_enter(volume) == []
    with pytest.raises(ElsewhereError):
        release(iscsi, volume, A)


@pytest.mark.parametrize("writes", [False, True], ids=["asked to look", "asked to revoke"])
def test_killed_with_a_request_in_it(iscsi: Iscsi, writes: bool) -> None:
    """Kill -9 while it has our request -> an error, never "no targets"; a write: Indeterminate."""
    volume = iscsi.volume(A)
    tgtadm, ended = iscsi.driver()._tgtadm, list[type[OutsideError] | str]()

    def ask() -> None:
        deadline = Deadline.after(60)
        try:
            if writes:
                tgtadm.unbind(volume.tid, connector_of(A).initiator or "", deadline)
            else:
                ended.append(tgtadm.show_targets(deadline))
        except OutsideError as error:
            ended.append(type(error))

    iscsi.tgtd.pause()
    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    iscsi.tgtd.kill()
    asking.join(90)
    assert ended == [IndeterminateError if writes else TransientError]


def test_down_is_nothing_done(iscsi: Iscsi) -> None:
    """No daemon -> TransientError that names the socket, of a look and of a release."""
    volume = iscsi.volume(A)
    iscsi.tgtd.kill()
    for act in (partial(release, host=A), seen):
        with pytest.raises(TransientError, match=f"No tgtd takes requests at {iscsi.tgtd.socket}"):
            act(iscsi, volume)


def test_started_anew_it_has_lost_everything_and_that_is_unknown(iscsi: Iscsi) -> None:
    """Killed and started again -> no target, no control target: not found, not clean."""
    iscsi.add_control_target()
    volume = iscsi.volume(A)
    iscsi.tgtd.kill()
    iscsi.tgtd.start()
    for act in (partial(release, host=A), seen):
        with pytest.raises(NotFoundError):
            act(iscsi, volume)


@pytest.mark.parametrize("wrong", ["control_port", "socket"])
def test_wrong_place_is_unknown(iscsi: Iscsi, wrong: str, tmp_path: Path) -> None:
    """A control port or a socket of nobody -> an error that names it."""
    volume = iscsi.volume(A)
    elsewhere = {"control_port": iscsi.tgtd.control_port + 1, "socket": str(tmp_path / "socket")}
    driver = iscsi.driver(**{wrong: elsewhere[wrong]})
    with pytest.raises(TransientError, match=driver._options.place):
        driver.observe(volume.ref, timeout_seconds=30)


def test_another_daemon_is_unknown(iscsi: Iscsi, tmp_path: Path) -> None:
    """The tgtd of another backend, with volumes of its own -> not found, never clean."""
    volume = iscsi.volume(A)
    with installed(Tgtd) as other:
        Iscsi(other, iscsi.initiators, tmp_path).volume(B)
        driver = iscsi.driver(
            control_port=other.control_port, socket=str(other.socket), control_target=CONTROL_TARGET
        )
        with pytest.raises(NotFoundError, match="the wrong tgtd was asked"):
            driver.observe(volume.ref, timeout_seconds=30)


def test_user_who_may_not_sees_no_empty_list(iscsi: Iscsi, tmp_path: Path) -> None:
    """The daemon hangs up on another group than its own -> an error, no empty list."""
    volume = iscsi.volume(A)
    program = tmp_path / "as-another-group"
    program.write_text(
        f'#!/bin/sh\nexec setpriv --regid=1 --clear-groups {iscsi.tgtd.tgtadm} "$@"\n'
    )
    program.chmod(0o755)
    with pytest.raises(OutsideError, match="gave no answer"):
        iscsi.driver(tgtadm=str(program)).observe(volume.ref, timeout_seconds=30)


# -- somebody else acts meanwhile ----------------------------------------------------------------


def test_let_in_again_meanwhile_is_not_cut(iscsi: Iscsi) -> None:
    """Somebody lets the host in again while we wait -> told, and its session is left to it."""
    volume = iscsi.volume(A)
    host = iscsi.log_in(volume, A).logged_in()

    def again() -> None:
        iscsi.let_in(volume, A)

    looked_twice = interrupted(iscsi, volume, after=lambda: None, looks=9)
    looked_twice._revoke()
    again()
    with pytest.raises(AccessGivenAgainError, match="not from us"):
        looked_twice._end_sessions()
    assert host.makes_progress()
    assert host.counts().logins == 1


def test_target_removed_while_its_host_is_let_go(iscsi: Iscsi) -> None:
    """Cinder removes the export between our look and our revoke -> released is released."""
    iscsi.add_control_target()
    volume = iscsi.volume(A)
    iscsi.log_in(volume, A).logged_in()
    remove = partial(iscsi.tgtd.remove_target, volume.tid)
    interrupted(iscsi, volume, after=remove, looks=1, seconds=30.0).run()


# -- what is not there -----------------------------------------------------------------------------


def test_volume_without_a_target_is_clean_where_the_control_target_is_seen(iscsi: Iscsi) -> None:
    """Cinder has removed the export -> clean by the control target, and its release succeeds."""
    iscsi.add_control_target()
    volume = iscsi.volume(A)
    iscsi.log_in(volume, A).logged_in()
    iscsi.tgtd.remove_target(volume.tid)
    observation = iscsi.driver(control_target=CONTROL_TARGET).observe(
        volume.ref, timeout_seconds=30
    )
    assert observation.connections == ()
    assert CONTROL_TARGET in observation.control
    release(iscsi, volume, A)
    with pytest.raises(NotFoundError, match="control_target, which is not set"):
        seen(iscsi, volume)


def test_control_target_of_the_documentation_is_one(iscsi: Iscsi, tmp_path: Path) -> None:
    """The page's own lines given to tgt-admin -> that target is there and lets nobody in."""
    page = (Path(__file__).parents[2] / "docs" / "drivers-tgt.md").read_text()
    lines = page[page.index("    <target ") : page.index("    </target>")] + "    </target>\n"
    (tmp_path / "detachd.conf").write_text(lines)
    iscsi.tgtd.admin("--conf", str(tmp_path / "detachd.conf"), "--execute")
    driver = iscsi.driver(control_target=CONTROL_TARGET)
    observation = driver.observe(VolumeRef(ABSENT, BACKEND), timeout_seconds=30)
    assert CONTROL_TARGET in observation.control
    login = iscsi.initiators.start(iscsi.tgtd.url, CONTROL_TARGET, connector_of(A).initiator or "")
    assert login.ended() == 3


def test_migrated_volume_is_found_and_let_go(iscsi: Iscsi) -> None:
    """After a migration the target has the name_id's name -> seen and released by it."""
    volume = iscsi.volume(A, volume_id=ABSENT, name_id="7d3c0f0e-9f0b-4a53-8f53-0d0d5d9d1c11")
    host = iscsi.log_in(volume, A).logged_in()
    assert seen(iscsi, volume)[0].sessions == 1
    release(iscsi, volume, A)
    assert host.ended() == 4


def test_exports_are_listed(iscsi: Iscsi) -> None:
    """Two volumes let somebody in, one nobody, beside the control target -> the two are listed."""
    iscsi.add_control_target()
    volumes = [iscsi.volume(A), iscsi.volume(), iscsi.volume(B)]
    iscsi.log_in(volumes[2], B).logged_in()
    exports = iscsi.driver().list_exports(timeout_seconds=30)
    assert [(e.name, e.volume_id, len(e.connections)) for e in exports] == [
        (v.target, v.ref.volume_id, 1) for v in (volumes[0], volumes[2])
    ]
    assert [e.connections[0].sessions for e in exports] == [0, 1]


def test_daemon_without_targets_lists_none(iscsi: Iscsi) -> None:
    """An empty daemon -> no exports; a volume there is unknown all the same."""
    assert iscsi.driver().list_exports(timeout_seconds=30) == ()
    with pytest.raises(NotFoundError):
        iscsi.driver().observe(VolumeRef(ABSENT, BACKEND), timeout_seconds=30)
