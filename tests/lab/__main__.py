"""`make lab` and `make lab-stop`: a lab to work with by hand, in the background.

    python -m tests.lab start      start one, wait for it, say how to use it
    python -m tests.lab stop       stop it
    python -m tests.lab run        be one, until SIGTERM; what `start` starts

It keeps what one needs to know in ``.lab/`` of the checkout, readable by its owner only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests import memory_disk
from tests.lab import usage
from tests.lab.environment import LabMissingError
from tests.lab.openstack import OpenStack
from tests.services.service import ServiceMissingError

HERE = Path(__file__).parents[2] / ".lab"
START_SECONDS = 600.0
STOP_SECONDS = 60.0


def start() -> int:
    """Start a lab unless one runs; print how to use it."""
    if _pid() is None:
        shutil.rmtree(HERE, ignore_errors=True)
        HERE.mkdir(mode=0o700)
        print("Starting the lab: half a minute, more the first time ...", flush=True)
        with (HERE / "log").open("w") as log:
            command = [sys.executable, "-m", "tests.lab", "run"]
            lab = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        ends_at = time.monotonic() + START_SECONDS
        while not (HERE / usage.FILE).exists():
            if lab.poll() is not None or time.monotonic() > ends_at:
                print("The lab did not start. What it said:", file=sys.stderr)
                print((HERE / "log").read_text()[-4000:], file=sys.stderr)
                return 1
            time.sleep(0.2)
    print((HERE / usage.FILE).read_text())
    return 0


def stop() -> int:
    """Stop the lab, if one runs; blocks until it is gone."""
    if (pid := _pid()) is None:
        print("No lab runs.")
        return 0
    os.kill(pid, signal.SIGTERM)
    ends_at = time.monotonic() + STOP_SECONDS
    while _pid() is not None:
        if time.monotonic() > ends_at:
            print(f"The lab (pid {pid}) does not stop; see {HERE / 'log'}.", file=sys.stderr)
            return 1
        time.sleep(0.2)
    print("The lab is stopped.")
    return 0


def run() -> int:
    """Be a lab until somebody asks for the end."""
    memory_disk.use()
    (HERE / "pid").write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: everything is undone
    try:
        with contextlib.suppress(KeyboardInterrupt), OpenStack() as lab:
            usage.write(lab, HERE)
            signal.pause()
    except (LabMissingError, ServiceMissingError) as missing:
        print(missing, file=sys.stderr)
        return 1
    finally:
        (HERE / "pid").unlink(missing_ok=True)
    return 0


def _pid() -> int | None:
    """Return the running lab's pid; a pid that somebody else has by now is not it."""
    try:
        pid = int((HERE / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"tests.lab" in command else None


if __name__ == "__main__":
    sys.exit({"start": start, "stop": stop, "run": run}[sys.argv[1]]())
