"""A wrong option is told in words that name it and what it may be."""

from __future__ import annotations

import pytest

from drivers import registry
from drivers.registry import parsed
from drivers.simulator import Cloud
from drivers.tgt import TgtDriver


def build(**options: object) -> TgtDriver:
    """Make a driver as the service does."""
    values = parsed(TgtDriver.opts, options)
    made = registry.build("tgt", "storage-1@tgt", values, cinder=Cloud().cinder)
    assert isinstance(made, TgtDriver)
    return made


def test_defaults_are_those_of_tgt_and_cinder() -> None:
    """Nothing set -> tgtd's own socket and Cinder's own names."""
    driver = build()
    assert driver.options == {
        "control_port": 0,
        "socket": "/var/run/tgtd/socket",
        "target_template": "iqn.2010-10.org.openstack:volume-%s",
        "control_target": None,
        "tgtadm": "/usr/sbin/tgtadm",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"control_prt": 1}, "there is no option control_prt; there are: control_port, control_t"),
        ({"control_port": "x"}, "the option control_port"),
        ({"control_port": 32768}, "the option control_port"),
        ({"socket": "tgtd/socket"}, "the option socket must be an absolute path"),
        ({"tgtadm": "tgtadm"}, "the option tgtadm must be an absolute path"),
        ({"socket": "/" + "x" * 106}, "the option socket is too long"),
        ({"target_template": "iqn.2010-10.org.openstack:volume"}, "must have %s once"),
        ({"target_template": "iqn.x:%s-%s"}, "must have %s once"),
        ({"target_template": "iqn.x:%d%s"}, "must have %s once"),
        ({"target_template": "volume-%s"}, "the option target_template must be an iSCSI name"),
        ({"control_target": "storage one"}, "the option control_target must be an iSCSI name"),
    ],
)
def test_wrong_option_is_named(options: dict[str, object], words: str) -> None:
    """A value that cannot be used -> the option's name and why."""
    with pytest.raises((registry.BrokenDriverError, ValueError)) as caught:
        build(**options)
    assert words in str(caught.value)
