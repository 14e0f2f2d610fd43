"""Reads the configuration, checks options against each other, and makes the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from oslo_config import cfg
from oslo_log import log

from consumer import logs
from consumer.bus.broker import options_read
from consumer.periodic.learning import LearningSettings
from consumer.periodic.sweep import SweepSettings
from consumer.settings import buses, drivers, openstack, options
from consumer.settings import files as config_files
from consumer.settings.drivers import DriverOptions
from consumer.settings.ledger import DAY_SECONDS, LedgerSettings
from consumer.work import backends
from consumer.work.backends import Backend, Backends
from consumer.work.brakes import BrakeSettings
from consumer.work.worker import WorkerSettings
from drivers import registry
from handlers.judgement.policy import BackendPolicy

# Nova tries each call up to five times, each of which may last an RPC timeout.
LATE_RPC_TIMEOUTS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class ExporterSettings:
    """Where /metrics is served, and whether the status page is."""

    address: str
    port: int
    status_page: bool


@dataclasses.dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Where a simulated cloud listens."""

    address: str
    authkey: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, checked.

    ``conf`` is for the libraries that read their own options from it (oslo.log, oslo.messaging).
    """

    cloud: str
    rpc_response_timeout_seconds: float
    ledger: LedgerSettings
    worker: WorkerSettings
    brakes: BrakeSettings
    sweep: SweepSettings
    learning: LearningSettings
    backends: Backends
    driver_options: DriverOptions
    exporter: ExporterSettings
    simulator: SimulatorSettings | None
    conf: cfg.ConfigOpts = dataclasses.field(repr=False, compare=False)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return every option of detachd, for ``oslo-config-generator`` (an entry point).

    The options of every installed storage driver are included, and those of oslo.messaging that
    detachd reads. Sets our defaults for options of oslo.log, so that the sample shows them.
    """
    logs.set_defaults()
    return [
        *options_read(),
        *options.list_opts(),
        *openstack.list_opts(),
        *drivers.list_opts(),
    ]


def load(paths: Sequence[Path] = ()) -> Settings:
    """Read the configuration files, or the default file. The last value of an option counts.

    Blocks on the file system only. Raises ConfigurationError with every problem that was found.
    """
    files = list(paths) or config_files.default_files()
    # First all names and values, by options that are not required: so one run tells of every
    # problem.
    _check_files(files)
    settings = _settings(_conf(files))
    config_files.raise_if(problems(settings))
    return settings


def _check_files(files: Sequence[Path]) -> None:
    logs.set_defaults()
    parsed = {path: config_files.parse(path) for path in files}
    declared = _declared(parsed)
    config_files.raise_if(
        problem
        for path, sections in parsed.items()
        for find in (config_files.unknown_names, config_files.repeated)
        for problem in find(path, sections, declared)
    )
    config_files.raise_if(config_files.bad_values(config_files.read(files, declared), declared))


def unknown_variables(files: Sequence[Path], variables: Iterable[str]) -> list[str]:
    """Return a sentence for each variable that is meant for an option that these files lack.

    Raises ConfigurationError.
    """
    declared = _declared({path: config_files.parse(path) for path in files})
    return list(config_files.unknown_in_environment(variables, declared))


def _declared(parsed: Mapping[Path, config_files.Sections]) -> config_files.Declared:
    """Return every option there is with these files. Raises ConfigurationError."""
    titles = {s for sections in parsed.values() for s in sections}
    of_drivers, found = drivers.declared(titles)
    of_openstack, more = openstack.declared(parsed.values())
    config_files.raise_if([*found, *more])
    return {
        **config_files.library_options(),
        **{group.name: opts for group, opts in options.list_opts()},
        **of_openstack,
        **_bus_and_backend_sections(titles),
        **of_drivers,
    }


def _bus_and_backend_sections(sections: Iterable[str]) -> dict[str, list[cfg.Opt]]:
    """Return the options of the sections [backend:...] and [bus:...] in the files."""
    found = {s: backends.options() for s in sections if s.lower().startswith(backends.PREFIX)}
    return found | {s: buses.options() for s in sections if buses.is_own(s)}


