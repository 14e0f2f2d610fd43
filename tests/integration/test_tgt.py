"""The tgt driver on a real tgtd with hosts that write: who is cut, who is not, what is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from drivers.base import Connection, VolumeRef
from drivers.errors import (
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.tgt.listing import read_targets
from drivers.tgt.release import (
    LetInAgainError,
    OpenAccessError,
    Release,
    SharedTargetError,
    StillConnectedError,
)
from drivers.tgt.sighting import Sighting, sight
from drivers.tgt.tgtadm import Deadline
from tests.iscsi import BACKEND, CONTROL_TARGET, Iscsi, Volume, connector_of
from tests.services.fixtures import installed
from tests.services.fuse_disk import FuseDisk
from tests.services.half_login import HalfLogin
from tests.services.initiator import Initiators
from tests.services.tgtd import Tgtd

ABSENT = "2f9a1d52-0b6c-4c0e-9a53-3f6f4b1d2c10"
A, B = "compute-a", "compute-b"
ELSEWHERE = 8192


@pytest.fixture
def iscsi(tgtd: Tgtd, initiators: Initiators, tmp_path: Path) -> Iscsi:
    """Give a backend without volumes."""
    return Iscsi(tgtd, initiators, tmp_path)


def release(iscsi: Iscsi, volume: Volume, host: str = A, *, seconds: float = 30.0) -> None:
    """Have the driver let a host go."""
    iscsi.driver(control_target=CONTROL_TARGET).force_detach(
        volume.ref, volume.attachment(host), request_id="req-test", timeout_seconds=seconds
    )


def seen(iscsi: Iscsi, volume: Volume) -> tuple[Connection, ...]:
    """Return what the driver sees of a volume."""
    return iscsi.driver().observe(volume.ref, timeout_seconds=30).connections


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds; fail when it takes longer."""
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.005)


# -- who is cut, and who is not --------------------------------------------------------------------


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "reconnects for ever"])
def test_writer_is_cut_and_the_other_misses_nothing(iscsi: Iscsi, for_ever: bool) -> None:
    """Two hosts write; one is let go -> it is out for good, the other has every write on disk."""
    volume = iscsi.volume(A, B)
    cut = iscsi.log_in(volume, A, for_ever=for_ever).logged_in()
    kept = iscsi.log_in(volume, B, first_block=ELSEWHERE).logged_in()
    release(iscsi, volume)
    assert (iscsi.may_enter(volume), iscsi.in_session(volume)) == ([B], [B])
    assert [(c.name, c.access, c.sessions) for c in seen(iscsi, volume)] == [
        (connector_of(B).initiator, True, 1)
    ]
    if for_ever:
        until(lambda: cut.counts().refusals > 3)
    else:
        assert cut.ended() == 4
        assert iscsi.log_in(volume, A).ended() == 3
    written = cut.counts().writes
    assert kept.makes_progress()
    assert cut.counts().writes == written
    assert kept.counts().logins == 1
    kept.pause()
    time.sleep(0.2)
    assert kept.missing_writes(volume.disk) == []
    assert iscsi.in_session(volume) == [B]


def test_every_session_of_the_host_is_ended(iscsi: Iscsi) -> None:
    """One host in three sessions, each logging in anew -> all are gone, and none comes back."""
    volume = iscsi.volume(A)
    hosts = [
        iscsi.log_in(volume, A, for_ever=True, first_block=n * 2000).logged_in() for n in range(3)
    ]
    assert seen(iscsi, volume)[0].sessions == 3
    release(iscsi, volume)
    for host in hosts:
        before = host.counts().refusals
        until(lambda host=host, before=before: host.counts().refusals > before)
    assert iscsi.in_session(volume) == []
    assert seen(iscsi, volume) == ()


def test_stopped_host_is_cut_all_the_same(iscsi: Iscsi) -> None:
    """SIGSTOP, let go, SIGCONT -> it finds its session gone and writes nothing more."""
    volume = iscsi.volume(A)
    host = iscsi.log_in(volume, A).logged_in()
    host.pause()
    release(iscsi, volume)
    assert (iscsi.may_enter(volume), iscsi.in_session(volume)) == ([], [])
    written = host.counts().writes
    host.resume()
    assert host.ended() == 4
    assert host.counts().writes <= written + 1, "the one that was acknowledged already"


def test_half_a_login_is_invisible_and_seen_once_it_is_whole(iscsi: Iscsi) -> None:
    """A host stops in the middle of its login, is let go, goes on -> it is in, and is seen.

    tgtd asks the access list at the first message of a login only, and lists a session at the end
    of the last. No call can tell of what lies between; the look after the late horizon can.
    """
    volume = iscsi.volume(A)
    with HalfLogin(iscsi.tgtd.port, volume.target, connector_of(A).initiator or "") as login:
        login.first_half()
        assert seen(iscsi, volume) == (Connection(connector_of(A).initiator or ""),)
        release(iscsi, volume)
        assert seen(iscsi, volume) == ()
        login.second_half()
        assert [(c.access, c.sessions) for c in seen(iscsi, volume)] == [(False, 1)]
        release(iscsi, volume)
        assert seen(iscsi, volume) == ()


