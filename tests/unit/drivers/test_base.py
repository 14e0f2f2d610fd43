"""The words that a driver is spoken to in."""

import pytest

from drivers.base import Capabilities, VolumeRef


def test_volume_goes_by_its_id() -> None:
    """A volume that was never migrated -> one name, by the backend's template."""
    volume = VolumeRef("1b2c", "storage-1@lvm")
    assert volume.ids() == ("1b2c",)
    assert volume.names() == ("volume-1b2c",)
    assert volume.names("vol_%s") == ("vol_1b2c",)


def test_migrated_volume_goes_by_two_names() -> None:
    """A volume with a name_id -> both names, the one that the backend now has first."""
    assert VolumeRef("1b2c", "storage-1@lvm", name_id="9f8e").names() == (
        "volume-9f8e",
        "volume-1b2c",
    )


def test_capabilities_that_contradict_each_other_are_refused() -> None:
    """Hosts without connections -> ValueError, so that the plug-in is told as broken."""
    with pytest.raises(ValueError, match="sees connections too"):
        Capabilities(sees_connections=False, sees_hosts=True)
