"""The options of the brakes: what stops detachd from writing to the cloud, or slows it down."""

from __future__ import annotations

import dataclasses

from oslo_config import cfg

from handlers.brakes import BreakerLimits, Bucket, Limits


def _bucket(scope: str, default: Bucket, why: str) -> tuple[cfg.Opt, cfg.Opt]:
    burst_help = (
        f"How many stuck volumes of one {scope} detachd works on at once, after a quiet time, "
        f"before it slows down to {scope}_per_hour. All replicas count together. 0: no limit."
    )
    per_hour_help = (
        f"How many stuck volumes of one {scope} detachd begins to write to in an hour, when the "
        f"burst is used up. The others wait. {why} A plan that was begun is always finished, and "
        "one that a person has approved is not counted. 0: no limit."
    )
    return (
        cfg.IntOpt(f"{scope}_burst", default=default.burst, min=0, help=burst_help),
        cfg.FloatOpt(f"{scope}_per_hour", default=default.per_hour, min=0.0, help=per_hour_help),
    )


GROUP = cfg.OptGroup("brakes", title="What stops detachd from writing to the cloud")
OPTS = [
    cfg.StrOpt(
        "kill_switch_file",
        default="/etc/detachd/STOP",
        help=(
            "The kill switch: while this file is there, detachd writes nothing to Cinder, Nova and "
            "the backends, in any mode; it diagnoses nothing either, and messages are stored. "
            "`touch` the file on the host of any replica: that replica begins no further write, "
            "and pauses the others within seconds. `detachd pause` does the same without a file. "
            "When the file is removed, detachd resumes what the file has paused. Empty: no file."
        ),
    ),
    *_bucket(
        "backend",
        Bucket(30, 120.0),
        "An array that fails leaves some hundred stuck volumes at once. 30 are recovered at once, "
        "300 within two and a half hours, and a mistake is noticed before.",
    ),
    *_bucket(
        "host",
        Bucket(20, 60.0),
        "A compute host that dies leaves 10 to 50. They are recovered within half an hour.",
    ),
    *_bucket("project", Bucket(30, 120.0), "One tenant gets no more than one backend."),
    cfg.IntOpt(
        "per_day",
        default=500,
        min=0,
        help=(
            "How many stuck volumes detachd begins to write to in one day (UTC), in all. The "
            "others wait until the next day, or for a person's approval. A cloud of 1,000 compute "
            "hosts has some dozens on a bad day, and some hundreds when an array fails. More is a "
            "sign that something is wrong, perhaps with detachd. 0: no limit."
        ),
    ),
]


OPTS += [
    cfg.IntOpt(
        "breaker_failures",
        default=5,
        min=0,
        help=(
            "The circuit breaker: after so many releases of one backend that failed one after the "
            "other, without an answer or not made at all, detachd leaves the backend alone for "
            "breaker_open_seconds. Then it tries one: if that succeeds all go on, else it waits "
            "for twice as long. All replicas count together. The default, 5, is more than one bad "
            "volume causes (its first failures lie minutes apart), and few enough that an array "
            "which does not answer is not asked 300 times. 0: no breaker."
        ),
    ),
    cfg.FloatOpt(
        "breaker_open_seconds",
        default=300.0,
        min=1.0,
        help=(
            "How long a circuit breaker stays open at first, in seconds; at most an hour, or this "
            "if it is longer. The default is about a late horizon: before that, what the failed "
            "calls did is not known anyway."
        ),
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class BrakeSettings:
    """The settings of the section ``[brakes]``."""

    kill_switch_file: str
    backend_burst: int
    backend_per_hour: float
    host_burst: int
    host_per_hour: float
    project_burst: int
    project_per_hour: float
    per_day: int
    breaker_failures: int
    breaker_open_seconds: float

    @property
    def limits(self) -> Limits:
        """The limits for the ledger."""
        return Limits(
            backend=Bucket(self.backend_burst, self.backend_per_hour),
            host=Bucket(self.host_burst, self.host_per_hour),
            project=Bucket(self.project_burst, self.project_per_hour),
            per_day=self.per_day,
            breaker=BreakerLimits(self.breaker_failures, self.breaker_open_seconds),
        )
