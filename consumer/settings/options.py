"""Every option of ours, by section: those declared here and those that other modules declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_config import cfg

from consumer.bus import settings
from consumer.intake import replay_queue
from consumer.publish import publisher
from consumer.settings import ledger
from consumer.work import backends, sweep, worker

CLOUD = cfg.OptGroup("cloud", title="The cloud whose volumes are looked after")
CLOUD_OPTIONS = [
    cfg.StrOpt(
        "name",
        default="default",
        help="The name of this cloud in the ledger, in cases and in announcements.",
    ),
    cfg.FloatOpt(
        "rpc_response_timeout_seconds",
        default=60.0,
        min=0.1,
        help="rpc_response_timeout as Cinder and Nova have it: how long they wait for each other.",
    ),
]

SIMULATOR = cfg.OptGroup(
    "simulator",
    title="A simulated cloud, in a process of its own",
    help="For trying detachd out: in place of [cinder] and [nova], never beside them.",
)
SIMULATOR_OPTIONS = [
    cfg.StrOpt("address", help="Where the simulated cloud listens, as HOST:PORT."),
    cfg.StrOpt("authkey", secret=True, help="The shared secret that it asks for."),
]

EXPORTER = cfg.OptGroup("exporter", title="/metrics, /healthz and /readyz over HTTP")
EXPORTER_OPTIONS = [
    cfg.HostAddressOpt(
        "address",
        default="127.0.0.1",
        help="Where to listen. There is no authentication: keep it where only Prometheus reaches.",
    ),
    cfg.PortOpt(
        "port",
        default=10713,
        help="The port; outside 9100-9999, which Prometheus' exporters share out fully.",
    ),
]

OWN: Mapping[cfg.OptGroup, Sequence[cfg.Opt]] = {
    CLOUD: CLOUD_OPTIONS,
    settings.GROUP: settings.OPTS,
    replay_queue.GROUP: replay_queue.OPTS,
    ledger.GROUP: ledger.OPTS,
    worker.GROUP: worker.OPTS,
    sweep.GROUP: sweep.OPTS,
    backends.GROUP: backends.options(),
    SIMULATOR: SIMULATOR_OPTIONS,
    publisher.GROUP: publisher.OPTS,
    EXPORTER: EXPORTER_OPTIONS,
}


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return every option of ours, for ``oslo-config-generator``."""
    return [(group, list(opts)) for group, opts in OWN.items()]


def register(conf: cfg.ConfigOpts) -> None:
    """Register every option of ours. Raises DuplicateOptError where a name is taken."""
    for group, opts in OWN.items():
        conf.register_group(group)
        conf.register_opts(list(opts), group=group)
