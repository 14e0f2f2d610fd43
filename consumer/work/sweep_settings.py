"""Section [sweep]: how often Cinder's lists are looked through, and how patiently."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Self

from oslo_config import cfg

from handlers.correlation.sweep import Patience

TIMED_OUT_CALLS = 10
"""Nova tries an attach five times, then its clean-up five times, each until Cinder's RPC timeout
(Nova, nova/volume/cinder.py)."""

GROUP = cfg.OptGroup(
    "sweep",
    title="Looking through Cinder's lists for what no notification told of",
    help=(
        "A volume or attachment that stays in transition becomes a case, which is diagnosed like "
        "every other. Of several replicas one at a time sweeps."
    ),
)


def _patience(name: str, default: float, what: str) -> cfg.FloatOpt:
    words = f"How long {what} may be seen unchanged before it is looked at."
    return cfg.FloatOpt(f"{name}_seconds", default=default, min=1.0, help=words)


OPTS = [
    cfg.BoolOpt("enabled", default=True, help="Whether this service sweeps."),
    cfg.FloatOpt(
        "interval_seconds",
        default=300.0,
        min=1.0,
        help="How long after one sweep the next begins: this, and up to a quarter more by chance.",
    ),
    _patience("attaching", 900.0, "a volume or attachment that is attaching"),
    _patience("detaching", 900.0, "a volume or attachment that is detaching"),
    _patience("reserved", 3600.0, "a reservation (Nova's long_rpc_timeout is 1800)"),
    _patience("error", 900.0, "an attachment that is error_attaching or error_detaching"),
    cfg.FloatOpt(
        "again_seconds",
        default=86_400.0,
        min=60.0,
        help=(
            "How long after it was looked at what has not moved since is looked at again: a "
            "shelved server's reservation may rightly stay for months."
        ),
    ),
    cfg.IntOpt(
        "page_size",
        default=500,
        min=1,
        max=1000,
        help="How many entries of a list are asked for at once. Cinder's osapi_max_limit is 1000.",
    ),
    cfg.FloatOpt(
        "timeout_seconds", default=30.0, min=0.1, help="The longest that one page may take."
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class SweepSettings:
    """What the section says."""

    enabled: bool
    interval_seconds: float
    patience: Patience
    page_size: int
    timeout_seconds: float

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Self:
        """Read the section."""
        said = conf.sweep
        return cls(
            enabled=said.enabled,
            interval_seconds=said.interval_seconds,
            patience=Patience(
                attaching_seconds=said.attaching_seconds,
                detaching_seconds=said.detaching_seconds,
                reserved_seconds=said.reserved_seconds,
                error_seconds=said.error_seconds,
                again_seconds=said.again_seconds,
            ),
            page_size=said.page_size,
            timeout_seconds=said.timeout_seconds,
        )

    def problems(self, rpc_response_timeout_seconds: float) -> Iterator[str]:
        """Yield a sentence for each option that does not go with Cinder's RPC timeout."""
        least = TIMED_OUT_CALLS * rpc_response_timeout_seconds
        for name in ("attaching", "detaching", "reserved"):
            patience = self.patience.of(name)
            if self.enabled and patience < least:
                yield (
                    f"[sweep] {name}_seconds = {patience:g} is shorter than the {least:g} seconds "
                    f"that Nova's own tries may take ({TIMED_OUT_CALLS} x "
                    "rpc_response_timeout_seconds of [cloud]): what is under way would be taken "
                    "for stuck"
                )
