"""The sections ``[cloud]`` and ``[ledger]``, all that the ledger needs: options, deadlines, checks.

A deadline is how long a start waits for its end. The default is derived from how long Nova and
Cinder themselves try.

Cinder gives up a call after its RPC timeout and answers 500. Nova then repeats it, up to five times
in all, while an earlier call may still run. After a failed attach Nova cleans up, with up to five
more tries (nova/volume/cinder.py, the retries of attachment_update and attachment_delete). A detach
has no clean-up, but waits for the guest first. A missing end within that time means nothing,
because the last try may succeed. The default adds half of that time as a margin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from oslo_config import cfg

from consumer.ledger import Ledger, LedgerUrlError, Timing, Tls, check_url
from consumer.settings import files
from handlers.notification import Operation

# Five for the call, and five for the clean-up after it.
NOVA_TRIES = 10
DEFAULT_RPC_TIMEOUTS = NOVA_TRIES * 3 // 2


def deadline_options() -> list[cfg.Opt]:
    """Return an option for each operation's deadline."""
    return [
        cfg.FloatOpt(
            _name(operation),
            min=1.0,
            # For the default of rpc_response_timeout; the real one follows the option.
            sample_default=DEFAULT_RPC_TIMEOUTS * 60.0,
            help=(
                f"How long detachd waits for the end of the {operation.value}, in seconds after it "
                "received the start notification. Then it diagnoses the case. If unset, it is "
                f"{DEFAULT_RPC_TIMEOUTS} times rpc_response_timeout_seconds in [cloud], because "
                f"Nova's own tries may take {NOVA_TRIES} times that value. A shorter time is safe, "
                "but causes more diagnoses of operations that are still in progress."
            ),
        )
        for operation in Operation
    ]


def deadline_seconds(conf: cfg.ConfigOpts, operation: Operation) -> float:
    """Return how long a start of this operation waits for its end."""
    value: float | None = conf.ledger[_name(operation)]
    default: float = DEFAULT_RPC_TIMEOUTS * conf.cloud.rpc_response_timeout_seconds
    return default if value is None else value


def _name(operation: Operation) -> str:
    return f"{operation.value}_deadline_seconds"


CLOUD = cfg.OptGroup("cloud", title="The cloud that detachd watches")
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
        help="The value of rpc_response_timeout in cinder.conf and nova.conf, in seconds. "
        "Deadlines and other time limits of detachd are derived from it or checked against it.",
    ),
]

GROUP = cfg.OptGroup("ledger", title="The database for cases, their history and the outbox")
OPTS = [
    cfg.StrOpt(
        "connection",
        default="sqlite:////var/lib/detachd/ledger.sqlite",
        secret=True,
        help=(
            "The URL of the ledger's database: sqlite:////PATH (an absolute path, hence four "
            "slashes), postgresql://USER:PASSWORD@HOST/NAME or mariadb://USER:PASSWORD@HOST/NAME. "
            "Run `detachd ledger upgrade` after you set it, and after each upgrade of detachd."
        ),
    ),
    cfg.BoolOpt(
        "ssl",
        default=False,
        help=(
            "Connect to the database server with TLS only, and verify its certificate. If false, "
            "the database driver may encrypt when the server offers TLS, but it verifies nothing."
        ),
    ),
    cfg.StrOpt(
        "ssl_ca_file",
        help=(
            "The file with the CA certificates, in PEM format, that may have issued the server's "
            "certificate. If unset, the CAs of the operating system are used. Needs ssl = true."
        ),
    ),
    cfg.StrOpt(
        "ssl_cert_file",
        help="The file with the client certificate, in PEM format. Needs ssl = true.",
    ),
    cfg.StrOpt(
        "ssl_key_file",
        help="The file with the private key of ssl_cert_file, in PEM format.",
    ),
    cfg.BoolOpt(
        "ssl_verify_hostname",
        default=True,
        help="Require that the server's certificate is for the host name in connection.",
    ),
    *deadline_options(),
    cfg.FloatOpt(
        "error_settle_seconds",
        default=15.0,
        min=0.0,
        help=(
            "How long detachd waits before it diagnoses a case, in seconds after an error "
            "notification, or after an end notification that does not prove the end of the case."
        ),
    ),
    cfg.FloatOpt(
        "second_look_seconds",
        default=600.0,
        min=0.0,
        help=(
            "How long after its end detachd looks once more at an attach or detach that ended "
            "well, in seconds. It should be longer than late_horizon_seconds, so that one look is "
            "enough: a call that timed out is over by then."
        ),
    ),
    cfg.IntOpt(
        "second_looks_per_minute",
        default=10,
        min=0,
        max=10_000,
        help=(
            "How many attaches and detaches that ended well each service chooses per minute to "
            "look at once more. An end notification proves little about the backend. Where "
            "something unusual was reported of the volume, detachd looks once more in any case. "
            "0: only then."
        ),
    ),
    cfg.IntOpt(
        "archive_days",
        default=2,
        min=0,
        max=36_500,
        help=(
            "How many days after its end a finished case is moved to the archive. The archive has "
            "its own tables, so that many finished cases do not slow down the current work. "
            "Archived cases can still be listed, shown and replayed. For this many days detachd "
            "also recognises a repeated message, and keeps a message that belongs to no case. Must "
            "not be longer than retention_days. 0 disables the archive."
        ),
    ),
    cfg.IntOpt(
        "retention_days",
        default=365,
        min=0,
        max=36_500,
        help=(
            "How many days a finished case is kept after it was closed, including its time in the "
            "archive, and how many days each of its messages is kept after its receipt. Older "
            "entries are deleted in small steps. Cases that are not closed, for example parked "
            "ones, and announcements that are not sent are never deleted. 0 disables the deletion."
        ),
    ),
]

