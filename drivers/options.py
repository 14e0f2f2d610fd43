"""A driver's own options: ``oslo.config`` ones, which its class declares as ``opts``.

The service reads them from ``[driver:NAME]`` and ``[driver:NAME:HOST@BACKEND]``; ``parsed`` makes
the same of a dictionary, for a driver's tests.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from oslo_config import cfg

GROUP = "driver"


def parsed(opts: Iterable[cfg.Opt], values: Mapping[str, object]) -> Mapping[str, Any]:
    """Return a value for every option: what ``values`` has, in texts as a file would, or default.

    Raises ValueError naming the option and the cause: one that nobody declares, a value that its
    type does not allow (a secret one is not shown), a required one that is missing.
    """
    declared = {opt.dest: opt for opt in opts}
    conf = cfg.ConfigOpts()
    conf.register_opts(optional(declared.values()), group=GROUP)
    conf([], project="detachd", default_config_files=[], default_config_dirs=[])
    for name, value in values.items():
        if name not in declared:
            there_are = ", ".join(sorted(declared)) or "none"
            raise ValueError(f"there is no option {name}; there are: {there_are}")
        _set(conf, declared[name], value)
    settled = {name: conf[GROUP][name] for name in declared}
    if missing := unset(declared.values(), settled):
        raise ValueError(f"the option {missing[0]} must be set")
    return settled


def _set(conf: cfg.ConfigOpts, opt: cfg.Opt, value: object) -> None:
    try:
        conf.set_override(opt.dest, value, group=GROUP)
    except ValueError as error:
        why = "its value is not one that it can have" if opt.secret else error
        raise ValueError(f"the option {opt.dest}: {why}") from None


def optional(opts: Iterable[cfg.Opt]) -> list[cfg.Opt]:
    """Return copies that oslo.config does not insist on.

    It would, for each section by itself, where one section completes another.
    """
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
