"""A driver for a child process: it hangs, fails, dies and logs where it is told to."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers import errors
from drivers.base import (
    Attachment,
    Capabilities,
    ClientInstance,
    Connection,
    Export,
    Fences,
    Observation,
    Reach,
    StorageDriver,
    VolumeRef,
)

BACKEND = "storage-1@apart"
LOG = logging.getLogger("a.vendor")
EXPORT = Export("target", "volume-1")


class Hanging(StorageDriver):
    """Does ``what`` in the method of that name; every call of a method is a line of ``log``.

    It hangs before or after that line.
    """

    capabilities = Capabilities(sees_connections=True, sees_hosts=True, lists_exports=True)

    def __init__(self, backend: str, options: Mapping[str, Any]) -> None:
        super().__init__(backend, options)
        if options.get("refuses"):
            raise ValueError("the option portal is wrong")

    def _do(self, method: str) -> None:
        before, what = self.options["plan"].get(method, (False, None))
        if before:
            self._carry_out(what)
        with Path(self.options["log"]).open("a") as log:
            log.write(f"{os.getpid()} {method}\n")
        if not before and what is not None:
            self._carry_out(what)
        self.listed: Any = (lambda: None) if what == "be unpicklable" else (EXPORT,)

    def _carry_out(self, what: str) -> None:
        kinds = {kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type)}
        match what:
            case "hang":
                time.sleep(600)
            case "hog":
                ctypes.PyDLL(None).sleep(600)  # with Python's lock: no other thread runs
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "log":
                LOG.warning("a word of %s", "the vendor")
            case "print":
                sys.stdout.write("noise\n")
            case "foreign":
                raise KeyError("a secret")
            case "wait":
                raise errors.TransientError("busy", retry_after_seconds=7.0)
            case kind if kind in kinds:
                raise kinds[kind](f"said {kind}")
            case _:
                _start_another(what, Path(self.options["log"]))

    def how_reached(self, *, timeout_seconds: float) -> str:
        """Say how."""
        del timeout_seconds
        self._do("how_reached")
        return "by a process"

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Look."""
        del timeout_seconds
        self._do("observe")
        return Observation((Connection("iqn.a", host="a", sessions=1),), f"has {volume.volume_id}")

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """List."""
        del timeout_seconds
        self._do("list_exports")
        listed: tuple[Export, ...] = self.listed
        return listed

    def reach_of(
        self, volume: VolumeRef, client: ClientInstance, *, timeout_seconds: float
    ) -> Reach:
        """Count."""
        del volume, client, timeout_seconds
        self._do("reach_of")
        return Reach(("another",), 1)

    def fences(self, *, timeout_seconds: float) -> Fences:
        """Return one."""
        del timeout_seconds
        self._do("fences")
        return Fences("cluster", {"192.0.2.1:0/1": datetime(2030, 1, 1, tzinfo=UTC)})

    def renew_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Renew."""
        del address, timeout_seconds
        self._do("renew_fence")
        return Fences("cluster", {})

    def lift_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Lift."""
        del address, timeout_seconds
        self._do("lift_fence")
        return Fences("cluster", {})

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Terminate."""
        del volume, attachment, request_id, timeout_seconds
        self._do("terminate_connection")

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Detach."""
        del volume, attachment, request_id, timeout_seconds
        self._do("detach")


def _start_another(what: str, log: Path) -> None:
    match what:
        case "hang with a child":
            subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], check=False)
        case "fork":
            os.fork()  # and both go on as the driver
        case "hang in a fork":
            if ctypes.PyDLL(None).fork() == 0:  # as a library in C does
                os.setsid()
                # In one step: who sees the file can read it.
                unnamed = log.with_suffix(".unnamed")
                unnamed.write_text(str(os.getpid()))
                unnamed.rename(f"{log}.fork")
                time.sleep(600)
            time.sleep(600)
        case "end a program":
            with subprocess.Popen(["/bin/sleep", "600"]) as program:
                program.terminate()


def made(options: dict[str, Any]) -> StorageDriver:
    """Make one, in a child."""
    return Hanging(BACKEND, options)
