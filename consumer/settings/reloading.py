"""The configuration is read anew while the service runs (SIGHUP): modes and brakes, nothing else.

1. A file with any problem changes nothing: the service goes on with what it has. A mode or brake
   that was named and is named no more is a problem: a file of which only the beginning is written
   yet looks the same, and its backend would get the mode of [backend_defaults], which may be auto.
2. What changed is logged, with the old value and the new one. What changed and cannot be taken over
   before a restart is logged by its name alone, because it may be a secret.
3. A mode holds from the next look on, and each write has a look right before it: an attempt that is
   under way writes nothing more once its backend is in mode observe.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from oslo_config import cfg

from consumer.errors import ConfigurationError
from consumer.settings import configuration, files
from consumer.settings.configuration import Settings
from consumer.work import backends, brakes
from consumer.work.backends import Backend, Backends
from consumer.work.brakes import BrakeSettings
from handlers.judgement.policy import Mode

LOG = logging.getLogger(__name__)

KILL_SWITCH = "kill_switch_file"

Assignments = Mapping[tuple[str, str], Sequence[str]]


class Reloader:
    """Reads the files again on request, and has ``take`` take over what may change.

    ``take`` returns what changed by it, as sentences. For one thread.
    """

    def __init__(self, paths: Sequence[Path], take: Callable[[Settings], Sequence[str]]) -> None:
        self._paths = list(paths) or files.default_files()
        self._take = take
        # Two: what needs a restart is compared with the start, what was named with the last reload.
        self._at_the_start = self._taken = _assignments(self._paths)

    def reload(self) -> None:
        """Read, take over and log. Blocks for the file system; a wrong file raises nothing."""
        problems, read, needs = self._read()
        for problem in problems:
            LOG.error("the configuration was not read anew, nothing changes: %s", problem)
        if read is None:
            return
        taken = self._take(read) or ["no mode and no brake has changed"]
        for change in taken:
            LOG.info("the configuration was read anew: %s", change)
        if needs:
            LOG.warning("changed, but not before a restart: %s", ", ".join(needs))

    def _read(self) -> tuple[Sequence[str], Settings | None, Sequence[str]]:
        """Return the problems of the files, their settings, and what needs a restart."""
        try:
            named = _assignments(self._paths)
            read = configuration.load(self._paths)
            # Read before and after, because the files may be written at this moment; a rename is
            # seen by this too.
            if named != _assignments(self._paths):
                return ["a file was written while it was read"], None, ()
            if gone := no_longer_named(self._taken, named):
                return gone, None, ()
            self._taken = named
            return (), read, restart_needed(self._at_the_start, named)
        except ConfigurationError as wrong:
            return wrong.problems, None, ()
        # Its text may quote a line of the file, and so a secret.
        except cfg.Error as wrong:  # a file that changed after it was checked
            return [type(wrong).__name__], None, ()


def _assignments(paths: Sequence[Path]) -> Assignments:
    """Return what the files say, the last file last; section names as oslo.config compares them."""
    found: dict[tuple[str, str], Sequence[str]] = {}
    for path in paths:
        for title, values in files.parse(path).items():
            found |= {(title.lower(), name): tuple(value) for name, value in values.items()}
    return found


def restart_needed(before: Assignments, after: Assignments) -> list[str]:
    """Return the options that have changed and are not taken over. Pure."""
    return [
        f"[{_written(section)}] {name}"
        for section, name in sorted({*before, *after})
        if before.get((section, name)) != after.get((section, name))
        and not _taken_over(section, name)
    ]


def no_longer_named(before: Assignments, after: Assignments) -> list[str]:
    """Return a sentence for each mode or brake that the files named before and do not now. Pure."""
    return [
        f"[{_written(section)}] {name} is not named any more, as in a file that is half written; "
        "write its value there, or restart"
        for section, name in sorted({*before} - {*after})
        if _taken_over(section, name)
    ]


def _written(section: str) -> str:
    """Return a section's name as it is written in a file; the others have no capitals."""
    return "DEFAULT" if section == "default" else section


def _taken_over(section: str, name: str) -> bool:
    if section == brakes.GROUP.name:
        return name != KILL_SWITCH
    return name == "mode" and (section == backends.DEFAULTS or section.startswith(backends.PREFIX))


def with_modes(now: Backends, read: Backends) -> Backends:
    """Return the backends as they are, with the modes that were read. Pure.

    A section that is new gives its mode alone: for the rest its backend has the defaults.
    """
    return Backends(
        defaults=_in_mode(now.defaults, read.defaults.policy.mode),
        by_name={
            name: _in_mode(now.of(name), read.of(name).policy.mode)
            for name in {**now.by_name, **read.by_name}
        },
    )


def _in_mode(backend: Backend, mode: Mode) -> Backend:
    return dataclasses.replace(backend, policy=dataclasses.replace(backend.policy, mode=mode))


def mode_changes(before: Backends, after: Backends) -> Iterator[str]:
    """Yield a sentence for each backend whose mode has changed. Pure."""
    for backend in after.all():
        old = before.defaults if backend is after.defaults else before.of(backend.name)
        if old.policy.mode is not backend.policy.mode:
            yield (
                f"backend {backend.name}: mode {old.policy.mode.value} -> "
                f"{backend.policy.mode.value}"
            )


def brake_changes(before: BrakeSettings, after: BrakeSettings) -> Iterator[str]:
    """Yield a sentence for each limit that has changed. Pure."""
    for field in dataclasses.fields(BrakeSettings):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new and field.name != KILL_SWITCH:
            yield f"[brakes] {field.name}: {old:g} -> {new:g}"