def test_dead_host_is_let_go(iscsi: Iscsi) -> None:
    """Kill -9 of the host -> what is left of it, the access, is taken."""
    volume = iscsi.volume(A)
    iscsi.log_in(volume, A).logged_in().kill()
    release(iscsi, volume)
    assert seen(iscsi, volume) == ()


def test_another_volume_of_the_host_is_not_touched(iscsi: Iscsi) -> None:
    """The host writes to two volumes -> let go of one, it goes on with the other."""
    one, other = iscsi.volume(A), iscsi.volume(A)
    cut, kept = iscsi.log_in(one, A).logged_in(), iscsi.log_in(other, A).logged_in()
    release(iscsi, one)
    assert cut.ended() == 4
    assert kept.makes_progress()
    assert kept.counts().logins == 1


# -- the I/O hangs ---------------------------------------------------------------------------------


def test_hanging_io_is_not_called_clean(
    fuse_disk: FuseDisk, tgtd: Tgtd, initiators: Initiators, tmp_path: Path
) -> None:
    """The backing store hangs -> IndeterminateError in time, a session still seen; thawed, gone."""
    iscsi = Iscsi(tgtd, initiators, tmp_path)
    volume = iscsi.volume(A, disk=fuse_disk.disk)
    host = iscsi.log_in(volume, A).logged_in()
    fuse_disk.pause()
    try:
        until(lambda: not host.makes_progress(0.3))
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(StillConnectedError, match="I/O of it hangs in the backing store"):
                release(iscsi, volume, seconds=2.0)
            assert time.monotonic() - began < 10
            assert [(c.access, c.sessions) for c in seen(iscsi, volume)] == [(False, 1)]
    finally:
        fuse_disk.resume()
    until(lambda: seen(iscsi, volume) == ())
    release(iscsi, volume)


# -- tgtd is frozen, killed, started anew, or another one ------------------------------------------


def test_frozen_before_it_was_asked_is_nothing_done(iscsi: Iscsi) -> None:
    """Frozen at the first look -> TransientError in time; thawed, everything is as it was."""
    volume = iscsi.volume(A)
    host = iscsi.log_in(volume, A).logged_in()
    with iscsi.frozen():
        began = time.monotonic()
        with pytest.raises(TransientError, match="did not answer in time"):
            release(iscsi, volume, seconds=1.0)
        with pytest.raises(TransientError, match="did not answer in time"):
            iscsi.driver().observe(volume.ref, timeout_seconds=1.0)
        assert time.monotonic() - began < 10
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
        with pytest.raises(IndeterminateError, match="does what it was asked when it goes on"):
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


@pytest.mark.parametrize("writes", [False, True], ids=["asked to look", "asked to revoke"])
def test_killed_with_a_request_in_it(iscsi: Iscsi, writes: bool) -> None:
    """Kill -9 while it has our request -> an error, never "no targets"; a write: Indeterminate."""
    volume = iscsi.volume(A)
    tgtadm, ended = iscsi.driver()._tgtadm, list[type[OutsideError] | str]()

    def ask() -> None:
        deadline = Deadline.after(20)
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
    asking.join(30)
    assert ended == [IndeterminateError if writes else TransientError]


def test_down_is_nothing_done(iscsi: Iscsi) -> None:
    """No daemon -> TransientError that names the socket, of a look and of a release."""
    volume = iscsi.volume(A)
    iscsi.tgtd.kill()
    for act in (release, seen):
        with pytest.raises(TransientError, match=f"No tgtd takes requests at {iscsi.tgtd.socket}"):
            act(iscsi, volume)


def test_started_anew_it_has_lost_everything_and_that_is_unknown(iscsi: Iscsi) -> None:
    """Killed and started again -> no target, no control target: not found, not clean."""
    iscsi.add_control_target()
    volume = iscsi.volume(A)
    iscsi.tgtd.kill()
    iscsi.tgtd.start()
    for act in (release, seen):
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


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["ALL", "127.0.0.1", "127.0.0.0/8", "192.0.2.0/24"])
def test_rule_by_address_is_a_finding_and_nobody_is_cut(iscsi: Iscsi, rule: str) -> None:
    """A rule that would let it back in -> told in the observation, refused, the host writes on."""
    volume = iscsi.volume(A)
    iscsi.tgtd.let_in_address(volume.tid, rule)
    host = iscsi.log_in(volume, A).logged_in()
    assert f"anybody by the rule {rule}" in {c.name for c in seen(iscsi, volume)}
    with pytest.raises(OpenAccessError, match="back at once"):
        release(iscsi, volume)
    assert iscsi.may_enter(volume) == [rule, A]
    assert host.makes_progress()
    assert host.counts().logins == 1


