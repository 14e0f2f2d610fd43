"""Every interleaving of a small world: no promise is broken, and every end is a good one."""

from __future__ import annotations

import os

import pytest

from tests.exhaustive.search import Found, Search, Setting
from tests.exhaustive.settings import (
    DEAD,
    FORGOTTEN,
    FULL,
    MENDED,
    MOVED_BACK,
    ONCE_MORE,
    QUICK,
)

BOUNDED = (*QUICK, *MENDED, *DEAD)
WHOLE = "DETACHD_EXHAUSTIVE" in os.environ
MOST = int(os.environ.get("DETACHD_EXHAUSTIVE_STATES", "150000"))
"""At how many states of one world the full form stops, which it says."""


def searched(setting: Setting, **bounds: int) -> Found:
    """Search, and print what it came to."""
    found = Search(setting).run(**bounds)
    print(f"{setting.name}: {found}")
    return found


@pytest.mark.parametrize("setting", BOUNDED, ids=[s.name for s in BOUNDED])
def test_every_interleaving_of_a_small_world(setting: Setting) -> None:
    """Whatever comes in which order -> no promise is broken, and all of it was seen."""
    found = searched(setting)
    assert not found.wrong, f"\n{found}"
    assert found.whole
    assert found.ends


@pytest.mark.skipif(not WHOLE, reason="takes minutes: make exhaustive")
@pytest.mark.parametrize("setting", FULL, ids=[s.name for s in FULL])
def test_every_interleaving_of_a_larger_world(setting: Setting) -> None:
    """More faults, operations and crashes -> the same, as far as the bound of states allows."""
    found = searched(setting, most=MOST)
    assert not found.wrong, f"\n{found}"


# -- counterexamples that stand --------------------------------------------------------------------


@pytest.mark.xfail(strict=True, reason="Nova's API names server and volume, not the attachment")
def test_what_was_attached_anew_is_not_detached() -> None:
    """A user detaches it and attaches it again while our call is on its way -> B is cut.

    The last look says that Nova is to detach A. Before the call arrives the user has Nova detach
    it, all of it, and attach it to the same server again, all of that too. So Nova detaches B. A
    detach that Nova was carrying out before is waited for (``Guard.NOVA_AT_IT``).
    """
    assert not searched(ONCE_MORE).wrong


@pytest.mark.xfail(strict=True, reason="the driver is told a host, and no reserve keeps a move out")
def test_a_server_that_moves_back_keeps_its_disk() -> None:
    """A server is migrated back to the host that we are releasing -> its guest loses the disk.

    A live migration left its source let in. The last look says that nobody uses it there; before
    the call arrives the user has migrated the server back.
    """
    assert not searched(MOVED_BACK).wrong


@pytest.mark.xfail(strict=True, reason="nothing shows such a guest; trust_blind accepts that")
def test_a_guest_that_nova_forgot_keeps_its_disk_on_a_blind_backend() -> None:
    """Nova forgot a disk that the guest goes on using -> we delete the row, and the guest loses it.

    cinder-api was away in the last moment of an attach; the backend is blind, and trusted.
    """
    assert not searched(FORGOTTEN).wrong
