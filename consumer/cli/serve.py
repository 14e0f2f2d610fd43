"""``detachd serve``."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType

from consumer import logs
from consumer.cli.app import DONE, FAILED, version
from consumer.cli.configured import ConfiguredCommand, settings_of

M_ARENA_MAX = -8
"""From glibc's ``malloc.h``; see mallopt(3)."""


def share_one_arena() -> None:
    """Let all threads that are started from now on use one arena of memory.

    glibc gives threads separate arenas, up to eight for each core, so that they do not wait for
    each other. But an arena does not share its free memory with the others, and Python threads
    allocate one at a time anyway. Does nothing if ``MALLOC_ARENA_MAX`` is set, or if the C library
    has no arenas.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


SIGNALS = (signal.SIGTERM, signal.SIGINT)
# How often systemd's watchdog is fed, and how late a failed part is noticed.
LOOK_SECONDS = 0.5


class Serve(ConfiguredCommand):
    """Run the service in the foreground. SIGTERM and SIGINT stop it.

    SIGHUP reads the configuration anew, for modes and brakes; everything else needs a restart. A
    file with a problem changes nothing. SIGUSR2 prints threads, open cases and the configuration,
    with its secrets masked, to stderr.

    A second signal ends it at once; no data is lost, and the work continues after the next start.
    Exit code 1 means that a part of the service failed or did not stop in time: restart it.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Start the service, wait for a signal or the failure of a part, and stop it."""
        from consumer.service import Service
        from consumer.settings.reloading import Reloader
        from consumer.supervision.systemd import Supervisor

        share_one_arena()
        settings = settings_of(parsed_args)
        logs.set_up(settings.conf, version())
        service = Service(settings)
        supervisor = Supervisor()
        # Before the start: a SIGTERM that comes in the middle of it is not lost.
        wait = waiting_for_signals(
            service.over,
            lambda: supervisor.alive(service.stuck),
            {
                signal.SIGHUP: Reloader(parsed_args.config_file, service.reload).reload,
                signal.SIGUSR2: lambda: show(service.report()),
            },
        )
        service.start()
        # First, so that no garbage is frozen with the rest.
        gc.collect()
        gc.freeze()  # so that the objects of the program itself are not scanned at each collection
        # Only now: what systemd starts after us may rely on it.
        supervisor.started()
        wait()
        supervisor.stopping()
        service.stop()
        return DONE if service.wait() else FAILED


def show(text: str) -> None:
    """Print to stderr, which systemd keeps; one that is closed is no reason to stop."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


Act = Callable[[], object]
NO_ACTS: Mapping[signal.Signals, Act] = {}


def waiting_for_signals(
    over: threading.Event,
    meanwhile: Act = lambda: None,
    acts: Mapping[signal.Signals, Act] = NO_ACTS,
) -> Callable[[], None]:
    """Return what waits for the first SIGTERM or SIGINT, or until ``over`` is set.

    ``meanwhile`` is called every LOOK_SECONDS or more often. ``acts`` says what other signals do;
    the wait goes on after it.

    The second signal has its default effect. A handler runs in the main thread, between any two
    instructions of it: also where that holds the lock of an event which it waits for, so that
    setting the event would wait for ever. A SimpleQueue may be put into from a handler. The system
    may give a signal to another thread; then the handler runs when the main thread looks again.
    """
    woken: queue.SimpleQueue[Act | None] = queue.SimpleQueue()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        woken.put(None)

    for each in SIGNALS:
        signal.signal(each, handle)
    # Where whoever starts us ignores it, the kernel collects the programs of drivers, not we.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, act in acts.items():
        signal.signal(number, lambda *_, act=act: woken.put(act))

    def wait() -> None:
        while not over.is_set():
            meanwhile()
            with contextlib.suppress(queue.Empty):
                if (act := woken.get(timeout=LOOK_SECONDS)) is None:
                    return
                act()

    return wait