def _conf(files: Sequence[Path]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    options.register(conf)
    openstack.register(conf)
    conf(
        config_files.arguments(files),
        project="detachd",
        default_config_files=[],
        default_config_dirs=[],
    )
    return conf


def _settings(conf: cfg.ConfigOpts) -> Settings:
    simulator, of_backends = conf.simulator, backends.read(conf)
    return Settings(
        cloud=conf.cloud.name,
        rpc_response_timeout_seconds=conf.cloud.rpc_response_timeout_seconds,
        ledger=LedgerSettings.from_conf(conf),
        worker=WorkerSettings(**conf.worker),
        brakes=BrakeSettings(**conf.brakes),
        sweep=SweepSettings.from_conf(conf),
        learning=LearningSettings.from_conf(conf),
        backends=of_backends,
        driver_options=drivers.read(conf, of_backends),
        exporter=ExporterSettings(**conf.exporter),
        simulator=SimulatorSettings(**simulator) if simulator.address else None,
        conf=conf,
    )


def problems(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each combination of options that is not allowed."""
    yield from _section_problems(settings.backends)
    yield from drivers.problems(settings.driver_options, settings.backends)
    for backend in settings.backends.all():
        section = _section(backend, settings.backends)
        yield from _driver_problems(section, backend)
        yield from _patience_problems(section, backend, settings)
    yield from settings.ledger.problems(settings.conf.ledger)
    yield from settings.sweep.problems(settings.rpc_response_timeout_seconds)
    if settings.simulator and not settings.simulator.authkey:
        yield "[simulator] has an address and no authkey: set the authkey of the simulated cloud"


def _section(backend: Backend, all_of_them: Backends) -> str:
    return backends.DEFAULTS if backend is all_of_them.defaults else backends.PREFIX + backend.name


def _section_problems(all_of_them: Backends) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in all_of_them.by_name:
        if name.count("@") != 1 or "#" in name:
            yield f"[{backends.PREFIX}{name}]: a backend is named HOST@BACKEND, without #POOL"
        # oslo.config reads sections without regard to case, so that both would be one.
        if (other := seen.setdefault(name.lower(), name)) != name:
            yield f"[{backends.PREFIX}{name}] and [{backends.PREFIX}{other}] differ by case only"


def _driver_problems(section: str, backend: Backend) -> Iterator[str]:
    if not backend.driver:
        there_are = ", ".join(registry.names()) or "none"
        yield f"[{section}] driver is not set; installed storage drivers: {there_are}"
        return
    try:
        registry.load(backend.driver)
    except registry.RegistryError as error:
        yield f"[{section}] driver = {backend.driver}: {error}"


def _patience_problems(section: str, backend: Backend, settings: Settings) -> Iterator[str]:
    policy, rpc = backend.policy, settings.rpc_response_timeout_seconds
    # A lease that ends in the middle of a call lets another worker take the volume.
    if settings.worker.lease_seconds < policy.longest_step_seconds:
        yield _short_lease(section, policy, settings.worker.lease_seconds)
    if policy.late_horizon_seconds < LATE_RPC_TIMEOUTS * rpc:
        yield (
            f"[{section}] late_horizon_seconds = {policy.late_horizon_seconds:g} is shorter than "
            f"{LATE_RPC_TIMEOUTS} x rpc_response_timeout_seconds = {rpc:g} in [cloud]: a call "
            "that timed out could still take effect after its case is closed; raise it"
        )
    days = settings.ledger.archive_days or settings.ledger.retention_days
    if 0 < days * DAY_SECONDS < policy.late_horizon_seconds:
        yield (
            f"[{section}] late_horizon_seconds = {policy.late_horizon_seconds:g} is longer than "
            f"the {days} days after which [ledger] archives or deletes the calls for a volume; "
            "lower the first or raise the second"
        )
    # Cinder answers 500 when its RPC timeout is over: that answer tells more than our own timeout.
    if policy.call_timeout_seconds <= rpc:
        yield (
            f"[{section}] call_timeout_seconds = {policy.call_timeout_seconds:g} must be longer "
            f"than rpc_response_timeout_seconds = {rpc:g} in [cloud]: detachd would miss Cinder's "
            "answer"
        )
    # One thread is all that there is in a small installation: it may be given to one backend.
    if backend.concurrency >= (threads := settings.worker.threads) > 1:
        yield (
            f"[{section}] concurrency = {backend.concurrency} leaves no thread for other backends "
            f"([worker] threads = {threads}); lower the first or raise the second"
        )


def _short_lease(section: str, policy: BackendPolicy, lease_seconds: float) -> str:
    parts = ", ".join(
        f"{name} = {getattr(policy, name):g}"
        for name in (
            "tries", "look_timeout_seconds", "call_timeout_seconds", "try_backoff_max_seconds",
            "nova_detach_wait_seconds", "lease_margin_seconds",
        )
    )  # fmt: skip
    return (
        f"[worker] lease_seconds = {lease_seconds:g} is shorter than the "
        f"{policy.longest_step_seconds:g} seconds that one step of [{section}] may take ({parts}); "
        "raise lease_seconds or lower the others"
    )
