"""Examines what detachd needs, with calls that change nothing: ``detachd doctor``.

1. The files alone first: without a valid configuration nothing else can be examined.
2. Each part is examined for itself: one that does not answer is a finding, and no end.
3. Nothing is declared, written or migrated.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from consumer.bus.broker import url_explained
from consumer.bus.examination import examine
from consumer.bus.settings import DEFAULT, ListenerSettings
from consumer.cli.installation import coverage, rights
from consumer.cloud import ControlPlane, Drivers, control_plane, parks_all
from consumer.errors import ConfigurationError
from consumer.findings import Finding, Level, error, good, note, warning
from consumer.ledger import Ledger, LedgerError
from consumer.periodic import kill_switch
from consumer.settings import buses, configuration, files, sample
from consumer.settings.configuration import Settings
from consumer.settings.ledger import open_ledger
from consumer.status.words import ago
from consumer.work import backends
from consumer.work.backends import Backend
from consumer.work.driver_calls import BoundedDrivers
from drivers import registry
from drivers.errors import OutsideError, PermanentError
from drivers.openstack.place import described, doubts
from handlers.judgement.policy import Mode

LOOK_SECONDS = 20.0
UNSET = "rabbit://"  # oslo.messaging's default of transport_url, which names no host
MOST_SKEW_SECONDS = 5.0
HEARD_WITHIN = timedelta(days=1)
NO_HOST = "detachd-doctor-asks-for-no-host"


def examine_files(paths: Sequence[Path]) -> tuple[Settings | None, list[Finding]]:
    """Read the configuration; return it, if it is valid, and what was found. No connection."""
    area = "configuration"
    try:
        given = list(paths) or files.default_files()
        # Everything else needs it: a wrong file is the one finding then.
        settings = configuration.load(given)
        buses.check_files(_buses_of(settings))
    except ConfigurationError as wrong:
        return None, [error(area, problem) for problem in wrong.problems]
    read = ", ".join(map(str, given))
    return settings, [
        *(list(_words_left(given)) or [good(area, f"{read}: no error")]),
        *_unset(settings),
        *_modes_of(given),
        *_variables(given),
        *_backends(settings),
    ]


def examine_all(
    settings: Settings, *, try_detach: bool, try_writes: str | None
) -> Iterator[Finding]:
    """Yield what is found of all that detachd talks to. Blocks for each, within its time limit.

    ``try_detach``: Nova is asked to detach a volume that nobody has. ``try_writes``: the volume
    that Cinder is asked to reserve and to give back.
    """
    yield from _ledger(settings)
    yield from _use_cases(settings)
    for bus in _buses_of(settings):
        if not _is_unset(settings, bus):  # that was said of the files
            yield from examine(bus)
    yield from _cloud(settings, try_detach=try_detach, try_writes=try_writes)


def worst(findings: Sequence[Finding]) -> Level:
    """Return the level of the worst finding."""
    return max((finding.level for finding in findings), default=Level.GOOD)


def _buses_of(settings: Settings) -> Sequence[ListenerSettings]:
    with url_explained():
        return buses.read(settings.conf)


def _unset(settings: Settings) -> Iterator[Finding]:
    for bus in _buses_of(settings):
        if _is_unset(settings, bus):
            yield error(f"bus {bus.bus}", "transport_url is not set", "set it in [DEFAULT]")


def _words_left(paths: Sequence[Path]) -> Iterator[Finding]:
    """Yield an error for each word of `config minimal` that nobody has replaced."""
    said: dict[tuple[str, str], str] = {}
    for path in paths:
        for section, values in files.parse(path).items():
            said |= {(section, option): value[-1] for option, value in values.items()}
    for (section, option), value in said.items():
        # oslo.config reads the variable before any file.
        if f"OS_{section}__{option}".upper() in os.environ:
            continue
        for word in sample.words_left(value, section, option):
            yield error(
                "configuration", f"[{section}] {option} still has the word {word}", "replace it"
            )


def _is_unset(settings: Settings, bus: ListenerSettings) -> bool:
    return bus.bus == DEFAULT and settings.conf.transport_url == UNSET


def _modes_of(paths: Sequence[Path]) -> Iterator[Finding]:
    for path in paths:
        with contextlib.suppress(OSError):
            if path.stat().st_mode & stat.S_IROTH:
                yield warning(
                    "configuration",
                    f"{path} may hold passwords, and every user of this machine can read it",
                    f"chmod o-rwx {path}",
                )


def _variables(paths: Sequence[Path]) -> Iterator[Finding]:
    for said in configuration.unknown_variables(paths, os.environ):
        yield warning("configuration", said, "correct its name, or unset it")


# -- the backends, by what is configured -----------------------------------------------------------


def _backends(settings: Settings) -> Iterator[Finding]:
    for backend in settings.backends.all():
        yield from _backend(backend, _section(settings, backend))


def _section(settings: Settings, backend: Backend) -> str:
    default = backend is settings.backends.defaults
    return f"[{backends.DEFAULTS if default else backends.PREFIX + backend.name}]"


def _use_cases(settings: Settings) -> Iterator[Finding]:
    """Yield what can be detected, seen and released on each backend."""
    heard = coverage.Heard(_sources(settings), settings.sweep.enabled)
    for backend in settings.backends.all():
        able = registry.load(backend.driver or "").capabilities
        area = f"use cases of {_section(settings, backend)}"
        yield from coverage.of(backend, able, heard, area)


def _sources(settings: Settings) -> Collection[str] | None:
    """Return the sources that were ever heard of; None where the ledger cannot be read."""
    with contextlib.closing(open_ledger(settings.cloud, settings.ledger)) as ledger:
        try:
            ledger.check_schema()
            return {source for source, _ in ledger.last_heard()}
        except LedgerError:
            return None


def _backend(backend: Backend, area: str) -> Iterator[Finding]:
    policy = backend.policy
    able = registry.load(backend.driver or "").capabilities
    sight = "sees who is connected" if able.sees_connections else "cannot see who is connected"
    yield good(area, f"driver {backend.driver} {sight}; mode {policy.mode.value}")
    if policy.mode is Mode.OBSERVE:
        yield note(
            area,
            "mode observe: what is stuck is diagnosed and told, and nothing is released",
            f"set mode = approve or auto in {area} when you trust the plans",
        )
    elif parks_all(backend):
        yield warning(
            area,
            "whatever needs a release is parked (UC1, UC3, UC5, and the end of UC4): the driver "
            "is blind, and trust_blind is not set",
            "use a driver that sees the backend, or read on trust_blind in the sample "
            "configuration and set it",
        )
    if not able.lists_exports:
        yield note(
            area, "exports without any record in Cinder are not searched for: the driver cannot"
        )


# -- the ledger ------------------------------------------------------------------------------------


def _ledger(settings: Settings) -> Iterator[Finding]:
    area = "ledger"
    with contextlib.closing(open_ledger(settings.cloud, settings.ledger)) as ledger:
        try:
            ledger.check_schema()
            yield good(area, f"{ledger.name} answers, and its tables are those of this version")
            yield from _ledger_file(settings)
            yield from _clock(ledger)
            yield from _heard(ledger)
        except LedgerError as away:
            yield error(area, str(away))


def _ledger_file(settings: Settings) -> Iterator[Finding]:
    path = settings.ledger.url.partition(":///")[2]
    if not settings.ledger.url.startswith("sqlite") or not path:
        return
    with contextlib.suppress(OSError):
        if Path(path).stat().st_mode & (stat.S_IRWXO):
            yield warning(
                "ledger", f"{path} can be read by every user of this machine", f"chmod o-rwx {path}"
            )


def _clock(ledger: Ledger) -> Iterator[Finding]:
    before = datetime.now(UTC)
    # Compared with the middle of the request: half of the way is our own delay.
    theirs = ledger.now()
    skew = (theirs - (before + (datetime.now(UTC) - before) / 2)).total_seconds()
    if abs(skew) > MOST_SKEW_SECONDS:
        yield warning(
            "clock",
            f"the database's clock is {skew:+.0f} s from the one of this machine",
            "let both follow the same time server: ages and the times of messages are compared",
        )
    else:
        yield good("clock", f"the database's clock is {abs(skew):.1f} s from this machine's")


def _heard(ledger: Ledger) -> Iterator[Finding]:
    """Yield from which sources notifications really arrive."""
    area = "notifications"
    now = ledger.now()
    last = ledger.last_heard()
    for (source, bus), at in sorted(last.items()):
        said = f"{source} on bus {bus}: the last one about an attachment came {ago(at, now)}"
        yield good(area, said) if now - at < HEARD_WITHIN else note(area, said)
    for missing in ("cinder", "nova"):
        if not any(source.startswith(missing) for source, _ in last):
            yield warning(
                area,
                f"none of {missing}'s about an attachment has ever arrived",
                "docs/notifications.md says what to set there; then attach a volume and ask again",
            )


# -- Cinder and Nova -------------------------------------------------------------------------------


def _cloud(settings: Settings, *, try_detach: bool, try_writes: str | None) -> Iterator[Finding]:
    try:
        clouds = control_plane(settings)
    except ConfigurationError as wrong:
        yield from (error("cloud", problem) for problem in wrong.problems)
        return
    yield from _regions(clouds)
    yield from rights.of_service_user(clouds)
    cinder, nova = _cinder(clouds), list(_nova(clouds))
    yield from (cinder, *nova)
    # A person has said that nothing is to be written from this host.
    if (try_detach or try_writes) and (switch := _kill_switch(settings)) is not None:
        yield warning("cloud", f"no call was tried: the kill switch {switch} is there")
        try_detach, try_writes = False, None
    # Otherwise each read would tell the same once more.
    if all(finding.level < Level.ERROR for finding in (cinder, *nova)):
        yield from rights.reads(clouds, try_detach=try_detach, try_writes=try_writes)
    yield from _drivers(settings, clouds)


def _kill_switch(settings: Settings) -> Path | None:
    """Return the file that stops all writes of this host, where it is there."""
    path = settings.brakes.kill_switch_file
    return Path(path) if path and kill_switch.is_there(Path(path)) else None


def _regions(clouds: ControlPlane) -> Iterator[Finding]:
    if clouds.places is None:
        return
    try:
        places = clouds.places(LOOK_SECONDS)
    except OutsideError as away:
        yield error("keystone", str(away))
        return
    yield good("keystone", f"by the catalog: {described(*places)}")
    yield from rights.roles(places)
    yield from (warning("keystone", doubt) for doubt in doubts(*places))
    yield from (error("keystone", place.ambiguity) for place in places if place.ambiguity)


def _cinder(clouds: ControlPlane) -> Finding:
    try:
        volumes = clouds.cinder.count_volumes(timeout_seconds=LOOK_SECONDS)
    except OutsideError as away:
        return error("cinder", str(away), _remedy(away, "Cinder"))
    if not volumes:
        return warning(
            "cinder",
            "it answers, and shows no volume at all",
            "if the cloud has volumes, the user sees those of its own project only: give it the "
            "admin role",
        )
    return good("cinder", f"it answers, and shows {volumes} volumes of all projects")


def _remedy(away: OutsideError, service: str) -> str:
    """Return what to do; nothing more than the error says where the service gave no answer."""
    return f"the user needs the admin role in {service}" if isinstance(away, PermanentError) else ""


def _nova(clouds: ControlPlane) -> Iterator[Finding]:
    try:
        clouds.nova.servers(after=None, limit=1, timeout_seconds=LOOK_SECONDS)
        yield good("nova", "it answers, and lists servers of all projects")
        # Of a host that does not exist: only the right to ask is of interest.
        clouds.nova.compute_up(NO_HOST, timeout_seconds=LOOK_SECONDS)
        yield good("nova", "it lets detachd see which compute services are up")
    except OutsideError as away:
        yield error("nova", str(away), _remedy(away, "Nova"))


def _drivers(settings: Settings, clouds: ControlPlane) -> Iterator[Finding]:
    try:
        drivers = BoundedDrivers(Drivers(settings, clouds.cinder), settings.backends)
    except ConfigurationError as wrong:
        yield from (error("drivers", problem) for problem in wrong.problems)
        return
    for backend in settings.backends.by_name:
        try:
            how = drivers(backend).how_reached(timeout_seconds=LOOK_SECONDS)
        except OutsideError as away:
            yield error(_area(backend), str(away), "compare with the page of its driver")
        else:
            yield from [good(_area(backend), f"reached: {how}")] if how else []


def _area(backend: str) -> str:
    return f"backend:{backend}"
