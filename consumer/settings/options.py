"""Every option of ours, by section: those declared here and those that other modules declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_config import cfg

from consumer.bus import settings
from consumer.intake import replay_queue
from consumer.publish import publisher
from consumer.settings import ledger
from consumer.work import backends, sweep

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

LEDGER = cfg.OptGroup("ledger", title="Where cases, their history and the outbox are kept")
LEDGER_OPTIONS = [
    cfg.StrOpt(
        "connection",
        default="sqlite:////var/lib/detachd/ledger.sqlite",
        secret=True,
        help=(
            "The ledger's database: sqlite:////PATH (absolute: four slashes), "
            "postgresql://USER:PASSWORD@HOST/NAME or mariadb://USER:PASSWORD@HOST/NAME. Run "
            "`detachd ledger upgrade` after setting it and after each upgrade of detachd."
        ),
    ),
    cfg.BoolOpt(
        "ssl",
        default=False,
        help=(
            "Speak TLS with the database's server and verify its certificate; one that does not "
            "speak it is refused. While false, a driver may encrypt where the server offers it, "
            "but nothing is verified."
        ),
    ),
    cfg.StrOpt(
        "ssl_ca_file",
        help="The CA, in PEM, that the server's certificate must be of. Unset: the system's CAs.",
    ),
    cfg.StrOpt(
        "ssl_cert_file", help="The certificate, in PEM, that is shown to a server that asks for it."
    ),
    cfg.StrOpt("ssl_key_file", help="The key of ssl_cert_file."),
    cfg.BoolOpt(
        "ssl_verify_hostname",
        default=True,
        help="Whether the certificate must be for the host that `connection` names.",
    ),
    *ledger.options(),
    cfg.FloatOpt(
        "error_settle_seconds",
        default=15.0,
        min=0.0,
        help="How long after an error, or after an end that proves nothing, a case is looked at.",
    ),
    cfg.IntOpt(
        "archive_days",
        default=2,
        min=0,
        max=36_500,
        help=(
            "After how many days a finished case goes to the archive, a little at a time: tables "
            "of their own, so that however many there are slows nothing down. It is still listed, "
            "shown and replayed. So long the repetition of a message is recognised, and a message "
            "that belongs to no case is kept. At most retention_days. 0 archives nothing."
        ),
    ),
    cfg.IntOpt(
        "retention_days",
        default=365,
        min=0,
        max=36_500,
        help=(
            "How long a finished case is kept after it was closed, in the archive for most of the "
            "time, and every message of it after it came. What is older is forgotten, a little at "
            "a time. Cases that are not closed, parked ones above all, and announcements that are "
            "not sent are kept however old they are. 0 keeps everything for ever."
        ),
    ),
]

WORKER = cfg.OptGroup("worker", title="How cases are worked")
WORKER_OPTIONS = [
    cfg.IntOpt("threads", default=4, min=1, help="How many cases are worked at once."),
    cfg.FloatOpt(
        "lease_seconds",
        default=720.0,
        min=1.0,
        help=(
            "How long a claim on a volume lasts by the database's clock. It must outlast the "
            "longest step of every backend: a look, a write, their repetitions and Nova's own "
            "detach. After a crash another worker takes the volume up this much later."
        ),
    ),
    cfg.FloatOpt(
        "poll_seconds",
        default=1.0,
        min=0.05,
        max=10.0,
        help="How often the ledger is asked for due cases while a thread is free.",
    ),
    cfg.FloatOpt(
        "drain_seconds",
        default=60.0,
        min=1.0,
        help=(
            "How long stopping may take: three quarters of it for the attempts that run, the rest "
            "for the outbox. An attempt that is in the middle of a call by then is taken up again "
            "after its lease."
        ),
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
    LEDGER: LEDGER_OPTIONS,
    WORKER: WORKER_OPTIONS,
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
