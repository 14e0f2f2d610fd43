"""``detachd serve``: the service in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import gc
import signal
import threading
from types import FrameType

from cliff.command import Command

from consumer import logs
from consumer.cli.app import DONE, FAILED, version
from consumer.cli.configured import add_config_file, settings_of
from consumer.memory import share_one_arena
from consumer.service import Service

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Serve(Command):
    """Run the service in the foreground. SIGTERM and SIGINT stop it in good order.

    A second signal ends it at once; nothing is lost by that, it is only done later. Exit code 1
    says that a part of it died or could not end in time: have it started again.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser of this command."""
        parser = super().get_parser(prog_name)
        add_config_file(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Start, wait for a signal or the death of a part, stop, wait."""
        share_one_arena()
        settings = settings_of(parsed_args)
        logs.set_up(settings.conf, version())
        service = Service(settings)
        set_on_signals(service.over)
        service.start()
        gc.collect()
        gc.freeze()  # what the program itself is made of need not be gone through again and again
        service.over.wait()
        service.stop()
        return DONE if service.wait() else FAILED


def set_on_signals(over: threading.Event) -> None:
    """Set ``over`` at the first SIGTERM or SIGINT; the second does what it does by default."""

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        over.set()

    for each in SIGNALS:
        signal.signal(each, handle)
