"""The lab's servers, lent to scenes; those that come back as new are lent again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.behaviour.lab_servers import LabServers
from tests.lab.openstack import until


class Cast:
    """Servers by host. Thread-safe."""

    def __init__(self, servers: LabServers) -> None:
        self._servers = servers
        self._idle: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def server(self, host: str) -> Iterator[str]:
        """Lend a running server; when it is given back, only one that is as new is kept."""
        with self._lock:
            idle = self._idle.setdefault(host, [])
            server_id = idle.pop() if idle else None
        server_id = server_id or self._servers.boot(host)
        yield server_id
        if self._servers.as_new(server_id, host):
            with self._lock:
                self._idle[host].append(server_id)

    def detach(self, volume_id: str, server_id: str) -> None:
        """Detach a volume through Nova; blocks until nobody has it any more."""
        self._servers.ask_detach(volume_id, server_id)
        until(lambda: self._servers.is_free(volume_id, server_id), f"{volume_id} is free")
