"""Clauses on threads: one driver object serves every case of its backend at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from drivers.base import StorageDriver
from drivers.conformance.clause import Clauses, Subject, held, must, needs_eyes, shown
from drivers.conformance.ground import Ground

T = TypeVar("T")
ROUNDS = 5


class CrowdingClauses(Clauses):
    """What a driver owes to threads that call it at the same time."""

    def test_looks_at_once_are_kept_apart(self, driver: StorageDriver, ground: Ground) -> None:
        """Four threads look at two volumes at once -> each is told of its own."""
        needs_eyes(driver)
        subjects = [self.attached(ground, "host-a"), self.attached(ground, "host-b")]

        def look(subject: Subject) -> set[str]:
            return {shown(self.observe(driver, subject.volume)) for _ in range(ROUNDS)}

        answers = at_once([partial(look, subject) for subject in subjects * 2])
        for subject, seen in zip(subjects * 2, answers, strict=True):
            true = shown(ground.truth(subject.volume))
            must(seen == {true}, f"one thread was told {seen} of a volume that holds {true}")

    def test_releases_at_once_are_kept_apart(self, driver: StorageDriver, ground: Ground) -> None:
        """Two attachments are released at once, each twice -> both are gone, bystanders are not."""
        subjects = [self.attached(ground, "host-a"), self.attached(ground, "host-b")]
        others = [self.beside(ground, subject, "host-c") for subject in subjects]
        before = [shown(held(ground, other)) for other in others]

        def release(subject: Subject) -> bool:
            return self.error_of(driver, "force_detach", subject) is None

        well = at_once([partial(release, subject) for subject in subjects * 2])
        must(any(well[::2]) and any(well[1::2]), "of two calls at once not even one succeeded")
        for subject in subjects:
            left = held(ground, subject)
            must(not left, f"released beside another, but this is left: {shown(left)}")
        kept = [shown(held(ground, other)) for other in others]
        must(kept == before, f"of the bystanders' {before} this is left: {kept}")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make the calls in threads that start together; raise what one of them raised."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        futures: list[Future[T]] = [threads.submit(run, call) for call in calls]
    return [future.result() for future in futures]
