"""What the operator allows on one backend, and how patient to be there."""

from __future__ import annotations

import dataclasses
import enum

from drivers.control_plane import Volume


class Mode(enum.Enum):
    """How far detachd may go by itself."""

    OBSERVE = "observe"
    APPROVE = "approve"
    AUTO = "auto"


class LateAttach(enum.Enum):
    """What becomes of an attach that is rolled forward and whose end was not heard (UC2)."""

    KEEP = "keep"
    DETACH = "detach"


@dataclasses.dataclass(frozen=True, slots=True)
class BackendPolicy:
    """The operator's word on one Cinder backend (``host@backend``).

    ``look_timeout_seconds`` bounds each read and ``call_timeout_seconds`` each write; the latter is
    longer than Cinder's ``rpc_response_timeout`` (60 s by default), so that Cinder's own answer is
    heard. A storage driver that has not returned ``driver_grace_seconds`` after its time limit is
    given up. ``tries`` and ``try_backoff_*`` bound the repetition of one call inside an attempt,
    which also ends once a whole time limit of that call has gone by;
    ``max_failures`` and ``retry_backoff_*`` that of attempts. ``late_horizon_seconds`` is how long
    a timed-out driver call may still act: at least five RPC timeouts. ``trust_blind`` opts in a
    backend whose driver cannot see, ``allow_no_connector`` one whose driver may be called without
    a connector. ``trust_off_word`` lets a person's word count that a host is powered off.
    ``nova_detach_wait_seconds`` is how long one attempt waits for
    Nova's own detach. ``patience_seconds`` is how old a case may grow while another
    operation on the volume is in flight, before a person is asked. A parked case, and one that
    awaits approval, is looked at again after ``parked_look_seconds``, later and later; never where
    that is 0. ``approval_valid_seconds`` is how long after a person's yes a plan may be begun.
    ``protected_metadata_key``, ``protected_volume_types`` and ``protected_projects`` name volumes
    to which nothing is ever written. ``late_attach`` says whether an
    attach that is rolled forward, and of which no message said that it ended well, is then detached
    through Nova.
    """

    mode: Mode = Mode.OBSERVE
    look_timeout_seconds: float = 10.0
    call_timeout_seconds: float = 90.0
    driver_grace_seconds: float = 5.0
    lease_margin_seconds: float = 15.0
    tries: int = 4
    try_backoff_seconds: float = 0.5
    try_backoff_max_seconds: float = 8.0
    max_failures: int = 8
    retry_backoff_seconds: float = 30.0
    retry_backoff_max_seconds: float = 1800.0
    late_horizon_seconds: float = 330.0
    trust_blind: bool = False
    trust_off_word: bool = False
    allow_no_connector: bool = False
    nova_detach_wait_seconds: float = 60.0
    patience_seconds: float = 86400.0
    parked_look_seconds: float = 3600.0
    approval_valid_seconds: float = 3600.0
    late_attach: LateAttach = LateAttach.KEEP
    protected_metadata_key: str = "detachd_protected"
    protected_volume_types: tuple[str, ...] = ()
    protected_projects: tuple[str, ...] = ()

    def protects(self, volume: Volume) -> bool:
        """Tell whether the operator, or the volume's owner, has put it out of bounds."""
        types = {volume.volume_type, volume.volume_type_id}
        return (
            self.protected_metadata_key in volume.marks
            or not types.isdisjoint(self.protected_volume_types)
            or volume.project_id in self.protected_projects
        )

    @property
    def longest_call_seconds(self) -> float:
        """The longest that one write may take, its repetitions and pauses included.

        ``StorageDriver.force_detach`` makes two calls, each with the whole time limit.
        """
        calls_seconds = 2 * self.call_timeout_seconds + self.driver_grace_seconds
        return self._repeated(self.call_timeout_seconds, calls_seconds)

    @property
    def longest_look_seconds(self) -> float:
        """The longest that one look at the three sides of one attachment may take."""
        return self.look_seconds(servers=1)

    @property
    def longest_step_seconds(self) -> float:
        """What a lease has to outlast where the volume has one attachment."""
        return self.step_seconds(servers=1)

    def look_seconds(self, servers: int) -> float:
        """Return the longest that a look may take: Cinder, the backend and each server.

        Of a server two things are asked at most: what it is, and of one that is gone who ended it,
        or of one that is elsewhere the compute that its row is on. Where no server is known it is
        two things of the host: whether its compute is up, and who may be using the volume there.
        The backend alone has the grace of its driver.
        """
        calls_seconds = (2 + 2 * max(servers, 1)) * self._repeated(
            self.look_timeout_seconds, self.look_timeout_seconds
        )
        return calls_seconds + self.driver_grace_seconds

    def step_seconds(self, servers: int) -> float:
        """Return what a lease has to outlast.

        The write, its repetitions and the look before the last of them, the wait for Nova's own
        detach with the look that is under way when its time is up, and the look at what came of it.
        """
        looks = 3 * self.look_seconds(servers)
        waits = self.nova_detach_wait_seconds + self.lease_margin_seconds
        return looks + self.longest_call_seconds + waits

    def _repeated(self, limit_seconds: float, call_seconds: float) -> float:
        """Return how long a call may take that is begun anew until its limit has gone by."""
        return limit_seconds + self.try_backoff_max_seconds + call_seconds
