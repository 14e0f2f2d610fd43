"""One look at all three sides, and what the decision table says of it."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from drivers.base import StorageDriver
from drivers.control_plane import Cinder, Nova
from drivers.errors import OutsideError
from handlers.counting import Called, Counted, VolumeSought
from handlers.judgement import off
from handlers.judgement.diagnosis import (
    client_to_ask_of,
    diagnose,
    hosts_to_ask_of,
    server_to_ask_of,
    volume_to_ask_of,
)
from handlers.judgement.evidence import (
    Absent,
    Evidence,
    Fact,
    NoControl,
    Sources,
    VolumeEvidence,
    ask_of_hosts,
    ask_of_protocol,
    ask_of_reach,
    ask_of_swaps,
    gather,
    look_at_volume,
)
from handlers.judgement.learned import client_to_learn
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.rule import Diagnosis
from handlers.judgement.situation import Situation
from handlers.recovery.attempt import Attempt
from handlers.recovery.retry import repeat

LOG = logging.getLogger(__name__)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Viewer:
    """The systems that may be looked at, their limits, and the function that counts each call."""

    cinder: Cinder
    nova: Nova
    driver_of: Callable[[str], StorageDriver]
    policy_of: Callable[[str], BackendPolicy]
    stop: threading.Event
    count: Callable[[Counted], None]

    def look(self, attempt: Attempt) -> tuple[Evidence, Diagnosis]:
        """Look at Cinder, Nova and the backend. Read-only; blocks for all three.

        The attempt then has the policy of the backend on which Cinder says the volume is. Raises
        what ``CaseFile.locate`` raises, where no message had named that backend.
        """
        # Each look says when it asked; an attempt has several.
        attempt.asked_at.clear()
        evidence = self._gather(attempt)
        self._note_volume(attempt, evidence.volume)
        if isinstance(evidence.volume, Fact):
            # The volume may have been migrated to another backend since the messages of the case.
            attempt.policy = self.policy_of(evidence.volume.value.ref.backend)
        diagnosis = diagnose(attempt.case, evidence, attempt.policy.late_attach)
        if diagnosis.situation is not None and evidence.off:
            _note_words(attempt, diagnosis.situation)
        self._learn(attempt, diagnosis)
        return evidence, diagnosis

    def _learn(self, attempt: Attempt, diagnosis: Diagnosis) -> None:
        """Keep which client the attachment has, where that is clear and the driver needs it."""
        seen = client_to_learn(diagnosis, attempt.now)
        if seen is None or not self.driver_of(seen.backend).capabilities.by_learned_client:
            return
        if (before := attempt.file.learn(seen)) is not None:
            LOG.info(
                "attachment %s has another client now, as its guest was started anew: %s at %s "
                "instead of %s at %s",
                seen.attachment_id, seen.client.client, seen.client.address, before.client,
                before.address,
            )  # fmt: skip

    def _note_volume(self, attempt: Attempt, volume: VolumeEvidence) -> None:
        """Keep that Cinder has the volume, as the control of a later 404; count what it said."""
        if isinstance(volume, Fact):
            attempt.case = dataclasses.replace(attempt.case, volume_seen=True)
        if isinstance(volume, Fact | Absent | NoControl):
            self.count(VolumeSought(attempt.case.volume_id, not isinstance(volume, NoControl)))

    def _gather(self, attempt: Attempt) -> Evidence:
        """Look at all three sides; then ask for what the verdict that follows rests on.

        That is who else uses what a release would end, what else the client has that it would end,
        whether a volume is being swapped, and which protocol the backend has.
        """
        sources = self._sources(attempt)
        evidence = gather(attempt.case, sources)
        # A first diagnosis tells which of the costly questions matter; most looks need none of
        # them.
        first = diagnose(attempt.case, evidence, attempt.policy.late_attach)
        counts = off.counts(first.situation) if first.situation is not None else frozenset()
        elsewhere = ask_of_hosts(attempt.case, hosts_to_ask_of(first), sources, counts)
        server = server_to_ask_of(first)
        swapping = ask_of_swaps(server, sources) if server is not None else None
        volume = volume_to_ask_of(first)
        protocol = ask_of_protocol(volume, sources) if volume is not None else None
        client, ref = client_to_ask_of(first), first.situation and first.situation.volume.ref
        reach = ask_of_reach(ref, client, sources) if client is not None and ref else None
        return dataclasses.replace(
            evidence,
            elsewhere=elsewhere,
            swapping=swapping,
            protocol=protocol,
            reach=reach,
        )

    def look_at_volume(self, attempt: Attempt) -> VolumeEvidence:
        """Look at Cinder alone."""
        return look_at_volume(attempt.case, self._sources(attempt))

    def timed(self, system: str, method: str, call: Callable[[], T]) -> T:
        """Make one call outside and report how long it took."""
        began = time.monotonic()
        kind: str | None = None
        words: str | None = None
        try:
            return call()
        except OutsideError as error:
            kind, words = type(error).__name__, str(error)
            raise
        finally:
            self.count(Called(system, method, time.monotonic() - began, kind, words))

    def _sources(self, attempt: Attempt) -> Sources:
        limit = attempt.policy.look_timeout_seconds

        def repeated(system: str, method: str, call: Callable[[], T]) -> T:
            attempt.asked_at.setdefault(system, attempt.now)
            timed = partial(self.timed, system, method, call)
            return repeat(timed, attempt.policy, self.stop, limit_seconds=limit)

        return Sources(
            cinder=self.cinder,
            nova=self.nova,
            driver_of=self.driver_of,
            connector_of=attempt.file.connector_of,
            located=attempt.locate,
            retry=repeated,
            timeout_seconds=limit,
            off_word=lambda host, backend: (
                attempt.file.off_word(host) if self.policy_of(backend).trust_off_word else None
            ),
            learned_clients=attempt.file.learned_clients,
        )


def _note_words(attempt: Attempt, s: Situation) -> None:
    """End the words for hosts that show signs of life; record for which volume others counted.

    A session that was there all the time only keeps the word from counting: a backend may take a
    while to notice that a host is gone. One that is seen after the word counted is a new one.
    """
    for host in off.computes_up(s):
        attempt.file.heard_of(host, "its nova-compute is up")
    for host in off.in_session(s):
        why = f"the backend has a new session of it, on volume {s.case.volume_id}"
        attempt.file.heard_of(host, why, seen_anew=True)
    for host in off.counts(s) - attempt.counted:
        attempt.counted.add(host)
        attempt.file.word_counted(host)
