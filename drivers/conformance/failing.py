"""Clauses on failure and threads: calls end in time, in one of three kinds, and show no secret."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import pytest

from drivers.base import StorageDriver
from drivers.conformance.clause import (
    ACTIONS,
    GRACE_SECONDS,
    KINDS,
    LOOKS,
    Clauses,
    Subject,
    comparable,
    connections_of,
    must,
    needs_a_list,
    needs_sight,
    shown,
)
from drivers.conformance.ground import Ground
from drivers.errors import PermanentError, TransientError
from drivers.registry import secrets

T = TypeVar("T")
# More than any driver makes requests; a ground that never runs out of ways must not run for ever.
MOST_WAYS = 20


class FailingClauses(Clauses):
    """What a driver owes when the backend does not do as it is asked."""

    @pytest.mark.parametrize("method", [*LOOKS, *ACTIONS])
    def test_frozen_backend_is_bounded(
        self, driver: StorageDriver, ground: Ground, method: str
    ) -> None:
        """The backend gives no answer -> the call ends in time, with one of the three kinds."""
        if method in LOOKS:
            needs_sight(driver)
        subject = self.attached(ground)
        with ground.freeze():
            began = time.monotonic()
            error = self.error_of(driver, method, subject)
            took = time.monotonic() - began
        # The default of force_detach gives each of its two halves the whole limit.
        limit = (2 if method == "force_detach" else 1) * self.timeout_seconds + GRACE_SECONDS
        must(took <= limit, f"{method} took {took:.1f} s of at most {limit:.1f} s")
        must(
            # A detach may have nothing to do, and then needs no answer.
            error is not None or method == "detach",
            f"{method} succeeded against a backend that gave no answer",
        )

    @pytest.mark.parametrize("method", LOOKS)
    def test_look_is_never_an_older_one(
        self, driver: StorageDriver, ground: Ground, method: str
    ) -> None:
        """Looked at, then the backend gives no answer -> the next look fails: no memory answers.

        What was true a moment ago lets two hosts write: the volume is given away by it.
        """
        needs_sight(driver)
        if method == "list_exports":
            needs_a_list(driver)
        subject = self.attached(ground)
        before = self.error_of(driver, method, subject)
        must(before is None, f"{method} failed on a backend that is well: {before!r}")
        with ground.freeze():
            error = self.error_of(driver, method, subject)
        must(error is not None, f"{method} answered for a backend that gave no answer")

    @pytest.mark.parametrize("method", [*LOOKS, *ACTIONS])
    def test_failed_request_is_not_made_again(
        self, driver: StorageDriver, ground: Ground, method: str
    ) -> None:
        """One request of a call fails, whichever -> the call fails: no second try of its own.

        A try of which the service knows nothing comes after its last look. Where the error says
        that nothing was done, nothing is.
        """
        self._needs_a_request(driver, method)
        failed = 0
        for way in range(MOST_WAYS):
            subject = self.attached(ground)
            before = ground.truth(subject.volume)
            with ground.failing_once(way) as has_failed:
                error = self.error_of(driver, method, subject)
            if not has_failed():
                break
            failed += 1
            must(error is not None, f"{method} succeeded although a request of it failed")
            must(
                not isinstance(error, TransientError | PermanentError)
                or comparable(ground.truth(subject.volume)) == comparable(before),
                f"{method} said that it surely did nothing ({error!r}), and it was done in part",
            )
        if not failed:
            pytest.skip(f"{method} makes no request that the ground can make fail")

    @staticmethod
    def _needs_a_request(driver: StorageDriver, method: str) -> None:
        if method in LOOKS:
            needs_sight(driver)
        if method == "list_exports":
            needs_a_list(driver)

    def test_terminate_and_detach_have_a_limit_each(
        self, driver: StorageDriver, ground: Ground
    ) -> None:
        """Terminating takes a third of the time limit -> detach is still given the whole of it."""
        subject = self.attached(ground)
        limits: dict[str, float] = {}

        def noting(name: str, pause_seconds: float) -> Callable[..., None]:
            call: Callable[..., None] = getattr(driver, name)

            def noted(*about: object, **how: Any) -> None:
                limits[name] = how["timeout_seconds"]
                time.sleep(pause_seconds)
                call(*about, **how)

            return noted

        pause = self.timeout_seconds / 3
        for name, seconds in (("terminate_connection", pause), ("detach", 0.0)):
            setattr(driver, name, noting(name, seconds))
        self.error_of(driver, "force_detach", subject)
        if "detach" not in limits:
            pytest.skip("force_detach of this driver does not call detach")
        words = f"of {self.timeout_seconds:g} s the two were given {limits}"
        # Some slack: a driver may count from when it was called.
        must(min(limits.values()) >= 0.95 * self.timeout_seconds, words)

    @pytest.mark.parametrize("method", ACTIONS)
    def test_nothing_is_done_where_an_error_says_so(
        self, driver: StorageDriver, ground: Ground, method: str
    ) -> None:
        """An action fails as TransientError or PermanentError -> it is not done afterwards either.

        What a frozen backend was asked it may do on the thaw: that is IndeterminateError.
        """
        subject = self.attached(ground)
        before = ground.truth(subject.volume)
        with ground.freeze():
            error = self.error_of(driver, method, subject)
        time.sleep(self.settle_seconds)
        must(
            not isinstance(error, TransientError | PermanentError)
            or comparable(ground.truth(subject.volume)) == comparable(before),
            f"{method} said that it surely did nothing ({error!r}), and then it was done",
        )

    def test_release_goes_through_after_a_thaw(self, driver: StorageDriver, ground: Ground) -> None:
        """A release timed out and may have finished late -> the next one succeeds; it is gone."""
        subject = self.attached(ground)
        with ground.freeze():
            self.error_of(driver, "force_detach", subject)
        time.sleep(self.settle_seconds)
        self.force_detach(driver, subject)
        left = connections_of(ground, subject)
        must(not left, f"released after a thaw, but this is left: {shown(left)}")
        if driver.capabilities.sees_connections:
            seen = self.observe(driver, subject.volume)
            must(not seen, f"released after a thaw, but observe shows {shown(seen)}")

    def test_unknown_volume_is_not_released(self, driver: StorageDriver, ground: Ground) -> None:
        """A volume that the backend does not know -> an error; success would be taken for clean."""
        subject = Subject.of(ground.missing(), ground.connector("host-a"))
        must(
            self.error_of(driver, "force_detach", subject) is not None,
            "a volume that does not exist was released with success",
        )

    def test_errors_carry_no_secret(
        self, driver: StorageDriver, ground: Ground, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Everything that can be made to fail fails -> no secret in an error, log or repr."""
        hidden = (*secrets(driver.opts, driver.options), *ground.secrets())
        if not hidden:
            pytest.skip("the driver has no secret option that is set, and the ground names none")
        with caplog.at_level("DEBUG"):
            texts = [*self._errors_in_trouble(driver, ground), repr(driver), str(driver)]
        leaks = [text for text in (*texts, caplog.text) if any(s in text for s in hidden)]
        must(not leaks, f"a secret is shown in {len(leaks)} of {len(texts) + 1} texts")

    def _errors_in_trouble(self, driver: StorageDriver, ground: Ground) -> Iterator[str]:
        lost = Subject.of(ground.missing(), ground.connector("host-a"))
        subject = self.attached(ground)
        yield from self._errors(driver, lost)
        yield from self._errors(driver, subject.without_connector())
        with ground.freeze():
            yield from self._errors(driver, subject)

    def _errors(self, driver: StorageDriver, subject: Subject) -> Iterator[str]:
        for method in ("observe", "force_detach"):
            error: BaseException | None = self.error_of(driver, method, subject)
            while error is not None:
                yield f"{error} {error!r}"
                error = error.__cause__ or error.__context__


