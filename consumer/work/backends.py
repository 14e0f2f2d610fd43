"""What the operator says of each Cinder backend: ``[backend_defaults]`` and ``[backend:...]``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from oslo_config import cfg

from handlers.judgement.policy import BackendPolicy, LateAttach, Mode

Choice = TypeVar("Choice", Mode, LateAttach)

DEFAULTS = "backend_defaults"
PREFIX = "backend:"
DEFAULT_DRIVER = "cinder_managed"
GROUP = cfg.OptGroup(
    DEFAULTS,
    title="What holds for every Cinder backend that has no section of its own",
    help=(
        "A section [backend:HOST@BACKEND], named as Cinder's service list has it (without "
        "#POOL), takes the same options for that one backend; what it does not set comes from here."
    ),
)

SHORTEST_LOOK_SECONDS = 0.1
"""In less than this nothing is ever seen, and every case ends with a person."""

MODES: Mapping[Mode, str] = {
    Mode.OBSERVE: "Diagnose and tell; change nothing.",
    Mode.APPROVE: "Plan, then wait for `detachd case approve`.",
    Mode.AUTO: "Act where it is proven safe.",
}
LATE_ATTACHES: Mapping[LateAttach, str] = {
    LateAttach.KEEP: "It stays attached, as its user asked for.",
    LateAttach.DETACH: "Nova is asked to detach it; in mode approve after a second yes.",
}
POLICY_HELP: Mapping[str, str] = {
    "mode": "How far detachd may go by itself.",
    "look_timeout_seconds": "The longest that one read of Cinder, Nova or the backend may take.",
    "call_timeout_seconds": (
        "The longest that one write may take. Longer than rpc_response_timeout_seconds in [cloud], "
        "so that Cinder's own answer is heard."
    ),
    "lease_margin_seconds": "How much longer than the longest step a claim must last.",
    "tries": "How often one call is made while it surely did nothing (a transient error).",
    "try_backoff_seconds": "The first bound of the pause between two such tries; it doubles.",
    "try_backoff_max_seconds": "The longest pause between two such tries.",
    "max_failures": "How many attempts may fail before a case is parked for a person.",
    "retry_backoff_seconds": "The first bound of the pause between two attempts; it doubles.",
    "retry_backoff_max_seconds": "The longest pause between two attempts.",
    "late_horizon_seconds": (
        "How long a driver call that timed out may still act: before that the volume is given to "
        "nobody else; a mended case is looked at again after this, and only then closed. At least "
        "five times rpc_response_timeout_seconds."
    ),
    "trust_blind": (
        "Accept the word of a driver that cannot see the backend's connections. The outcome then "
        "says verified_by = driver."
    ),
    "allow_no_connector": (
        "Where the connector of an attachment's host was never seen: let a driver that can do so "
        "end every connection of the volume, if there is one alone, without a session, for the "
        "only attachment that there is."
    ),
    "nova_detach_wait_seconds": "How long one attempt waits for Nova's own detach.",
    "patience_seconds": (
        "How old a case may grow while somebody else's operation on the volume is in flight, "
        "before a person is asked."
    ),
    "late_attach": (
        "What becomes of an attach that Nova and the backend have and that only Cinder does not "
        "know of, once Cinder has been told (UC2). One that is known to have ended well is kept."
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """One backend's settings. ``concurrency`` caps the cases of it that are worked at once."""

    name: str
    driver: str | None
    concurrency: int
    policy: BackendPolicy


@dataclasses.dataclass(frozen=True, slots=True)
class Backends:
    """Every backend that has a section, and what holds for all others."""

    defaults: Backend
    named: Mapping[str, Backend]

    def of(self, backend: str | None) -> Backend:
        """Return the settings of ``host@backend``, or the defaults under that name."""
        if backend is not None and backend in self.named:
            return self.named[backend]
        return dataclasses.replace(self.defaults, name=backend or self.defaults.name)

    def all(self) -> tuple[Backend, ...]:
        """Return the defaults and then every backend with a section."""
        return (self.defaults, *self.named.values())


def options(inherited: Backend | None = None) -> list[cfg.Opt]:
    """Return the options of such a section; its defaults are what ``inherited`` says."""
    return [
        cfg.StrOpt(
            "driver",
            default=inherited.driver if inherited else DEFAULT_DRIVER,
            help=(
                "The storage driver that sees and releases this backend's connections: a name "
                "from the entry points detachd.storage_drivers. Its own options are in "
                "[driver:NAME]. cinder_managed works with every backend, through Cinder's API, and "
                "cannot see: it acts only where trust_blind is set."
            ),
        ),
        cfg.IntOpt(
            "concurrency",
            default=inherited.concurrency if inherited else 2,
            min=1,
            help=(
                "How many cases of one backend are worked at once. Less than threads in [worker], "
                "so that a slow backend does not stop the others."
            ),
        ),
        *_policy_options(inherited.policy if inherited else BackendPolicy()),
    ]


def _policy_options(policy: BackendPolicy) -> list[cfg.Opt]:
    return [
        _policy_option(field.name, getattr(policy, field.name))
        for field in dataclasses.fields(BackendPolicy)
    ]


def _policy_option(name: str, default: object) -> cfg.Opt:
    help_text = POLICY_HELP[name]
    match default:
        case Mode():
            return _choice(name, default, MODES)
        case LateAttach():
            return _choice(name, default, LATE_ATTACHES)
        case bool():
            return cfg.BoolOpt(name, default=default, help=help_text)
        case int():
            return cfg.IntOpt(name, default=default, min=1, help=help_text)
        case _:
            shortest = SHORTEST_LOOK_SECONDS if name == "look_timeout_seconds" else 0.0
            return cfg.FloatOpt(name, default=default, min=shortest, help=help_text)


def _choice(name: str, default: Choice, choices: Mapping[Choice, str]) -> cfg.Opt:
    words = [(choice.value, meaning) for choice, meaning in choices.items()]
    return cfg.StrOpt(name, default=default.value, choices=words, help=POLICY_HELP[name])


def section_names(conf: cfg.ConfigOpts) -> tuple[str, ...]:
    """Return the names of the sections ``[backend:...]`` that the configuration files have."""
    return tuple(s for s in conf.list_all_sections() if s.lower().startswith(PREFIX))


def read(conf: cfg.ConfigOpts) -> Backends:
    """Read ``[backend_defaults]``, which must be registered, and every ``[backend:...]``."""
    defaults = _backend(DEFAULTS, conf[DEFAULTS])
    named = {}
    for section in section_names(conf):
        conf.register_opts(options(defaults), group=section)
        name = section[len(PREFIX) :]
        named[name] = _backend(name, conf[section])
    return Backends(defaults=defaults, named=named)


def _backend(name: str, group: Mapping[str, Any]) -> Backend:
    words = {field.name: group[field.name] for field in dataclasses.fields(BackendPolicy)}
    words["mode"] = Mode(words["mode"])
    words["late_attach"] = LateAttach(words["late_attach"])
    return Backend(
        name=name,
        driver=group["driver"],
        concurrency=group["concurrency"],
        policy=BackendPolicy(**words),
    )
