"""Cinder's own RBD driver, in which a fault can strike the calls that attach and detach.

Else only what costs time is changed: it makes real images, and it terminates no connection, as that
driver does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinder import exception, interface
from cinder.volume import configuration
from cinder.volume.drivers import rbd
from oslo_config import cfg

from tests.lab.inside.faults import Fault, Faults
from tests.lab.inside.struck import first_volume, second_volume, struck

OPTIONS = [cfg.StrOpt("lab_faults", help="Directory that faults are read from.")]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class LabRbdDriver(rbd.RBDDriver):  # type: ignore[misc]  # Cinder is not typed
    """See the module."""

    CI_WIKI_NAME = "none"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        self.faults = Faults(Path(self.configuration.lab_faults))
        self._monitors: Any = None

    def raise_fault(self, fault: Fault) -> None:
        """Raise what a driver would raise."""
        raise exception.VolumeBackendAPIException(data=f"the lab's fault in {fault.method}")

    def _get_pool_stats(self) -> tuple[str, str]:
        """Say that nobody knows how much room there is: a Ceph without a manager does not count."""
        return "unknown", "unknown"

    def do_setup(self, context: Any) -> None:
        """Set it up, and have the monitors' addresses asked for now."""
        super().do_setup(context)
        self._get_mon_addrs()

    def _get_mon_addrs(self) -> Any:
        """Ask once, not at each connection.

        While the cores are busy, the command ``ceph`` takes as long as an RPC may in the lab.
        """
        self._monitors = self._monitors or super()._get_mon_addrs()
        return self._monitors

    @struck(first_volume)
    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        """Tell where the image is: nothing is made on the cluster."""
        return super().initialize_connection(volume, connector)

    @struck(first_volume)
    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> None:
        """Do nothing, successfully."""
        super().terminate_connection(volume, connector, **kwargs)

    @struck(second_volume)
    def remove_export(self, context: Any, volume: Any) -> None:
        """Do nothing, successfully."""
        super().remove_export(context, volume)
