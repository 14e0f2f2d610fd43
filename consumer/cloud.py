"""The cloud that the service works on: Cinder, Nova, and a storage driver for each backend."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from consumer.errors import ConfigurationError
from consumer.settings import openstack
from consumer.settings.configuration import Settings, SimulatorSettings
from consumer.work.backends import DEFAULTS, PREFIX, Backend, Backends, RunIn
from drivers import registry
from drivers.base import Capabilities, StorageDriver
from drivers.child_driver import ChildDriver, NotMadeError
from drivers.cinder_managed import ThroughCinder
from drivers.control_plane import Cinder, Nova
from drivers.errors import PermanentError
from drivers.openstack import session
from drivers.openstack.cinder import CinderClient
from drivers.openstack.nova import NovaClient
from drivers.openstack.place import Place, different_regions
from handlers.judgement.policy import Mode

NO_CONTROL_PLANE = (
    "Cinder and Nova are not configured: set auth_type and its options in [cinder] and [nova] (as "
    "in nova.conf), or address and authkey in [simulator] for a simulated cloud"
)

SIMULATOR = "simulator"
"""The storage driver of the simulated cloud, which may take its address from ``[simulator]``."""

CALLS_BESIDE_CASES = 4
"""Of one backend at once: a listing, a look that learns, one at fences, one for a person."""

DriverOf = Callable[[str], StorageDriver]


@dataclasses.dataclass(frozen=True, slots=True)
class ControlPlane:
    """Cinder and Nova, and where they are by the catalog, if there is one.

    ``service_roles`` asks for the roles of the user of the service token; None: there is none.
    """

    cinder: Cinder
    nova: Nova
    places: Callable[[float], tuple[Place, Place]] | None = None
    service_roles: Callable[[float], frozenset[str] | None] | None = None


def control_plane(settings: Settings) -> ControlPlane:
    """Return Cinder and Nova as configured; connects to nothing yet. Raises ConfigurationError."""
    configured = openstack.configured(settings.conf)
    if settings.simulator is not None and not configured:
        # Only where nothing real is configured: one that is half configured must not work on a
        # simulated cloud.
        return _simulated(settings.simulator)
    if problem := _none_or_both(settings.simulator, configured):
        raise ConfigurationError([problem])
    try:
        cinder = session.cinder_endpoint(settings.conf)
        nova = session.nova_endpoint(settings.conf)
    except session.SessionError as error:
        raise ConfigurationError([str(error)]) from error

    def places(seconds: float) -> tuple[Place, Place]:
        return cinder.place(seconds), nova.place(seconds)

    return ControlPlane(
        CinderClient(cinder),
        NovaClient(nova, lambda seconds: different_regions(*places(seconds))),
        places,
        cinder.service_roles,
    )


def _simulated(simulator: SimulatorSettings) -> ControlPlane:
    # Imported by name, so that the service of a real cloud never loads the simulator.
    remote = importlib.import_module("drivers.simulator.remote")
    try:
        cloud = remote.connect_cloud(simulator.address, simulator.authkey.encode())
    except ValueError as error:
        raise ConfigurationError([f"[simulator] address: {error}"]) from error
    return ControlPlane(cloud.cinder, cloud.nova)


def _none_or_both(simulator: SimulatorSettings | None, configured: tuple[str, ...]) -> str | None:
    if simulator is not None:
        return (
            f"[simulator] cannot be combined with [{configured[0]}]: configure either a real "
            "cloud or a simulated one"
        )
    match configured:
        case ():
            return NO_CONTROL_PLANE
        case (one,):
            other = "nova" if one == "cinder" else "cinder"
            return f"[{one}] is configured and [{other}] is not: detachd needs both"
    return None


def capabilities(settings: Settings) -> list[Capabilities]:
    """Return what the driver of each backend can do, of each driver once.

    Raises RegistryError for a driver that cannot be loaded.
    """
    drivers = {backend.driver or "" for backend in settings.backends.all()}
    return [registry.load(name).capabilities for name in drivers]


def parks_all(backend: Backend) -> bool:
    """Tell whether a backend may be acted on, but whatever needs a release there is parked.

    Its driver cannot see the connections, and the operator has not set ``trust_blind``. Raises
    RegistryError for a driver that cannot be loaded.
    """
    acts = backend.policy.mode is not Mode.OBSERVE and not backend.policy.trust_blind
    return acts and not registry.load(backend.driver or "").capabilities.sees_connections


class Drivers:
    """The storage driver of each backend. Thread-safe.

    Each driver is made when it is first needed, and kept. No lock is held meanwhile: a constructor
    that hangs holds up nobody else. Those of backends that have a section are
    made at the start, so that a wrong option is found then: a ConfigurationError. Later, a driver
    that cannot be made is a PermanentError.
    """

    def __init__(self, settings: Settings, cinder: Cinder) -> None:
        self._settings = settings
        self._cinder = cinder
        self._made: dict[str, StorageDriver] = {}
        self._lock = threading.Lock()
        _refuse_apart(settings.backends)
        for name in dict.fromkeys(
            [*settings.backends.by_name, *settings.driver_options.backends()]
        ):
            try:
                self(name)
            except PermanentError as error:
                raise ConfigurationError([str(error)]) from error

    def __call__(self, backend: str) -> StorageDriver:
        """Return the driver of ``host@backend``."""
        if (made := self._made.get(backend)) is not None:
            return made
        # Without the lock: a constructor that hangs would hold up every other backend.
        new = self._make(backend)
        with self._lock:
            # Two threads may both have made it: one is used, so that a driver's state is not in two
            # places.
            return self._made.setdefault(backend, new)

    def _make(self, backend: str) -> StorageDriver:
        settings = self._settings.backends.of(backend)
        name = settings.driver or ""
        options = self._settings.driver_options.of(name, backend)
        try:
            if self._settings.simulator and name == SIMULATOR:
                options = _completed(options, self._settings.simulator)
            if settings.run_in is RunIn.PROCESS:
                return _apart(name, settings, backend, options)
            return registry.build(name, backend, options, cinder=self._cinder)
        # Permanent: an option that is wrong now is wrong at the next attempt, and a person should
        # see it.
        except (registry.RegistryError, NotMadeError) as error:
            raise PermanentError(str(error)) from error


def _refuse_apart(backends: Backends) -> None:
    """Raise ConfigurationError where a driver shall run in a process that cannot."""
    for backend in (one for one in backends.all() if one.run_in is RunIn.PROCESS):
        section = DEFAULTS if backend is backends.defaults else PREFIX + backend.name
        try:
            through_cinder = issubclass(registry.load(backend.driver or ""), ThroughCinder)
        except registry.RegistryError as error:
            raise ConfigurationError([str(error)]) from error
        if through_cinder:
            why = (
                f"[{section}] run_in = process: the driver {backend.driver} acts through Cinder, "
                "by detachd's own client, which keeps to its time limits; set run_in = thread"
            )
            raise ConfigurationError([why])


def _apart(name: str, settings: Backend, backend: str, options: Mapping[str, Any]) -> StorageDriver:
    """Return a driver whose calls run in child processes; blocks while the first one starts."""
    return ChildDriver(
        registry.load(name),
        backend,
        options,
        # How it is made, and not the driver itself: what its library opens belongs to the process
        # that makes the calls.
        functools.partial(registry.build, name, backend, dict(options), cinder=None),
        grace_seconds=settings.policy.driver_grace_seconds,
        # Processes, each for one call: as many as can be wanted at once.
        most=settings.concurrency + CALLS_BESIDE_CASES,
    )


def _completed(options: Mapping[str, Any], simulator: SimulatorSettings) -> Mapping[str, Any]:
    """Take from ``[simulator]`` what the driver's own section leaves out."""
    from_cloud = {"address": simulator.address, "authkey": simulator.authkey}
    return {name: value or from_cloud.get(name) for name, value in options.items()}
