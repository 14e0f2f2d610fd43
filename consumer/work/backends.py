"""The settings of each Cinder backend: ``[backend_defaults]`` and ``[backend:...]``."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, TypeVar

from oslo_config import cfg

from handlers.judgement.policy import BackendPolicy, LateAttach, Mode

Choice = TypeVar("Choice", Mode, LateAttach)

DEFAULTS = "backend_defaults"
PREFIX = "backend:"
DEFAULT_DRIVER = "cinder_managed"
HANGING_CALLS = 4
GROUP = cfg.OptGroup(
    DEFAULTS,
    title="The defaults for all Cinder backends",
    help=(
        "A section [backend:HOST@BACKEND] sets the same options for one backend. HOST@BACKEND is "
        "the name in `openstack volume service list`, without #POOL. An option that the section "
        "does not set has the value from here."
    ),
)

SHORTEST_LOOK_SECONDS = 0.1
"""With a shorter limit every look would time out, and every case would be parked."""
SHORTEST_APPROVAL_SECONDS = 60.0
"""With a shorter limit an approval could end before a worker is free, and a case would ask ever."""
SHORTEST = {
    "look_timeout_seconds": SHORTEST_LOOK_SECONDS,
    "approval_valid_seconds": SHORTEST_APPROVAL_SECONDS,
}

MODES: Mapping[Mode, str] = {
    Mode.OBSERVE: "Diagnose and announce. Change nothing.",
    Mode.APPROVE: "Make a plan and wait for `detachd case approve`.",
    Mode.AUTO: "Act without approval when it is proven safe.",
}
LATE_ATTACHES: Mapping[LateAttach, str] = {
    LateAttach.KEEP: "The volume stays attached, as its user requested.",
    LateAttach.DETACH: (
        "detachd asks Nova to detach the volume. With mode = approve this needs a second approval."
    ),
}
POLICY_HELP: Mapping[str, str] = {
    "mode": "What detachd may do without a person's approval.",
    "look_timeout_seconds": "The time limit for one read (Cinder, Nova, backend), in seconds.",
    "call_timeout_seconds": (
        "The time limit for one write to Cinder, Nova or the backend, in seconds. Must be longer "
        "than rpc_response_timeout_seconds in [cloud], so that detachd receives Cinder's answer "
        "when Cinder's own call times out."
    ),
    "driver_grace_seconds": (
        "How long after its time limit (look_timeout_seconds, call_timeout_seconds) detachd waits "
        "for a call of the storage driver to return, in seconds. Then the call is given up: it "
        "counts as hanging, its result is unknown, and detachd goes on without it. The default, "
        "5 seconds, is enough for a driver that keeps to its limit on a busy machine."
    ),
    "lease_margin_seconds": (
        "The safety margin, in seconds, that is added to the longest step of this backend. "
        "lease_seconds in [worker] must not be shorter than the sum."
    ),
    "tries": (
        "The maximum number of times that one call is made within an attempt. A call is repeated "
        "only after a transient error, that is, when it surely changed nothing."
    ),
    "try_backoff_seconds": (
        "The upper limit, in seconds, of the random pause before a call is repeated for the first "
        "time. The limit doubles with each repetition, up to try_backoff_max_seconds."
    ),
    "try_backoff_max_seconds": (
        "The longest pause before a call is repeated, in seconds. If the other service asks for a "
        "longer pause (Retry-After), the call is not repeated within the attempt."
    ),
    "max_failures": "The number of failed attempts after which a case is parked for a person.",
    "retry_backoff_seconds": (
        "The upper limit, in seconds, of the random pause after the first failed attempt. The "
        "limit doubles with each failure, up to retry_backoff_max_seconds."
    ),
    "retry_backoff_max_seconds": "The longest pause between two attempts, in seconds.",
    "late_horizon_seconds": (
        "How long a call to a Cinder driver that timed out may still take effect, in seconds. "
        "detachd does not make a volume available to other servers before this time has passed. "
        "It looks at a recovered case again after this time, and closes the case only then. Must "
        "be at least five times rpc_response_timeout_seconds in [cloud]."
    ),
    "trust_blind": (
        "Accept the success that is reported by a storage driver which cannot see the connections "
        "on the backend, for example cinder_managed. The outcome then has verified_by = driver "
        "instead of verified_by = probe. If false, detachd releases nothing on such a backend. "
        "Where a driver sees who has access, and not who uses it, this option lets detachd end an "
        "access which Nova has no record of."
    ),
    "trust_off_word": (
        "Let a person's word count that a compute host is powered off (`detachd host attest`). "
        "Where nothing else is in the way, what waits for that host is then released. It counts "
        "only if the driver sees the backend and the host has no session on the volume. Set it "
        "only where such a word is sure: the host of a wrong word loses a disk that it writes to. "
        "Where the driver shows no sessions, nothing contradicts a wrong word, and trust_blind has "
        "to be set too."
    ),
    "allow_no_connector": (
        "Allow a recovery for which the connector of the attachment's host is not known. The "
        "driver is then called without a connector, which means every host. This happens only if "
        "the driver supports it, and if the volume has exactly one attachment and one connection, "
        "and that connection has no session. If false, such a case is parked."
    ),
    "nova_detach_wait_seconds": (
        "How long one attempt waits for a detach that detachd requested from Nova, in seconds."
    ),
    "patience_seconds": (
        "How old a case may become, in seconds, while it has to wait, for example for another "
        "client's operation on the volume. An older case is parked for a person."
    ),
    "parked_look_seconds": (
        "When a parked case is looked at again, in seconds; so is a case that awaits approval. An "
        "old case is looked at again after an eighth of its age, at least once a day. It closes "
        "when its trouble has ended, and is recovered where that is proven safe by then. 0: never."
    ),
    "approval_valid_seconds": (
        "How long an approval (`detachd case approve`) is valid, in seconds, until its plan is "
        "begun. An approval is bound to the plan and the evidence that were shown; this limit is "
        "for what detachd cannot see, for example what its giver has checked elsewhere. The "
        "default, an hour, outlasts the longest pause between two attempts "
        "(retry_backoff_max_seconds) and a late horizon, so that an approval is not lost to a "
        "short outage. After it, the case asks again."
    ),
    "protected_metadata_key": (
        "The name of a metadata item that protects a volume: detachd diagnoses it and writes "
        "nothing to it, not even with an approval; a case that would need that is parked. The "
        "owner of a volume sets it: `openstack volume set --property detachd_protected=true "
        "VOLUME`. The values 0, false, no, none and off do not protect. Empty: no name protects."
    ),
    "protected_volume_types": (
        "The volume types, by name or id, whose volumes are protected in the same way. For "
        "example the type of the volumes of your own control plane."
    ),
    "protected_projects": (
        "The ids of the projects whose volumes are protected in the same way. For example a "
        "tenant that has asked for it."
    ),
    "late_attach": (
        "What happens to an attachment that exists in Nova and on the backend, but whose attach "
        "Cinder did not complete (UC2). detachd first completes the attach in Cinder. This option "
        "says what follows. An attach that is known to have succeeded is always kept."
    ),
}


class RunIn(enum.Enum):
    """Where a call of a storage driver runs."""

    THREAD = "thread"
    PROCESS = "process"


RUN_INS: Mapping[RunIn, str] = {
    RunIn.THREAD: "A thread. One that hangs cannot be ended: see hanging_calls.",
    RunIn.PROCESS: "A child process. One that hangs is killed, and another one is started.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """One backend's settings. ``concurrency`` limits the cases that are worked on at once.

    ``hanging_calls`` is how many calls of its driver may hang before it is not called any more, and
    ``run_in`` where they run.
    """

    name: str
    driver: str | None
    concurrency: int
    policy: BackendPolicy
    hanging_calls: int = HANGING_CALLS
    run_in: RunIn = RunIn.THREAD


@dataclasses.dataclass(frozen=True, slots=True)
class Backends:
    """The settings of every backend that has a section, and the defaults for all others."""

    defaults: Backend
    by_name: Mapping[str, Backend]

    def of(self, backend: str | None) -> Backend:
        """Return the settings of ``host@backend``, or the defaults under that name."""
        if backend is not None and backend in self.by_name:
            return self.by_name[backend]
        # Under its own name, because the driver is made for it and its slots are counted by it.
        return dataclasses.replace(self.defaults, name=backend or self.defaults.name)

    def all(self) -> tuple[Backend, ...]:
        """Return the defaults and then every backend with a section."""
        return (self.defaults, *self.by_name.values())


def options(inherited: Backend | None = None) -> list[cfg.Opt]:
    """Return the options of such a section, with the values of ``inherited`` as defaults."""
    return [
        cfg.StrOpt(
            "driver",
            default=inherited.driver if inherited else DEFAULT_DRIVER,
            help=(
                "The storage driver that observes and releases the connections on this backend: a "
                "name among the entry points detachd.storage_drivers. The options of a driver are "
                "in [driver:NAME]. cinder_managed works with every backend through Cinder's API, "
                "but cannot see connections: it releases something only if trust_blind is true."
            ),
        ),
        cfg.IntOpt(
            "concurrency",
            default=inherited.concurrency if inherited else 2,
            min=1,
            help=(
                "The maximum number of cases of this backend that are worked on at the same time. "
                "Must be less than threads in [worker] (unless that is 1), so that a slow backend "
                "does not block the others."
            ),
        ),
        *_call_options(inherited),
        *_policy_options(inherited.policy if inherited else BackendPolicy()),
    ]


def _call_options(inherited: Backend | None) -> list[cfg.Opt]:
    return [
        cfg.IntOpt(
            "hanging_calls",
            default=inherited.hanging_calls if inherited else HANGING_CALLS,
            min=1,
            help=(
                "How many calls of this backend's storage driver may hang at the same time. A call "
                "that was given up (driver_grace_seconds) keeps its thread until it returns, "
                "because nothing can end a thread. When this many hang, detachd does not call the "
                "driver of this backend any more; the other backends are not affected. Calls that "
                "are under way then may hang too: at most as many as concurrency allows. The "
                "default, 4, is twice the default concurrency, so that one bad moment does not "
                "stop a backend, and 50 backends that all hang cost 200 to 300 sleeping threads."
            ),
        ),
        cfg.StrOpt(
            "run_in",
            default=(inherited.run_in if inherited else RunIn.THREAD).value,
            choices=[(choice.value, meaning) for choice, meaning in RUN_INS.items()],
            help=(
                "Where the calls of this backend's storage driver run. A process costs 30 MB for "
                "each call at once, a tenth of a second when it is started, and what the driver's "
                "library needs. Choose it for a driver whose library may hang. Not for "
                "cinder_managed, which has time limits of its own."
            ),
        ),
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
        # Before int: a bool is an int.
        case bool() | str():
            kind = cfg.BoolOpt if isinstance(default, bool) else cfg.StrOpt
            return kind(name, default=default, help=help_text)
        case tuple():
            return cfg.ListOpt(name, default=list(default), help=help_text)
        case int():
            return cfg.IntOpt(name, default=default, min=1, help=help_text)
        case _:
            return cfg.FloatOpt(name, default=default, min=SHORTEST.get(name, 0.0), help=help_text)


def _choice(name: str, default: Choice, choices: Mapping[Choice, str]) -> cfg.Opt:
    values = [(choice.value, meaning) for choice, meaning in choices.items()]
    return cfg.StrOpt(name, default=default.value, choices=values, help=POLICY_HELP[name])


def section_names(conf: cfg.ConfigOpts) -> tuple[str, ...]:
    """Return the names of the sections ``[backend:...]`` that the configuration files have."""
    return tuple(s for s in conf.list_all_sections() if s.lower().startswith(PREFIX))


def read(conf: cfg.ConfigOpts) -> Backends:
    """Read ``[backend_defaults]``, which must be registered, and every ``[backend:...]``."""
    defaults = _backend(DEFAULTS, conf[DEFAULTS])
    by_name = {}
    for section in section_names(conf):
        # With the values of [backend_defaults] as defaults, so that oslo.config does the
        # inheriting.
        conf.register_opts(options(defaults), group=section)
        name = section[len(PREFIX) :]
        by_name[name] = _backend(name, conf[section])
    return Backends(defaults=defaults, by_name=by_name)


def _backend(name: str, group: Mapping[str, Any]) -> Backend:
    values = {field.name: group[field.name] for field in dataclasses.fields(BackendPolicy)}
    values["mode"] = Mode(values["mode"])
    values["late_attach"] = LateAttach(values["late_attach"])
    for listed in ("protected_volume_types", "protected_projects"):
        values[listed] = tuple(values[listed])
    return Backend(
        name=name,
        driver=group["driver"],
        concurrency=group["concurrency"],
        policy=BackendPolicy(**values),
        hanging_calls=group["hanging_calls"],
        run_in=RunIn(group["run_in"]),
    )
