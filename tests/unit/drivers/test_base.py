"""The words that a driver is spoken to in."""

from typing import Any

import pytest

from drivers.base import Capabilities, Connector, VolumeRef


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


# -- connectors ------------------------------------------------------------------------------------

POWERFLEX = {
    "host": "compute-1", "initiator": "iqn.1994-05.com.redhat:1", "sdc_guid": "4C4C4544-0035",
}  # fmt: skip
LIGHTOS = {
    "host": "compute-1", "nqn": "nqn.2014-08.org:uuid:1", "host_ips": ["192.0.2.1", "192.0.2.2"],
    "found_dsc": "found",
}  # fmt: skip


@pytest.mark.parametrize("told", [POWERFLEX, LIGHTOS])
def test_what_cinder_s_drivers_read_is_handed_on_as_it_came(told: dict[str, Any]) -> None:
    """A connector with a vendor's keys -> the same ones to Cinder's API, and from a ledger."""
    connector = Connector.from_mapping(told)
    assert connector.to_mapping() == told
    assert Connector.from_mapping(connector.to_mapping()) == connector


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auth_password", "x"),
        ("nqn", "DHHC-1:00:c2VjcmV0:"),
        ("found_dsc", "nvme://admin:secret@192.0.2.1"),
        ("host_ips", ["DHHC-1:00:c2VjcmV0:"]),
        ("initiator", "x" * 256),
        ("sdc_guid", 7),
    ],
)
def test_a_secret_is_kept_under_no_key(key: str, value: object) -> None:
    """Another key, or a value of a secret's shape, or none of the type -> left out."""
    assert Connector.from_mapping(POWERFLEX | {key: value}) == Connector.from_mapping(
        {name: text for name, text in POWERFLEX.items() if name != key}
    )


@pytest.mark.parametrize(
    ("connector", "protocol", "missing"),
    [
        (Connector("h", initiator="iqn.1"), "iscsi", ()),
        (Connector("h", nqn="nqn.1"), "iscsi", ("initiator",)),
        (Connector("h", initiator="iqn.1"), "fibre_channel", ("wwpns",)),
        (Connector("h", initiator="iqn.1"), "scaleio", ("sdc_guid",)),
        (Connector("h", nqn="nqn.1"), "lightos", ("host_ips",)),
        (Connector("h"), "LightOS", ("nqn", "host_ips")),
        (Connector("h"), "rbd", ()),
        (Connector(initiator="iqn.1"), "rbd", ("host",)),
        (Connector("h", ip="192.0.2.1"), None, ()),
        (Connector(initiator="iqn.1"), None, ("host",)),
    ],
)
def test_what_a_protocol_needs(
    connector: Connector, protocol: str | None, missing: tuple[str, ...]
) -> None:
    """A connector without the name by which the protocol knows a host -> incomplete."""
    assert connector.missing(protocol) == missing
