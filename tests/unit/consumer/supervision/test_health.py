"""The component ``cinder``: whether it is the Cinder that the notifications are about."""

from __future__ import annotations

from consumer.supervision.health import Strangers
from handlers.counting import VolumeSought


def told(*sought: tuple[str, bool]) -> Strangers:
    """Return what has been told that Cinder knows these volumes, or not."""
    strangers = Strangers()
    for volume_id, known in sought:
        strangers.note(VolumeSought(volume_id, known))
    return strangers


def test_several_volumes_that_cinder_never_had() -> None:
    """Three volumes in a row that Cinder never had -> not ready, and it says what to check."""
    check = told(("a", False), ("b", False), ("c", False)).check()
    assert (check.component, check.ok) == ("cinder", False)
    assert "region_name" in check.reason
    assert "last 3 volumes" in check.reason


def test_one_volume_asked_for_again_and_again() -> None:
    """One volume that was deleted unheard, looked at eight times -> ready."""
    assert told(*[("a", False)] * 8).check().ok


def test_a_volume_that_it_has_ends_the_doubt() -> None:
    """Cinder knows the next volume -> ready again, and the count begins anew."""
    strangers = told(("a", False), ("b", False), ("c", False), ("d", True))
    assert strangers.check().ok
    strangers.note(VolumeSought("e", known=False))
    assert strangers.check().ok
