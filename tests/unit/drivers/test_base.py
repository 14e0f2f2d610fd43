"""The words that a driver is spoken to in."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from drivers.base import (
    Capabilities,
    ClientInstance,
    Connection,
    Connector,
    Observation,
    VolumeRef,
    id_in,
)


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


def test_only_a_name_of_the_template_has_an_id() -> None:
    """A name by the template -> the id in it; any other name, or another thing in it -> None."""
    volume_id = "5f1c0a52-98f4-4f2e-9d63-0a5b1c7de911"
    assert id_in(f"iqn.2010-10.org:volume-{volume_id}", "iqn.2010-10.org:volume-%s") == volume_id
    assert id_in(f"iqn.2010-10xorg:volume-{volume_id}", "iqn.2010-10.org:volume-%s") is None
    assert id_in(f"volume-{volume_id}.deleted", "volume-%s") is None
    assert id_in("volume-by-hand", "volume-%s") is None


def test_capabilities_that_contradict_each_other_are_refused() -> None:
    """Hosts or sessions without connections -> ValueError, so that the plug-in is called broken."""
    with pytest.raises(ValueError, match="sees connections too"):
        Capabilities(sees_connections=False, sees_hosts=True)
    with pytest.raises(ValueError, match="sees connections too"):
        Capabilities(sees_connections=False, sees_sessions=True)


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


# -- clients ---------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 28, 11, tzinfo=UTC)
HOST = Connector(host="compute-1", initiator="iqn.x:1", ip="192.0.2.5")
CLIENT = Connection(
    "client.1", address="192.0.2.5:0/7", sessions=1, host_ip="192.0.2.5", cookies=(140,)
)


def test_client_of_a_healthy_attachment_is_learned() -> None:
    """One client of the host has the volume open -> it is learned, with all that tells it."""
    other = dataclasses.replace(CLIENT, name="client.2", host_ip="192.0.2.6")
    learned = Observation((other, CLIENT), "a control").client_of(HOST, NOW)
    assert learned == ClientInstance("192.0.2.5:0/7", "client.1", 140, NOW)


@pytest.mark.parametrize(
    "connections",
    [
        (),
        (CLIENT, dataclasses.replace(CLIENT, name="client.2")),
        (dataclasses.replace(CLIENT, cookies=(140, 141), sessions=2),),
        (dataclasses.replace(CLIENT, cookies=(), sessions=0),),
        (dataclasses.replace(CLIENT, host_ip="192.0.2.6"),),
        (Connection("iqn.x:1", address="192.0.2.5", sessions=1),),
    ],
)
def test_where_it_is_not_clear_which_none_is_learned(connections: tuple[Connection, ...]) -> None:
    """No client of the host, several, or one with several sessions -> nothing is learned."""
    assert Observation(connections, "a control").client_of(HOST, NOW) is None


def test_driver_that_ends_clients_does_not_keep_hosts_out() -> None:
    """Both declared -> ValueError: the service would call it where the host can come back."""
    with pytest.raises(ValueError, match="keep its host from coming back"):
        Capabilities(sees_connections=True, revokes_access=True, by_learned_client=True)


def test_connection_is_kept_as_it_always_was_where_nothing_more_is_told() -> None:
    """A backend that names hosts -> the five values of old, so that approvals stay good."""
    assert Connection("iqn.x:1").to_mapping() == {
        "name": "iqn.x:1", "host": None, "address": None, "access": True, "sessions": 0,
    }  # fmt: skip
    told = CLIENT.to_mapping()
    assert (told["host_ip"], told["cookies"]) == ("192.0.2.5", [140])
