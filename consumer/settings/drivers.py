"""The storage drivers' own options: ``[driver:NAME]`` and ``[driver:NAME:HOST@BACKEND]``.

Each driver's class declares them (``StorageDriver.opts``). Only drivers in the configuration are
imported, so that a broken driver which is not used does no harm.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from oslo_config import cfg

from consumer.work.backends import PREFIX as BACKEND_PREFIX
from consumer.work.backends import Backends
from drivers import registry
from drivers.base import StorageDriver
from drivers.registry import optional, unset

PREFIX = "driver:"

Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One such section, for all backends of the driver or for one of them."""

    title: str
    driver: str
    backend: str | None

    @classmethod
    def of(cls, title: str) -> Section:
        """Parse the title of such a section."""
        driver, _, backend = title[len(PREFIX) :].partition(":")
        return cls(title, driver, backend or None)


@dataclasses.dataclass(frozen=True, slots=True)
class DriverOptions:
    """The values of those sections. The repr shows none, because some are secret."""

    shared: Mapping[str, Values] = dataclasses.field(repr=False)
    own: Mapping[tuple[str, str], Values] = dataclasses.field(repr=False)
    sections: tuple[Section, ...]

    def of(self, driver: str, backend: str) -> Values:
        """Return the options of a driver for ``host@backend``; its own section comes first."""
        # The own section has every value by now, the inherited ones too (``_values``).
        return self.own.get((driver, backend)) or self.shared.get(driver, {})

    def backends(self) -> tuple[str, ...]:
        """Return the backends that have their own section."""
        return tuple(dict.fromkeys(s.backend for s in self.sections if s.backend))


def is_own(title: str) -> bool:
    """Tell whether a section of the configuration files is one of a driver."""
    return title.lower().startswith(PREFIX)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options of every installed driver, for ``oslo-config-generator``.

    For a driver that cannot be imported, the section has the error and no options.
    """
    return [_listed(name) for name in registry.names()]


def _listed(name: str) -> tuple[cfg.OptGroup, list[cfg.Opt]]:
    try:
        kind = registry.load(name)
    except registry.RegistryError as error:
        return cfg.OptGroup(PREFIX + name, help=str(error)), []
    summary = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
    help_text = (
        f"{summary} A section [driver:{name}:HOST@BACKEND] sets the same options for one backend. "
        "An option that it does not set has the value from here."
    )
    return cfg.OptGroup(PREFIX + name, title=f"The storage driver {name}", help=help_text), list(
        kind.opts
    )


def declared(titles: Iterable[str]) -> tuple[dict[str, list[cfg.Opt]], list[str]]:
    """Return the options of these sections, and a sentence for each driver that cannot load."""
    opts: dict[str, list[cfg.Opt]] = {}
    problems: list[str] = []
    for section in (Section.of(title) for title in titles if is_own(title)):
        try:
            opts[section.title] = optional(registry.load(section.driver).opts)
        except registry.RegistryError as error:
            # So that its options are not reported as unknown too: the driver is the one problem.
            opts[section.title] = []
            problems.append(f"[{section.title}]: {error}")
    return opts, problems


def read(conf: cfg.ConfigOpts, backends: Backends) -> DriverOptions:
    """Read the options of every driver in the configuration, which was checked before."""
    sections = tuple(Section.of(title) for title in conf.list_all_sections() if is_own(title))
    used = {b.driver for b in backends.all() if b.driver} | {s.driver for s in sections}
    # A driver that cannot be loaded is reported where the backends are checked.
    kinds = {name: kind for name in sorted(used) if (kind := _loaded(name)) is not None}
    shared = {name: _values(conf, PREFIX + name, kinds[name].opts, {}) for name in kinds}
    own = {
        (s.driver, s.backend): _values(conf, s.title, kinds[s.driver].opts, shared[s.driver])
        for s in sections
        if s.backend is not None
    }
    return DriverOptions(shared, own, sections)


def _loaded(name: str) -> type[StorageDriver] | None:
    try:
        return registry.load(name)
    except registry.RegistryError:
        return None


def _values(conf: cfg.ConfigOpts, title: str, opts: Iterable[cfg.Opt], inherited: Values) -> Values:
    """Read one section. A missing value is inherited and not parsed again."""
    mine = optional(opts)
    conf.register_opts(mine, group=title)
    return {
        opt.dest: conf[title][opt.dest]
        # A value and not another default: oslo.config would substitute a ``$`` in it once more
        # (docs/decisions/0008).
        if opt.dest not in inherited or _is_set(conf, title, opt.dest)
        else inherited[opt.dest]
        for opt in mine
    }


def _is_set(conf: cfg.ConfigOpts, title: str, name: str) -> bool:
    found = conf.get_location(name, title)
    # Set by a file or a variable, and not by a default.
    return found is not None and found.location.is_user_controlled


def problems(options: DriverOptions, backends: Backends) -> Iterator[str]:
    """Yield a sentence for each section that is not used, and each missing option."""
    yield from _titles_alike(options)
    for section in options.sections:
        if section.backend is not None:
            yield from _reader_problems(section, section.backend, backends)
    # Without sections of backends, drivers are made with the defaults only.
    names = dict.fromkeys([*backends.by_name, *options.backends()])
    for name in names or (backends.defaults.name,):
        yield from _missing(backends.of(name).driver or "", name, options)


def _titles_alike(options: DriverOptions) -> Iterator[str]:
    seen: dict[str, str] = {}
    for title in (section.title for section in options.sections):
        if (other := seen.setdefault(title.lower(), title)) != title:
            yield f"[{title}] and [{other}] differ by case only"


def _reader_problems(section: Section, backend: str, backends: Backends) -> Iterator[str]:
    if backend.count("@") != 1 or "#" in backend:
        yield f"[{section.title}]: a backend is named HOST@BACKEND, without #POOL"
    elif (used := backends.of(backend).driver) != section.driver:
        yield (
            f"[{section.title}] is not used: the driver of backend {backend} is {used}; set "
            f"driver = {section.driver} in [{BACKEND_PREFIX}{backend}], or name the section after "
            f"{used}"
        )


def _missing(driver: str, backend: str, options: DriverOptions) -> Iterator[str]:
    if driver in options.shared:
        for name in unset(registry.load(driver).opts, options.of(driver, backend)):
            yield f"[{PREFIX}{driver}] {name} must be set, for backend {backend}"
