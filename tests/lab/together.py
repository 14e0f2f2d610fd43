"""Starting and stopping services at the same time, each as soon as what it needs is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.services.service import PrivateService

Step = Future[Any]


class Together:
    """Steps in threads; remembers which services were started, to stop them all."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=32)
        self._steps: list[Step] = []
        self._started: list[PrivateService] = []

    def begin(self, act: Callable[[], object], *, after: Sequence[Step] = ()) -> Step:
        """Do something once the steps before it are done; where one failed it fails alike."""

        def step() -> None:
            for earlier in after:
                earlier.result()
            act()

        self._steps.append(self._pool.submit(step))
        return self._steps[-1]

    def start(self, service: PrivateService, *, after: Sequence[Step] = ()) -> Step:
        """Begin to start a service."""

        def enter() -> None:
            service.__enter__()
            self._started.append(service)

        return self.begin(enter, after=after)

    def finish(self) -> None:
        """Wait for every step; raise what the first one that failed has raised."""
        for step in self._steps:
            step.exception()
        for step in self._steps:
            step.result()

    def stop(self) -> None:
        """Stop all that was started; raise the first error when all have been tried."""
        stopping = [self._pool.submit(s.__exit__, None, None, None) for s in self._started]
        for stop in stopping:
            stop.exception()
        self._pool.shutdown()
        for stop in stopping:
            stop.result()
