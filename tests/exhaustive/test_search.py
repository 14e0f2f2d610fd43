"""Every interleaving of a small world: no promise is broken, and every end is a good one."""

from __future__ import annotations

import os

import pytest

from tests.exhaustive.search import Found, Search, Setting
from tests.exhaustive.settings import FULL, QUICK

WHOLE = "DETACHD_EXHAUSTIVE" in os.environ
MOST = int(os.environ.get("DETACHD_EXHAUSTIVE_STATES", "300000"))
"""At how many states of one world the full form stops, which it says."""


def searched(setting: Setting, **bounds: int) -> Found:
    """Search, and print what it came to."""
    found = Search(setting).run(**bounds)
    print(f"{setting.name}: {found}")
    return found


@pytest.mark.parametrize("setting", QUICK, ids=[s.name for s in QUICK])
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
