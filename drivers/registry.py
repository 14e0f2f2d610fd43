"""Storage drivers by name, from the entry-point group ``detachd.storage_drivers``.

A package of one's own adds a driver without a change here; its setup.cfg says

    [options.entry_points]
    detachd.storage_drivers =
        mine = my_package.driver:MyDriver
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from oslo_config import cfg

from drivers.base import Capabilities, StorageDriver
from drivers.cinder_managed import ThroughCinder
from drivers.control_plane import Cinder

GROUP = "detachd.storage_drivers"


class RegistryError(Exception):
    """A storage driver cannot be had; the text says which, why, and what to do."""


class UnknownDriverError(RegistryError):
    """No installed package offers a storage driver of that name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        there_are = f"there are: {', '.join(known)}" if known else "there are none at all"
        super().__init__(
            f"No storage driver is called {name!r}; {there_are}. A driver of one's own is found "
            f"once its package is installed and declares the entry point {GROUP}."
        )


class BrokenDriverError(RegistryError):
    """A storage driver is installed but cannot be used."""

    def __init__(self, entry_point: EntryPoint, why: str) -> None:
        package = f" of package {entry_point.dist.name}" if entry_point.dist else ""
        super().__init__(
            f"The storage driver {entry_point.name!r} ({entry_point.value}{package}) cannot be "
            f"used: {why}"
        )


class AmbiguousDriverError(RegistryError):
    """Two installed packages offer different storage drivers under one name."""

    def __init__(self, name: str, values: tuple[str, ...]) -> None:
        super().__init__(
            f"The name {name!r} stands for several storage drivers: {', '.join(values)}. "
            "Uninstall all packages but one, or have the name changed."
        )


def names() -> tuple[str, ...]:
    """Return the names of all installed storage drivers, sorted."""
    return tuple(sorted({e.name for e in entry_points(group=GROUP)}))


def load(name: str) -> type[StorageDriver]:
    """Import the driver's class; raises a ``RegistryError`` whose text an operator can act on.

    Importing runs the plug-in's own module code; nothing else is done.
    """
    entry_point = _find(name)
    try:
        loaded = entry_point.load()
    except ImportError as error:
        raise BrokenDriverError(entry_point, f"its module cannot be imported ({error}).") from error
    except AttributeError as error:
        raise BrokenDriverError(entry_point, f"its module has no such class ({error}).") from error
    except Exception as error:  # somebody else's module, which can raise whatever there is
        raise BrokenDriverError(entry_point, f"its module fails: {error!r}.") from error
    if not (isinstance(loaded, type) and issubclass(loaded, StorageDriver)):
        raise BrokenDriverError(entry_point, "it is not a subclass of drivers.base.StorageDriver.")
    if (why := _unfit(loaded)) is not None:
        raise BrokenDriverError(entry_point, why)
    return loaded


def _unfit(driver: type[StorageDriver]) -> str | None:
    """Return what the class lacks of the contract, as far as that shows without making one."""
    if missing := sorted(driver.__abstractmethods__):
        return f"it lacks {', '.join(missing)}."
    if not isinstance(getattr(driver, "capabilities", None), Capabilities):
        return "it does not declare its capabilities."
    if not all(isinstance(opt, cfg.Opt) for opt in driver.opts):
        return "its opts are not options of oslo.config."
    names = [opt.dest for opt in driver.opts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"it declares the option {twice[0]} twice."
    return None


def build(name: str, backend: str, options: Mapping[str, Any], *, cinder: Cinder) -> StorageDriver:
    """Load the driver and make one for a backend (``host@backend``) with a value for each option.

    A driver that acts through Cinder gets the client of the service. What the driver itself cannot
    use raises BrokenDriverError with the driver's own words.
    """
    driver = load(name)
    try:
        if issubclass(driver, ThroughCinder):
            return driver(backend, options, cinder=cinder)
        return driver(backend, options)
    except ValueError as error:
        raise BrokenDriverError(_find(name), f"for backend {backend}: {error}") from error
    except Exception as error:  # as above; a text not meant for an operator may hold a secret
        why = f"for backend {backend} it fails with {type(error).__name__}."
        raise BrokenDriverError(_find(name), why) from error


def _find(name: str) -> EntryPoint:
    """Return the one entry point; the same one found twice (two paths to a package) is one."""
    found = {e.value: e for e in entry_points(group=GROUP, name=name)}
    if not found:
        raise UnknownDriverError(name, names())
    if len(found) > 1:
        raise AmbiguousDriverError(name, tuple(sorted(found)))
    return next(iter(found.values()))