def test_name_s_entry_is_not_all_where_an_address_lets_in(iscsi: Iscsi) -> None:
    """Only a rule ALL, the name was never listed -> the host is in, and so it is not clean."""
    volume = iscsi.volume()
    iscsi.tgtd.let_in_address(volume.tid, "ALL")
    host = iscsi.log_in(volume, A, for_ever=True).logged_in()
    with pytest.raises(OpenAccessError):
        release(iscsi, volume)
    assert host.makes_progress()
    assert len(seen(iscsi, volume)) == 2


def test_host_that_could_come_by_a_rule_is_not_released(iscsi: Iscsi) -> None:
    """A rule ALL, the host neither named nor in session -> no success: it may come any time."""
    volume = iscsi.volume()
    iscsi.tgtd.let_in_address(volume.tid, "ALL")
    with pytest.raises(OpenAccessError):
        release(iscsi, volume)


def test_accounts_alone_let_nobody_in(iscsi: Iscsi) -> None:
    """A target with a CHAP account and an empty access list -> nobody gets in, nobody is told."""
    volume = iscsi.volume()
    iscsi.tgtd.adm("account", "new", "--user", "somebody", "--password", "secretsecret1")
    iscsi.tgtd.adm("account", "bind", "--tid", str(volume.tid), "--user", "somebody")
    assert iscsi.log_in(volume, A).ended() == 3
    assert seen(iscsi, volume) == ()


def test_shared_target_is_left_alone(iscsi: Iscsi) -> None:
    """Two disks behind one target -> refused, naming both; the host keeps its session."""
    volume = iscsi.volume(A)
    iscsi.tgtd.add_disk(volume.tid, 2, other := iscsi.image())
    host = iscsi.log_in(volume, A).logged_in()
    with pytest.raises(SharedTargetError, match=str(other)):
        release(iscsi, volume)
    assert (iscsi.may_enter(volume), iscsi.in_session(volume)) == ([A], [A])
    assert host.makes_progress()
    assert seen(iscsi, volume)[0].sessions == 1


def test_host_that_is_not_in_a_shared_target_is_released(iscsi: Iscsi) -> None:
    """Two disks behind one target, the host never let in -> success: there is nothing to take."""
    volume = iscsi.volume(B)
    iscsi.tgtd.add_disk(volume.tid, 2, iscsi.image())
    release(iscsi, volume, A)
    assert iscsi.may_enter(volume) == [B]


def test_let_in_again_meanwhile_is_not_cut(iscsi: Iscsi) -> None:
    """Somebody lets the host in again while we wait -> told, and its session is left to it."""
    volume = iscsi.volume(A)
    host = iscsi.log_in(volume, A).logged_in()

    def again() -> None:
        iscsi.let_in(volume, A)

    looked_twice = interrupted(iscsi, volume, after=lambda: None, looks=9)
    looked_twice._revoke()
    again()
    with pytest.raises(LetInAgainError, match="not by us"):
        looked_twice._end_sessions()
    assert host.makes_progress()
    assert host.counts().logins == 1


@pytest.mark.parametrize(
    "initiator", [None, "compute-a", "iqn.x:a initiator-address=ALL", "iqn.x:a=b"]
)
def test_connector_without_a_usable_name_is_refused(iscsi: Iscsi, initiator: str | None) -> None:
    """No initiator, or what is none -> PermanentError; nobody is cut."""
    volume = iscsi.volume(A)
    iscsi.tgtd.let_in_address(volume.tid, "ALL")
    attachment = volume.attachment(A)
    connector = connector_of(A).to_mapping() | {"initiator": initiator}
    nameless = type(connector_of(A)).from_mapping(connector)
    with pytest.raises(PermanentError, match="Refused"):
        iscsi.driver().terminate_connection(
            volume.ref,
            type(attachment)(volume.ref.volume_id, None, None, nameless),
            request_id="req-test",
            timeout_seconds=10,
        )
    assert iscsi.may_enter(volume) == ["ALL", A]


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
    release(iscsi, volume)
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


def test_target_removed_while_its_host_is_let_go(iscsi: Iscsi) -> None:
    """Cinder removes the export between our look and our revoke -> released is released."""
    iscsi.add_control_target()
    volume = iscsi.volume(A)
    iscsi.log_in(volume, A).logged_in()
    remove = partial(iscsi.tgtd.remove_target, volume.tid)
    interrupted(iscsi, volume, after=remove, looks=1, seconds=30.0).run()


def test_migrated_volume_is_found_and_let_go(iscsi: Iscsi) -> None:
    """After a migration the target has the name_id's name -> seen and released by it."""
    volume = iscsi.volume(A, volume_id=ABSENT, name_id="7d3c0f0e-9f0b-4a53-8f53-0d0d5d9d1c11")
    host = iscsi.log_in(volume, A).logged_in()
    assert seen(iscsi, volume)[0].sessions == 1
    release(iscsi, volume)
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
