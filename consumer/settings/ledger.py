"""What ``[ledger]`` says: options, deadlines, and what does not go together.

A deadline is how long a start waits for its end. It is derived from how long Nova and Cinder
themselves try.

Cinder gives up a call after its RPC timeout and answers 500. Nova then repeats it, five times in
all, while the call before may still be at work; when an attach has failed Nova cleans up, which may
take five tries more (nova/volume/cinder.py, the retries of attachment_update and
attachment_delete). A detach has no clean-up, but waits for its guest first. Silence within that
time says nothing: the last try may succeed. Half as much again is for what is slower than that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Self

from oslo_config import cfg

from consumer.ledger import LedgerUrlError, Tls, check_url
from handlers.notification import Operation

NOVA_TRIES = 10
DEFAULT_RPC_TIMEOUTS = NOVA_TRIES * 3 // 2


def deadline_options() -> list[cfg.Opt]:
    """Return an option for each operation's deadline."""
    return [
        cfg.FloatOpt(
            _name(operation),
            min=1.0,
            sample_default=DEFAULT_RPC_TIMEOUTS * 60.0,
            help=(
                f"How many seconds after the receipt of its start the {operation.value} is looked "
                f"at that has not ended. Unset: {DEFAULT_RPC_TIMEOUTS} times "
                "rpc_response_timeout_seconds of [cloud], because Nova's own tries may take "
                f"{NOVA_TRIES}. Looking earlier does no harm, and makes work."
            ),
        )
        for operation in Operation
    ]


def deadline_seconds(conf: cfg.ConfigOpts, operation: Operation) -> float:
    """Return how long a start of this operation waits for its end."""
    said: float | None = conf.ledger[_name(operation)]
    default: float = DEFAULT_RPC_TIMEOUTS * conf.cloud.rpc_response_timeout_seconds
    return default if said is None else said


def _name(operation: Operation) -> str:
    return f"{operation.value}_deadline_seconds"


GROUP = cfg.OptGroup("ledger", title="Where cases, their history and the outbox are kept")
OPTS = [
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
    *deadline_options(),
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

DAY_SECONDS = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where the ledger is, after how long its open cases are due, and its finished ones leave."""

    url: str = dataclasses.field(repr=False)
    attach_deadline_seconds: float
    detach_deadline_seconds: float
    error_settle_seconds: float
    archive_days: int = 0
    retention_days: int = 0
    tls: Tls | None = None

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Read the section."""
        return cls(
            url=conf.ledger.connection,
            attach_deadline_seconds=deadline_seconds(conf, Operation.ATTACH),
            detach_deadline_seconds=deadline_seconds(conf, Operation.DETACH),
            error_settle_seconds=conf.ledger.error_settle_seconds,
            archive_days=conf.ledger.archive_days,
            retention_days=conf.ledger.retention_days,
            tls=_tls(conf.ledger),
        )

    @property
    def archive_seconds(self) -> float:
        """Return after how long what is finished goes to the archive; 0 for never."""
        return self.archive_days * DAY_SECONDS

    @property
    def retention_seconds(self) -> float:
        """Return how long what is finished is kept; 0 for ever."""
        return self.retention_days * DAY_SECONDS

    def problems(self, section: cfg.ConfigOpts.GroupAttr) -> Iterator[str]:
        """Yield a sentence for a URL that is of no use, and for each pair that does not fit."""
        yield from self._url_problems()
        yield from _tls_problems(section)
        yield from self._too_short("archive_days", self.archive_days)
        yield from self._too_short("retention_days", self.retention_days)
        if 0 < self.retention_days < self.archive_days:
            yield (
                f"[ledger] archive_days = {self.archive_days} is longer than retention_days = "
                f"{self.retention_days}: everything would be forgotten before it comes to the "
                "archive; lower the one or raise the other"
            )

    def _url_problems(self) -> Iterator[str]:
        try:
            check_url(self.url)
        except LedgerUrlError as error:
            yield f"[ledger] connection: {error}"

    def _too_short(self, option: str, days: int) -> Iterator[str]:
        for name in ("attach_deadline_seconds", "detach_deadline_seconds"):
            seconds = getattr(self, name)
            if 0 < days * DAY_SECONDS < 2 * seconds:
                yield (
                    f"[ledger] {option} = {days} is shorter than twice {name} = {seconds:g}: what "
                    "an end may still be about would be out of sight before it comes; raise the "
                    "one or lower the other"
                )


def _tls(ledger: cfg.ConfigOpts.GroupAttr) -> Tls | None:
    if not ledger.ssl:
        return None
    return Tls(
        ledger.ssl_ca_file, ledger.ssl_cert_file, ledger.ssl_key_file, ledger.ssl_verify_hostname
    )


def _tls_problems(ledger: cfg.ConfigOpts.GroupAttr) -> Iterator[str]:
    files = [f"ssl_{name}_file" for name in ("ca", "cert", "key") if ledger[f"ssl_{name}_file"]]
    if files and not ledger.ssl:
        yield f"[ledger] {', '.join(files)}: of no effect while ssl is false; set ssl = true"
    if ledger.ssl_key_file and not ledger.ssl_cert_file:
        yield "[ledger] ssl_key_file is set and ssl_cert_file is not: they go together"
