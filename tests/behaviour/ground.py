"""What a cloud must offer so that its behaviour can be tried out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from drivers.base import Connector
from drivers.control_plane import Cinder, Nova
from drivers.errors import OutsideError

HOSTS = ("lab-compute-1", "lab-compute-2")
NO_COMPUTE = "lab-backup-1"
TIMEOUT_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What can be seen of a volume: Cinder's two statuses, its rows', and whom the backend lets in.

    ``error`` is the kind that the call before raised.
    """

    status: str
    attach_status: str
    attachments: tuple[str, ...] = ()
    let_in: tuple[str, ...] = ()
    error: type[OutsideError] | None = None


class Others(Protocol):
    """What others ask of Cinder: Nova, users, administrators, by the attachments API or the old.

    Each raises the kinds of ``drivers.errors`` as the protocols of ``drivers.control_plane`` do.
    """

    def create_attachment(self, volume_id: str, instance_id: str | None) -> str:
        """``POST /attachments`` without a connector; return the row's id."""

    def update_attachment(self, attachment_id: str, connector: Connector) -> None:
        """``PUT /attachments/{id}`` with a connector."""

    def initialize_connection(self, volume_id: str, connector: Connector) -> None:
        """``os-initialize_connection``, of the old API: no row is touched."""

    def attach(self, volume_id: str, instance_id: str) -> None:
        """``os-attach``, of the old API: the row that it makes has no connector."""

    def begin_detaching(self, volume_id: str) -> None:
        """``os-begin_detaching``."""

    def detach(self, volume_id: str, attachment_id: str | None) -> None:
        """``os-detach``, of the old API."""

    def reset_status(self, volume_id: str, status: str, attach_status: str | None = None) -> None:
        """``os-reset_status``."""


class Servers(Protocol):
    """Nova, as its users and its administrators have it. All of these block until it is done."""

    def shared(self, host: str) -> str:
        """Return a running server that a test leaves as it was."""

    def boot(self, host: str) -> str:
        """Boot a server of the test's own."""

    def attach(self, volume_id: str, server_id: str) -> bool:
        """Attach a volume through Nova and tell whether that went well."""

    def in_state(self, server_id: str, vm_state: str) -> AbstractContextManager[None]:
        """Have a server paused, suspended, stopped or in error for a while."""

    def locked(self, server_id: str) -> AbstractContextManager[None]:
        """Have a server locked for a while."""

    def shelve(self, server_id: str) -> None:
        """Shelve a server and take it off its host."""

    def delete(self, server_id: str) -> None:
        """Delete a server."""

    def migrate(self, server_id: str, host: str) -> None:
        """Move a server to another host, live."""

    def holding(self, volume_id: str) -> tuple[str, ...]:
        """Return the servers whose guests really hold a volume."""

    def refuse_to_let_go(self, server_id: str) -> None:
        """Let the server's guest refuse the next detach."""

    def compute_down(self, host: str) -> AbstractContextManager[None]:
        """Let Nova take a compute service for down."""

    def api_down(self) -> AbstractContextManager[None]:
        """Stop nova-api."""


class Ground(Protocol):
    """One cloud. Volumes are made for each test, servers may be shared by several."""

    @property
    def cinder(self) -> Cinder:
        """Cinder, asked without a service token."""

    @property
    def vouching(self) -> Cinder:
        """Cinder, asked with a service token."""

    @property
    def vouching_on_order(self) -> Cinder:
        """Cinder, asked with a service token where the call says so."""

    @property
    def nova(self) -> Nova:
        """Nova."""

    @property
    def others(self) -> Others:
        """What others ask of Cinder."""

    @property
    def servers(self) -> Servers:
        """What others ask of Nova."""

    def connector(self, host: str) -> Connector:
        """Return the connector of a host."""

    def volume(self, *, multiattach: bool = False) -> str:
        """Make an available volume."""

    def look(self, volume_id: str) -> State:
        """Look at a volume from all sides."""

    def busy_backend(
        self, method: str, volume_id: str, act: Callable[[], None]
    ) -> Callable[[], None]:
        """Let ``act`` time out while the backend has yet to do what it was asked.

        ``method`` is the driver's. Returns what makes the backend do it and finish.
        """

    def impatient(self, volume_id: str, act: Callable[[], None]) -> Callable[[], None]:
        """Let the caller of ``act`` give up while the backend initializes the connection.

        As ``busy_backend``, but cinder-api has not given up yet.
        """

    def frozen(self, volume_id: str, act: Callable[[], None]) -> Callable[[], None]:
        """Freeze cinder-volume and let ``act`` time out; returns what thaws it."""

    def break_backend(
        self, method: str, volume_id: str, *, times: int = 1, acts: bool = False
    ) -> None:
        """Let the next calls of a driver method for a volume fail, before or after they act."""

    def faults_left(self) -> bool:
        """Tell whether a fault has not struck yet."""
