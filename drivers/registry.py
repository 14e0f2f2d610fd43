"""Storage drivers by name, from the entry-point group ``detachd.storage_drivers``.

A package of one's own adds a driver without a change here; its setup.cfg says

    [options.entry_points]
    detachd.storage_drivers =
        mine = my_package.driver:MyDriver

1. A driver that cannot be used is an error with its name and the cause, whatever its module raises.
2. No error shows the value of a secret option, nor a foreign text that may hold one.

A driver's own options are ``oslo.config`` ones, which its class declares as ``opts``. The service
reads them from ``[driver:NAME]`` and ``[driver:NAME:HOST@BACKEND]``; ``parsed`` makes the same of a
dictionary, for a driver's tests.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from oslo_config import cfg

from drivers.base import Capabilities, StorageDriver
from drivers.cinder_managed import ThroughCinder
from drivers.control_plane import Cinder

GROUP = "detachd.storage_drivers"


class RegistryError(Exception):
    """A storage driver cannot be loaded; the text says which, why, and what to do."""


class UnknownDriverError(RegistryError):
    """No installed package offers a storage driver of that name."""

    def __init__(self, name: str, installed: tuple[str, ...]) -> None:
        there_are = f"there are: {', '.join(installed)}" if installed else "none is installed"
        super().__init__(
            f"No storage driver is called {name!r}; {there_are}. detachd finds a driver "
            f"when its package is installed and declares the entry point {GROUP}."
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
            "Uninstall all of these packages but one, or have the name changed."
        )


def names() -> tuple[str, ...]:
    """Return the names of all installed storage drivers, sorted."""
    # A set: a package that is found on two paths declares its drivers twice.
    return tuple(sorted({e.name for e in _declared(tuple(sys.path))}))


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
    except Exception as error:  # a foreign module can raise anything
        raise BrokenDriverError(entry_point, f"its module fails: {error!r}.") from error
    if not (isinstance(loaded, type) and issubclass(loaded, StorageDriver)):
        raise BrokenDriverError(entry_point, "it is not a subclass of drivers.base.StorageDriver.")
    if (why := _unfit(loaded)) is not None:
        raise BrokenDriverError(entry_point, why)
    return loaded


def _unfit(driver: type[StorageDriver]) -> str | None:
    """Return what the class lacks of the contract, as far as that shows without making one."""
    # Found here and not by a TypeError when the first case of that backend comes.
    if missing := sorted(driver.__abstractmethods__):
        return f"it lacks {', '.join(missing)}."
    if not isinstance(getattr(driver, "capabilities", None), Capabilities):
        return "it does not declare its capabilities."
    if not all(isinstance(opt, cfg.Opt) for opt in driver.opts):
        return "its opts are not options of oslo.config."
    # oslo.config would raise DuplicateOptError from within, without the name of the driver.
    names = [opt.dest for opt in driver.opts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"it declares the option {twice[0]} twice."
    return None


def build(
    name: str, backend: str, options: Mapping[str, Any], *, cinder: Cinder | None
) -> StorageDriver:
    """Load the driver and make one for a backend (``host@backend``) with a value for each option.

    A driver that acts through Cinder gets the client of the service. What the driver itself cannot
    use raises BrokenDriverError with the driver's own words.
    """
    driver = load(name)
    # In a child process there is no client: it holds tokens and connections of ours
    # (docs/decisions/0034).
    if cinder is None and issubclass(driver, ThroughCinder):
        why = f"for backend {backend} in a process: it acts through Cinder; set run_in = thread."
        raise BrokenDriverError(_find(name), why)
    try:
        if cinder is not None and issubclass(driver, ThroughCinder):
            return driver(backend, options, cinder=cinder)
        return driver(backend, options)
    except ValueError as error:
        raise BrokenDriverError(_find(name), f"for backend {backend}: {error}") from error
    except Exception as error:  # as above; a text not meant for an operator may hold a secret
        why = f"for backend {backend} it fails with {type(error).__name__}."
        raise BrokenDriverError(_find(name), why) from error


def _find(name: str) -> EntryPoint:
    """Return the one entry point; the same one found twice (two paths to a package) is one."""
    found = {e.value: e for e in _declared(tuple(sys.path)) if e.name == name}
    if not found:
        raise UnknownDriverError(name, names())
    # Which of two would be taken depends on the order of sys.path, and would change by an
    # installation.
    if len(found) > 1:
        raise AmbiguousDriverError(name, tuple(sorted(found)))
    return next(iter(found.values()))


@functools.lru_cache(maxsize=1)
def _declared(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return what the packages on a ``sys.path`` declare.

    Read once, as it takes the metadata of every installed package: 20 ms, and all workers at once
    where each meets a backend for the first time. What is installed later is found after a restart.
    """
    del path  # sys.path, for the cache alone
    return tuple(entry_points(group=GROUP))


SECTION = "driver"


def parsed(opts: Iterable[cfg.Opt], values: Mapping[str, object]) -> Mapping[str, Any]:
    """Return a value for every option: what ``values`` has, in texts as a file would, or default.

    Raises ValueError naming the option and the cause: one that is not declared, a value that its
    type does not allow (a secret one is not shown), a required one that is missing.
    """
    declared = {opt.dest: opt for opt in opts}
    conf = cfg.ConfigOpts()
    conf.register_opts(optional(declared.values()), group=SECTION)
    # Without this oslo.config would look for /etc/detachd/detachd.conf, also in a driver's test.
    conf([], project="detachd", default_config_files=[], default_config_dirs=[])
    for name, value in values.items():
        if name not in declared:
            there_are = ", ".join(sorted(declared)) or "none"
            raise ValueError(f"there is no option {name}; there are: {there_are}")
        _set(conf, declared[name], value)
    settled = {name: conf[SECTION][name] for name in declared}
    if missing := unset(declared.values(), settled):
        raise ValueError(f"the option {missing[0]} must be set")
    return settled


def _set(conf: cfg.ConfigOpts, opt: cfg.Opt, value: object) -> None:
    try:
        conf.set_override(opt.dest, value, group=SECTION)
    except ValueError as error:
        # The error of oslo.config quotes the value.
        why = "its value is not allowed" if opt.secret else error
        raise ValueError(f"the option {opt.dest}: {why}") from None


def optional(opts: Iterable[cfg.Opt]) -> list[cfg.Opt]:
    """Return copies that oslo.config does not insist on.

    It would, for each section by itself, where one section completes another.
    """
    # Copies: the options are class attributes of the driver, shared by every ConfigOpts.
    copies = [copy.copy(opt) for opt in opts]
    for opt in copies:
        opt.required = False
    return copies


def unset(opts: Iterable[cfg.Opt], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the required options that have no value."""
    return tuple(opt.dest for opt in opts if opt.required and values[opt.dest] is None)


def secrets(opts: Iterable[cfg.Opt], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values, as text, of the options that are declared secret and set."""
    return tuple(str(values[opt.dest]) for opt in opts if opt.secret and values.get(opt.dest))
