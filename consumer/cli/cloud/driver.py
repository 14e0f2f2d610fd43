"""``detachd driver ...``: the storage drivers that are installed, and one look with one of them."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cliff.lister import Lister

from consumer.cli.configured import ConfiguredCommand, settings_of
from consumer.errors import BadInputError
from consumer.status.words import printable

if TYPE_CHECKING:
    from consumer.settings.configuration import Settings
    from drivers.base import Capabilities, Connection, Observation, StorageDriver
    from drivers.control_plane import Volume


class DriverList(Lister):
    """List the storage drivers that are installed, with what each can do.

    A driver that cannot be imported is listed with the reason.
    """

    def take_action(
        self,
        parsed_args: argparse.Namespace,  # noqa: ARG002 - cliff's signature
    ) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        """Return a row for each driver."""
        from drivers import registry

        return ("Driver", "Can", "Cannot"), [_row(name) for name in registry.names()]


def _row(name: str) -> tuple[str, str, str]:
    from drivers import registry

    try:
        able = registry.load(name).capabilities
    except registry.RegistryError as error:
        return name, "", str(error)
    return name, ", ".join(_abilities(able, has=True)), ", ".join(_abilities(able, has=False))


def _abilities(able: Capabilities, *, has: bool) -> Iterator[str]:
    for field in dataclasses.fields(able):
        if getattr(able, field.name) is has:
            yield field.name


class NoSuchVolumeError(BadInputError):
    """Cinder has no volume of this id."""


class BlindDriverError(BadInputError):
    """The driver of this backend cannot see who is connected, so there is nothing to try."""


class DriverProbe(ConfiguredCommand):
    """Look at one volume with the storage driver of a backend, as detachd does, and change nothing.

    It tries a driver and its options on the real array before detachd relies on them. Try it on a
    volume that is attached, where a host must be shown, and on one that is not.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("backend", help="as `openstack volume service list` has it: HOST@NAME")
        parser.add_argument("volume", help="the id of a volume")

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Look, and print what the backend holds."""
        settings = settings_of(parsed_args)
        limit = settings.backends.of(parsed_args.backend).policy.look_timeout_seconds
        volume, driver = _made(settings, parsed_args.backend, parsed_args.volume, limit)
        self._say(_asked(parsed_args.backend, driver, volume))
        # Only the look: the making of the driver and Cinder's answer are no part of its limit.
        began = time.monotonic()
        seen = driver.observe(volume.ref, timeout_seconds=limit)
        seconds = time.monotonic() - began
        self._say(_answered(seen))
        self._say([f"took       {seconds:.2f} s of at most {limit:g} s"])

    def _say(self, lines: Iterable[str]) -> None:
        self.app.stdout.writelines(printable(line) + "\n" for line in lines)


def _made(
    settings: Settings, backend: str, volume_id: str, limit: float
) -> tuple[Volume, StorageDriver]:
    """Return the volume by Cinder, and the driver with its calls bounded."""
    from consumer.cloud import Drivers, control_plane
    from consumer.work.driver_calls import BoundedDrivers

    clouds = control_plane(settings)
    volume = clouds.cinder.volume(volume_id, timeout_seconds=limit)
    if volume is None:
        raise NoSuchVolumeError(f"Cinder has no volume {volume_id}; name it by its full id")
    # Bounded as in the service, so that a driver that hangs is seen here and not there.
    driver = BoundedDrivers(Drivers(settings, clouds.cinder), settings.backends)(backend)
    if not driver.capabilities.sees_connections:
        name = settings.backends.of(backend).driver
        raise BlindDriverError(
            f"the driver of {backend}, {name}, cannot see who is connected: there is nothing to "
            f"try. Set another one in [backend:{backend}]; `detachd driver list` shows them"
        )
    return volume, driver


def _asked(backend: str, driver: StorageDriver, volume: Volume) -> Iterator[str]:
    """Yield what is asked for, before the answer: it explains an error too."""
    yield f"driver     {driver.kind} of {backend}"
    ref = volume.ref
    yield f"volume     {ref.volume_id}, {volume.status} by Cinder"
    if ref.name_id:
        yield f"           the backend knows it as {ref.name_id}"
    if ref.backend != backend:
        yield f"WARNING    by Cinder it is on {ref.backend}, and not on {backend}"


def _answered(seen: Observation) -> Iterator[str]:
    yield f"control    {seen.control}"
    if not seen.connections:
        yield "connected  nobody"
    for number, connection in enumerate(seen.connections):
        yield f"{'' if number else 'connected':<9}  {_connection(connection)}"


def _connection(connection: Connection) -> str:
    access = "has access" if connection.access else "has no access"
    where = connection.host or connection.host_ip or connection.address or ""
    at = f" ({where})" if where and where != connection.name else ""
    sessions = "not shown" if connection.sessions is None else connection.sessions
    return f"{connection.name}{at}: {access}, sessions: {sessions}"
