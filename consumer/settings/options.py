"""Every option of detachd by section: those declared here and those of other modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_config import cfg

from consumer.bus import settings
from consumer.intake import replay_queue
from consumer.periodic import learning, sweep
from consumer.publish import publisher
from consumer.settings import ledger
from consumer.work import backends, brakes, worker

SIMULATOR = cfg.OptGroup(
    "simulator",
    title="A simulated cloud in a separate process, for trials",
    help="Use this section instead of [cinder] and [nova]. It cannot be combined with them.",
)
SIMULATOR_OPTIONS = [
    cfg.StrOpt("address", help="The address of the simulated cloud, as HOST:PORT."),
    cfg.StrOpt("authkey", secret=True, help="The shared secret of the simulated cloud."),
]

EXPORTER = cfg.OptGroup("exporter", title="The HTTP server for /metrics, /healthz and /readyz")
EXPORTER_OPTIONS = [
    cfg.HostAddressOpt(
        "address",
        default="127.0.0.1",
        help="The IP address to listen on. The server has no authentication: choose an address "
        "that only Prometheus can reach.",
    ),
    cfg.PortOpt(
        "port",
        default=10713,
        help="The TCP port to listen on. The default is outside 9100-9999, the range that is "
        "allocated to other Prometheus exporters.",
    ),
    cfg.BoolOpt(
        "status_page",
        default=False,
        help="Serve a page for the browser at /status: what is stuck, by backend, cause and age, "
        "and each case with what was seen and its timeline. It changes nothing. It has no "
        "authentication, so it answers only clients on this machine: use `ssh -L`, or a proxy on "
        "this machine that asks who you are.",
    ),
]

OWN: Mapping[cfg.OptGroup, Sequence[cfg.Opt]] = {
    ledger.CLOUD: ledger.CLOUD_OPTIONS,
    settings.GROUP: settings.OPTS,
    replay_queue.GROUP: replay_queue.OPTS,
    ledger.GROUP: ledger.OPTS,
    worker.GROUP: worker.OPTS,
    sweep.GROUP: sweep.OPTS,
    learning.GROUP: learning.OPTS,
    brakes.GROUP: brakes.OPTS,
    backends.GROUP: backends.options(),
    SIMULATOR: SIMULATOR_OPTIONS,
    publisher.GROUP: publisher.OPTS,
    EXPORTER: EXPORTER_OPTIONS,
}


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return every option of detachd, for ``oslo-config-generator``."""
    return [(group, list(opts)) for group, opts in OWN.items()]


def register(conf: cfg.ConfigOpts) -> None:
    """Register every option of detachd. Raises DuplicateOptError for a name used twice."""
    for group, opts in OWN.items():
        conf.register_group(group)
        conf.register_opts(list(opts), group=group)