DAY_SECONDS = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class LedgerSettings:
    """The settings of the ledger: its URL, deadlines, archive and retention."""

    # It has the password of the database.
    url: str = dataclasses.field(repr=False)
    attach_deadline_seconds: float
    detach_deadline_seconds: float
    error_settle_seconds: float
    second_look_seconds: float
    second_looks_per_minute: int
    archive_days: int
    retention_days: int
    tls: Tls | None

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Read the section."""
        return cls(
            url=conf.ledger.connection,
            attach_deadline_seconds=deadline_seconds(conf, Operation.ATTACH),
            detach_deadline_seconds=deadline_seconds(conf, Operation.DETACH),
            error_settle_seconds=conf.ledger.error_settle_seconds,
            second_look_seconds=conf.ledger.second_look_seconds,
            second_looks_per_minute=conf.ledger.second_looks_per_minute,
            archive_days=conf.ledger.archive_days,
            retention_days=conf.ledger.retention_days,
            tls=_tls(conf.ledger),
        )

    @property
    def archive_seconds(self) -> float:
        """Return after how many seconds finished cases are archived; 0 for never."""
        return self.archive_days * DAY_SECONDS

    @property
    def retention_seconds(self) -> float:
        """Return how many seconds finished cases are kept; 0 for ever."""
        return self.retention_days * DAY_SECONDS

    def problems(self, section: cfg.ConfigOpts.GroupAttr) -> Iterator[str]:
        """Yield a sentence for an invalid URL, and for each combination that is not allowed."""
        yield from self._url_problems()
        yield from _tls_problems(section)
        yield from self._too_short("archive_days", self.archive_days)
        yield from self._too_short("retention_days", self.retention_days)
        if 0 < self.retention_days < self.archive_days:
            yield (
                f"[ledger] archive_days = {self.archive_days} is longer than retention_days = "
                f"{self.retention_days}: cases would be deleted before they are archived; lower "
                "the first or raise the second"
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
                    f"[ledger] {option} = {days} is shorter than twice {name} = {seconds:g}: a "
                    "late end notification would not find its case; raise the first or lower the "
                    "second"
                )


def ledger_alone(paths: Sequence[Path]) -> Ledger:
    """Return the ledger of a configuration, with nothing read but [cloud] and [ledger].

    Commands that need no more start in half the time so, and work beside a broken section. Blocks
    on the file system only. Raises ConfigurationError with every problem that was found.
    """
    paths = list(paths) or files.default_files()
    # Nothing else is imported: the libraries of the other sections take half of a command's time.
    declared = {CLOUD.name: CLOUD_OPTIONS, GROUP.name: OPTS}
    problems: list[str] = []
    for path in paths:
        sections = files.parse(path)
        ours = {title: sections[title] for title in sections if title.lower() in declared}
        problems += files.unknown_names(path, ours, declared)
    conf = files.read(paths, declared)
    problems += files.bad_values(conf, declared)
    files.raise_if(problems)
    settings = LedgerSettings.from_conf(conf)
    files.raise_if(settings.problems(conf.ledger))
    return open_ledger(conf.cloud.name, settings)


def open_ledger(cloud: str, ledger: LedgerSettings) -> Ledger:
    """Return the ledger; connects to nothing yet. Raises LedgerUrlError."""
    return Ledger(
        ledger.url,
        cloud=cloud,
        timing=Timing(
            attach_deadline_seconds=ledger.attach_deadline_seconds,
            detach_deadline_seconds=ledger.detach_deadline_seconds,
            error_settle_seconds=ledger.error_settle_seconds,
            second_look_seconds=ledger.second_look_seconds,
        ),
        second_looks_per_minute=ledger.second_looks_per_minute,
        tls=ledger.tls,
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
        yield "[ledger] ssl_key_file is set and ssl_cert_file is not: set both"
