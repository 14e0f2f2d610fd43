"""The tgt driver on a real tgtd with hosts that write: who is cut, who is not, what is refused."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from drivers.base import Connection
from drivers.errors import PermanentError
from drivers.tgt.release import OpenAccessError, SharedTargetError, StillConnectedError
from tests.bus import until
from tests.iscsi import Iscsi, connector_of, release, seen
from tests.services.fuse_disk import FuseDisk
from tests.services.half_login import HalfLogin
from tests.services.initiator import Initiator, Initiators
from tests.services.tgtd import Tgtd

A, B = "compute-a", "compute-b"
ELSEWHERE = 8192


# -- who is cut, and who is not --------------------------------------------------------------------


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "reconnects for ever"])
def test_writer_is_cut_and_the_other_misses_nothing(iscsi: Iscsi, for_ever: bool) -> None:
    """Two hosts write; one is let go -> it is out for good, the other has every write on disk."""
    volume = iscsi.volume(A, B)
    cut = iscsi.log_in(volume, A, for_ever=for_ever).logged_in()
    kept = iscsi.log_in(volume, B, first_block=ELSEWHERE).logged_in()
    release(iscsi, volume, A)
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


def tries_again(host: Initiator, refusals: int) -> bool:
    """Tell whether a host was refused more often than that."""
    return host.counts().refusals > refusals


def test_every_session_of_the_host_is_ended(iscsi: Iscsi) -> None:
    """One host in three sessions, each logging in anew -> all are gone, and none comes back."""
    volume = iscsi.volume(A)
    hosts = [
        iscsi.log_in(volume, A, for_ever=True, first_block=n * 2000).logged_in() for n in range(3)
    ]
    assert seen(iscsi, volume)[0].sessions == 3
    release(iscsi, volume, A)
    refused = [host.counts().refusals for host in hosts]
    for host, before in zip(hosts, refused, strict=True):
        until(partial(tries_again, host, before))
    assert iscsi.in_session(volume) == []
    assert seen(iscsi, volume) == ()


def test_stopped_host_is_cut_all_the_same(iscsi: Iscsi) -> None:
    """SIGSTOP, let go, SIGCONT -> it finds its session gone and writes nothing more."""
    volume = iscsi.volume(A)
    host = iscsi.log_in(volume, A).logged_in()
    host.pause()
    release(iscsi, volume, A)
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
        release(iscsi, volume, A)
        assert seen(iscsi, volume) == ()
        login.second_half()
        assert [(c.access, c.sessions) for c in seen(iscsi, volume)] == [(False, 1)]
        release(iscsi, volume, A)
        assert seen(iscsi, volume) == ()


def test_dead_host_is_let_go(iscsi: Iscsi) -> None:
    """Kill -9 of the host -> what is left of it, the access, is taken."""
    volume = iscsi.volume(A)
    iscsi.log_in(volume, A).logged_in().kill()
    release(iscsi, volume, A)
    assert seen(iscsi, volume) == ()


def test_another_volume_of_the_host_is_not_touched(iscsi: Iscsi) -> None:
    """The host writes to two volumes -> let go of one, it goes on with the other."""
    one, other = iscsi.volume(A), iscsi.volume(A)
    cut, kept = iscsi.log_in(one, A).logged_in(), iscsi.log_in(other, A).logged_in()
    release(iscsi, one, A)
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
                release(iscsi, volume, A, seconds=2.0)
            assert time.monotonic() - began < 30
            assert [(c.access, c.sessions) for c in seen(iscsi, volume)] == [(False, 1)]
    finally:
        fuse_disk.resume()
    until(lambda: seen(iscsi, volume) == ())
    release(iscsi, volume, A)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["ALL", "127.0.0.1", "127.0.0.0/8", "192.0.2.0/24"])
def test_rule_by_address_is_a_finding_and_nobody_is_cut(iscsi: Iscsi, rule: str) -> None:
    """A rule that would let it back in -> told in the observation, refused, the host writes on."""
    volume = iscsi.volume(A)
    iscsi.tgtd.let_in_address(volume.tid, rule)
    host = iscsi.log_in(volume, A).logged_in()
    assert f"any host by the rule {rule}" in {c.name for c in seen(iscsi, volume)}
    with pytest.raises(OpenAccessError, match="connect again at once"):
        release(iscsi, volume, A)
    assert iscsi.may_enter(volume) == [rule, A]
    assert host.makes_progress()
    assert host.counts().logins == 1


def test_name_s_entry_is_not_all_where_an_address_lets_in(iscsi: Iscsi) -> None:
    """Only a rule ALL, the name was never listed -> the host is in, and so it is not clean."""
    volume = iscsi.volume()
    iscsi.tgtd.let_in_address(volume.tid, "ALL")
    host = iscsi.log_in(volume, A, for_ever=True).logged_in()
    with pytest.raises(OpenAccessError):
        release(iscsi, volume, A)
    assert host.makes_progress()
    assert len(seen(iscsi, volume)) == 2


def test_host_that_could_come_by_a_rule_is_not_released(iscsi: Iscsi) -> None:
    """A rule ALL, the host neither named nor in session -> no success: it may come any time."""
    volume = iscsi.volume()
    iscsi.tgtd.let_in_address(volume.tid, "ALL")
    with pytest.raises(OpenAccessError):
        release(iscsi, volume, A)


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
        release(iscsi, volume, A)
    assert (iscsi.may_enter(volume), iscsi.in_session(volume)) == ([A], [A])
    assert host.makes_progress()
    assert seen(iscsi, volume)[0].sessions == 1


def test_host_that_is_not_in_a_shared_target_is_released(iscsi: Iscsi) -> None:
    """Two disks behind one target, the host never let in -> success: there is nothing to take."""
    volume = iscsi.volume(B)
    iscsi.tgtd.add_disk(volume.tid, 2, iscsi.image())
    release(iscsi, volume, A)
    assert iscsi.may_enter(volume) == [B]


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
