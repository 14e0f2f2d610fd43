"""``detachd serve``, and commands for running services: pause, resume, replica list."""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

from cliff.command import Command
from cliff.lister import Lister

from consumer import logs
from consumer.cli.app import DONE, FAILED, version
from consumer.cli.configured import add_actor, add_config_file, ledger_of, settings_of
from consumer.service import Service


class Pause(Command):
    """Pause every service on this ledger until `detachd resume`: no more writes to the cloud.

    The pause takes effect before the next write to Cinder, Nova or a backend. A call that is in
    progress continues. The services still receive and store notifications, but work on no case.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--reason", required=True, help="the reason, for the history")
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Pause."""
        with ledger_of(parsed_args) as ledger:
            before = ledger.paused()
            ledger.pause(parsed_args.actor, parsed_args.reason)
        if before is None:
            self.app.stdout.write("paused\n")
        else:
            self.app.stdout.write(f"already paused by {before.actor}: {before.reason}\n")


class Resume(Command):
    """End the pause that `detachd pause` began."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--reason", default="", help="the reason, for the log of the service")
        add_actor(parser)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Resume."""
        with ledger_of(parsed_args) as ledger:
            ledger.resume(parsed_args.actor, parsed_args.reason)
        self.app.stdout.write("resumed\n")


COLUMNS = ("Owner", "Host", "Process", "Version", "Started", "Last heartbeat", "Alive")


class ReplicaList(Lister):
    """List the services that use this ledger, the most recent heartbeat first.

    A service that was stopped is not listed. A service that was killed is listed for a week. Alive
    means a heartbeat within the last minute, by the database's clock.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        add_config_file(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """Read the list."""
        with ledger_of(parsed_args) as ledger:
            found = ledger.replicas()
        return COLUMNS, [
            (
                seen.replica.owner, seen.replica.host, seen.replica.pid, seen.replica.version,
                seen.started_at.isoformat(), seen.heartbeat_at.isoformat(), seen.alive,
            )
            for seen in found
        ]  # fmt: skip


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


class Serve(Command):
    """Run the service in the foreground. SIGTERM and SIGINT stop it.

    A second signal ends it at once; no data is lost, and the work continues after the next start.
    Exit code 1 means that a part of the service failed or did not stop in time: restart it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Start the service, wait for a signal or the failure of a part, and stop it."""
        share_one_arena()
        settings = settings_of(parsed_args)
        logs.set_up(settings.conf, version())
        service = Service(settings)
        set_on_signals(service.over)
        service.start()
        gc.collect()
        gc.freeze()  # so that the objects of the program itself are not scanned at each collection
        service.over.wait()
        service.stop()
        return DONE if service.wait() else FAILED


def set_on_signals(over: threading.Event) -> None:
    """Set ``over`` at the first SIGTERM or SIGINT; the second has its default effect."""

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        over.set()

    for each in SIGNALS:
        signal.signal(each, handle)
