"""``[cinder]``, ``[nova]`` and ``[service_user]`` in the configuration files.

Their options depend on the auth plugin, which may be configured in another section.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from oslo_config import cfg

from drivers.openstack import session
from drivers.openstack.session import CINDER, GROUPS, NOVA, SAMPLE_PLUGIN, SECTIONS, SessionError
from drivers.registry import optional

Sections = Mapping[str, Mapping[str, Any]]


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options for the sample, with those of the most common auth plugin."""
    return [(GROUPS[section], session.options(section)) for section in SECTIONS]


def register(conf: cfg.ConfigOpts) -> None:
    """Register the options that do not depend on an auth plugin; keystoneauth registers others.

    They are registered by the name of the section. An OptGroup would keep what keystoneauth
    registers, and pass it on to every later ConfigOpts.
    """
    for section in SECTIONS:
        conf.register_opts(session.options(section, None), group=section)


def configured(conf: cfg.ConfigOpts) -> tuple[str, ...]:
    """Return those of ``[cinder]`` and ``[nova]`` that have an auth plugin."""
    return tuple(s for s in (CINDER, NOVA) if session.configured(conf, s))


def declared(files: Iterable[Sections]) -> tuple[dict[str, list[cfg.Opt]], list[str]]:
    """Return the options of each section, and a sentence for each unknown auth plugin."""
    values = _merged(files)
    opts: dict[str, list[cfg.Opt]] = {}
    problems: list[str] = []
    for section in SECTIONS:
        # As keystoneauth does: the plugin is that of the section which has the credentials.
        source = values.get(section, {}).get("auth_section") or section
        plugin = values.get(source.lower(), {}).get("auth_type") or SAMPLE_PLUGIN
        try:
            # A missing option is reported where the plugin is made.
            opts[section] = optional(session.options(section, plugin))
            opts.setdefault(source, optional(session.auth_options(source, plugin)))
        except SessionError as error:
            problems.append(str(error))
    return opts, problems


def _merged(files: Iterable[Sections]) -> dict[str, dict[str, str]]:
    """Return the last value of every assignment, which oslo.config uses."""
    values: dict[str, dict[str, str]] = {}
    for sections in files:
        for title, assignments in sections.items():
            last = {name: values[-1] for name, values in assignments.items() if values}
            values.setdefault(title.lower(), {}).update(last)
    return values
