"""The processes of Keystone, Placement, Cinder and Nova, and a stub of what Nova wants besides."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.daemon import Daemon, HttpDaemon, RpcDaemon, Values, answers_http
from tests.services.ports import free_port


class Keystone(HttpDaemon):
    """Identity: Fernet tokens, everything in MariaDB."""

    name = "keystone"
    template = "keystone.conf"
    module = "keystone.wsgi.api"
    path = "/v3"

    def _prepare(self) -> None:
        super()._prepare()
        (self.directory / "fernet-keys").mkdir(mode=0o700)
        for number in (0, 1):
            key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            self._write(f"fernet-keys/{number}", key)

    def _arguments(self) -> Sequence[str | Path]:
        return ()

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "OS_KEYSTONE_CONFIG_DIR": str(self.directory)}


class Placement(HttpDaemon):
    """Where Nova's scheduler finds room."""

    name = "placement"
    template = "placement.conf"
    module = "placement.wsgi.api"

    def _arguments(self) -> Sequence[str | Path]:
        return ()

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "OS_PLACEMENT_CONFIG_DIR": str(self.directory)}


class CinderApi(HttpDaemon):
    """cinder-api, with Keystone."""

    name = "cinder-api"
    template = "cinder.conf"
    module = "cinder.wsgi.api"


class CinderScheduler(RpcDaemon):
    """cinder-scheduler."""

    name = "cinder-scheduler"
    template = "cinder.conf"
    queue = "cinder-scheduler"

    def _command(self) -> Sequence[str | Path]:
        return self._program("cinder-scheduler")


class CinderVolume(RpcDaemon):
    """cinder-volume with the lab's driver; its queue opens when the driver is set up."""

    name = "cinder-volume"
    template = "cinder.conf"

    @property
    def queue(self) -> str:  # type: ignore[override]  # made of the values
        """The queue of its backend."""
        return f"cinder-volume.{self.values['storage_host']}@{self.values['backend']}"

    def _command(self) -> Sequence[str | Path]:
        return self._program("cinder-volume")


class NovaApi(HttpDaemon):
    """nova-api (compute), in native threads as Nova 34 ships it."""

    name = "nova-api"
    template = "nova.conf"
    module = "nova.wsgi.osapi_compute"

    def _prepare(self) -> None:
        super()._prepare()
        paste = self.environment / "etc" / "nova" / "api-paste.ini"
        self._write("api-paste.ini", paste.read_text())

    def _arguments(self) -> Sequence[str | Path]:
        return ()

    def _environment(self) -> Mapping[str, str]:
        # OS_NOVA_CONFIG_FILES stays unset: its first entry would be taken for the paste file.
        return {**super()._environment(), "OS_NOVA_CONFIG_DIR": str(self.directory)}


class NovaConductor(RpcDaemon):
    """nova-conductor, for the cell and above it."""

    name = "nova-conductor"
    template = "nova.conf"
    queue = "conductor"

    def _command(self) -> Sequence[str | Path]:
        return self._program("nova-conductor")


class NovaScheduler(RpcDaemon):
    """nova-scheduler, which also maps new hosts into the cell."""

    name = "nova-scheduler"
    template = "nova.conf"
    queue = "scheduler"

    def _command(self) -> Sequence[str | Path]:
        return self._program("nova-scheduler")


class NovaCompute(RpcDaemon):
    """nova-compute of one host, with the lab's hypervisor; the guests survive its death."""

    name = "nova-compute"
    template = "nova.conf"

    @property
    def queue(self) -> str:  # type: ignore[override]  # made of the values
        """The queue of its host."""
        return f"compute.{self.values['host']}"

    @property
    def guests(self) -> Path:
        """The file that the guests are in, with the disks that they hold."""
        return self.directory / "guests.json"

    def _prepare(self) -> None:
        super()._prepare()
        node = uuid.uuid5(uuid.NAMESPACE_DNS, self.values["host"])
        self._write("compute_id", str(node))

    def _values(self) -> Values:
        return {**super()._values(), "guests": str(self.guests)}

    def _command(self) -> Sequence[str | Path]:
        return ("-m", "tests.lab.inside.compute", "--config-file", self.configuration)


class Stub(Daemon):
    """What answers for neutron and glance: with empty lists."""

    name = "stub"

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where Nova finds it."""
        return f"http://127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        """Write nothing: it has no configuration."""

    def _command(self) -> Sequence[str | Path]:
        return ("-m", "tests.lab.inside.stub", str(self.port))

    def _answers(self) -> bool:
        return answers_http(self.url)
