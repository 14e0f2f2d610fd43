"""The storage driver of the simulated cloud: what the service drives in demo, tests, benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from oslo_config import cfg

from drivers.base import Attachment, Capabilities, Export, Observation, StorageDriver, VolumeRef
from drivers.errors import PermanentError
from drivers.simulator.storage_face import StorageFace
from drivers.simulator.wire import Caller, RemoteFaces, parse_address


class Clouded(Protocol):
    """A cloud, here or far away, as a driver needs it."""

    @property
    def storage(self) -> StorageFace:
        """Its backends."""


class SimulatorDriver(StorageDriver):
    """Sees and acts on one backend of a simulated cloud.

    Either its options name a cloud that ``serve_cloud`` serves, or it is passed as ``cloud``;
    without either: ValueError.
    """

    opts = (
        cfg.StrOpt(
            "address",
            help="The address of the simulated cloud, as HOST:PORT. If unset, that of [simulator].",
        ),
        cfg.StrOpt(
            "authkey",
            secret=True,
            help="The shared secret of the simulated cloud. If unset, that of [simulator].",
        ),
    )

    capabilities = Capabilities(
        sees_connections=True,
        sees_hosts=True,
        sees_sessions=True,
        lists_exports=True,
        revokes_access=True,
        ends_sessions=True,
    )

    def __init__(
        self, backend: str, options: Mapping[str, Any], *, cloud: Clouded | None = None
    ) -> None:
        super().__init__(backend, options)
        # In one process without a network for most tests; over the wire for the service by itself.
        self._cloud = cloud if cloud is not None else _connected(options)

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Say who is connected; NotFoundError where the backend knows no such volume."""
        return self._cloud.storage.observe(self.backend, volume, timeout_seconds=timeout_seconds)

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """Return every volume that a host has access to."""
        return self._cloud.storage.list_exports(self.backend, timeout_seconds=timeout_seconds)

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Revoke exactly the connector's access, then end its sessions; absent is success."""
        if attachment.connector is None:
            raise PermanentError(
                "Refused, nothing done: without a connector every host would lose its access."
            )
        self._cloud.storage.terminate_connection(
            self.backend,
            volume,
            attachment,
            request_id=request_id,
            timeout_seconds=timeout_seconds,
        )

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Remove the target unless another host still has access."""
        self._cloud.storage.detach(
            self.backend,
            volume,
            attachment,
            request_id=request_id,
            timeout_seconds=timeout_seconds,
        )


def _connected(options: Mapping[str, Any]) -> Clouded:
    address, authkey = options.get("address"), options.get("authkey")
    if not address or not authkey:
        raise ValueError(
            "The simulator driver needs the options address (host:port) and authkey of a "
            "simulated cloud that is being served."
        )
    return RemoteFaces(Caller(parse_address(address), authkey.encode()))