ROUNDS = 5


class CrowdingClauses(Clauses):
    """What a driver owes to threads that call it at the same time."""

    def test_looks_at_once_are_kept_apart(self, driver: StorageDriver, ground: Ground) -> None:
        """Four threads look at two volumes at once -> each gets its own answer."""
        needs_sight(driver)
        subjects = [self.attached(ground, "host-a"), self.attached(ground, "host-b")]

        def look(subject: Subject) -> set[str]:
            return {shown(self.observe(driver, subject.volume)) for _ in range(ROUNDS)}

        # Two threads for each volume: what they could mix up is the answer of another one.
        answers = at_once([partial(look, subject) for subject in subjects * 2])
        for subject, seen in zip(subjects * 2, answers, strict=True):
            true = shown(ground.truth(subject.volume))
            must(seen == {true}, f"one thread got {seen} of a volume that holds {true}")

    def test_calls_at_once_have_a_limit_each(self, driver: StorageDriver, ground: Ground) -> None:
        """A short and two long calls wait at once for an answer -> each ends at its own limit."""
        needs_sight(driver)
        volume = self.attached(ground).volume
        short, long = self.timeout_seconds, self.timeout_seconds + 1.5 * GRACE_SECONDS

        def look(limit_seconds: float) -> float:
            began = time.monotonic()
            with contextlib.suppress(*KINDS):
                driver.observe(volume, timeout_seconds=limit_seconds)
            return time.monotonic() - began

        with ground.freeze():
            took = at_once([partial(look, limit) for limit in (long, short, long)])
        between = short + GRACE_SECONDS
        must(took[1] < between, f"a call of {short:g} s beside longer ones took {took[1]:.1f} s")
        cut = min(took[0], took[2])
        must(cut > between, f"a call of {long:g} s beside a shorter one was cut off at {cut:.1f} s")

    def test_releases_at_once_are_kept_apart(self, driver: StorageDriver, ground: Ground) -> None:
        """Two attachments are released at once, each twice -> both are gone, bystanders are not."""
        subjects = [self.attached(ground, "host-a"), self.attached(ground, "host-b")]
        others = [self.beside(ground, subject, "host-c") for subject in subjects]
        before = [shown(connections_of(ground, other)) for other in others]

        def release(subject: Subject) -> bool:
            return self.error_of(driver, "force_detach", subject) is None

        well = at_once([partial(release, subject) for subject in subjects * 2])
        # One of two is enough: the other may find it released in the middle of its own work.
        must(any(well[::2]) and any(well[1::2]), "of two calls at once not even one succeeded")
        for subject in subjects:
            left = connections_of(ground, subject)
            must(not left, f"released beside another, but this is left: {shown(left)}")
        kept = [shown(connections_of(ground, other)) for other in others]
        must(kept == before, f"of the bystanders' {before} this is left: {kept}")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make the calls in threads that start together; raise what one of them raised."""
    # All at once: a thread that starts later would often find the first one done.
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        futures: list[Future[T]] = [threads.submit(run, call) for call in calls]
    return [future.result() for future in futures]
