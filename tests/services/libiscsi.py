"""A real iSCSI initiator on libiscsi, run as a program of its own: ``python libiscsi.py ...``.

It logs in, then writes one block after the other, each with its number in it, and counts what was
acknowledged into a file that anybody can read while it is stopped, killed or stuck. Imports nothing
of this project, so that it starts at once.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import signal
import struct
import sys
import time
from pathlib import Path

LIBRARY = "libiscsi.so.7"
NORMAL_SESSION = 2
NO_DIGEST = 0  # enum iscsi_header_digest
GOOD, CHECK_CONDITION = 0, 2
BLOCK = 512
LUN = 1
DIE_WITH_PARENT = 1  # prctl PR_SET_PDEATHSIG
PACE_SECONDS = 0.002  # or two of them take a core from what is tested
COUNTS = struct.Struct("<QQQ")  # writes acknowledged, logins made, logins refused


class Tally:
    """Three counters in a file, kept current."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), COUNTS.size)
        self.writes, self.logins, self.refusals = COUNTS.unpack(self._map[:])

    def keep(self) -> None:
        """Write the counters where others read them."""
        self._map[:] = COUNTS.pack(self.writes, self.logins, self.refusals)


class LoginRefusedError(Exception):
    """The target did not let us in; the text is libiscsi's."""


class ConnectionEndedError(Exception):
    """A session ended, or a command failed; the text is libiscsi's."""


class Session:
    """One session with a target, its commands one at a time."""

    def __init__(self, portal: str, target: str, initiator: str) -> None:
        self._lib = _library()
        self._context = ctypes.c_void_p(self._lib.iscsi_create_context(initiator.encode()))
        self._lib.iscsi_set_targetname(self._context, target.encode())
        self._lib.iscsi_set_session_type(self._context, NORMAL_SESSION)
        self._lib.iscsi_set_header_digest(self._context, NO_DIGEST)
        self._lib.iscsi_set_noautoreconnect(self._context, 1)
        if self._lib.iscsi_full_connect_sync(self._context, portal.encode(), LUN) != 0:
            raise LoginRefusedError(self._said())

    def write(self, block: int, data: bytes) -> None:
        """Write one block; returns when the target has acknowledged it."""
        for _ in range(3):  # a new session's first command may get UNIT ATTENTION
            status = self._status(
                self._lib.iscsi_write10_sync(
                    self._context, LUN, block, data, len(data), BLOCK, 0, 0, 0, 0, 0
                )
            )
            if status == GOOD:
                return
            if status != CHECK_CONDITION:
                break
        raise ConnectionEndedError(self._said())

    def close(self) -> None:
        """Drop the connection without a word and free what it held."""
        self._lib.iscsi_destroy_context(self._context)

    def _status(self, task: int | None) -> int | None:
        if not task:
            return None
        status = ctypes.c_int.from_address(task).value  # the first field of struct scsi_task
        self._lib.scsi_free_scsi_task(ctypes.c_void_p(task))
        return status

    def _said(self) -> str:
        return str(self._lib.iscsi_get_error(self._context).decode(errors="replace").strip())


def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(LIBRARY)
    for name in ("iscsi_create_context", "iscsi_write10_sync"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.iscsi_get_error.restype = ctypes.c_char_p
    lib.iscsi_write10_sync.argtypes = [
        ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint32,
        *[ctypes.c_int] * 6,
    ]  # fmt: skip
    return lib


def block_of(initiator: str, number: int) -> bytes:
    """Return what the ``number``-th write of an initiator puts down."""
    return f"{initiator} {number}".encode().ljust(BLOCK, b"\0")


def work(arguments: argparse.Namespace, tally: Tally) -> None:
    """Log in and write until the session ends."""
    tally.logins += 1
    session = Session(arguments.portal, arguments.target, arguments.initiator)
    try:
        say("in")
        while not arguments.writes:
            time.sleep(1)
        while True:
            number = tally.writes + 1
            place = arguments.first_block + number % arguments.blocks
            session.write(place, block_of(arguments.initiator, number))
            tally.writes = number
            tally.keep()
            time.sleep(PACE_SECONDS)
    finally:
        session.close()


def work_for_ever(arguments: argparse.Namespace, tally: Tally) -> None:
    """Do the same again whenever the session ended or the login was refused."""
    while True:
        try:
            work(arguments, tally)
        except LoginRefusedError as error:
            tally.logins -= 1
            tally.refusals += 1
            say(f"refused: {error}")
        except ConnectionEndedError as error:
            say(f"ended: {error}")
        finally:
            tally.keep()
        time.sleep(arguments.pause)


def say(words: str) -> None:
    """Tell the parent."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> int:
    """Run as the command line says; exit 3 where the login was refused, 4 where it ended."""
    parser = argparse.ArgumentParser()
    for name in ("portal", "target", "initiator", "tally"):
        parser.add_argument(name)
    parser.add_argument("--writes", action="store_true")
    parser.add_argument("--for-ever", action="store_true")
    parser.add_argument("--pause", type=float, default=0.01)
    parser.add_argument("--first-block", type=int, default=0)
    parser.add_argument("--blocks", type=int, default=1024)
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() == 1:
        return 1
    tally = Tally(Path(arguments.tally))
    try:
        (work_for_ever if arguments.for_ever else work)(arguments, tally)
    except LoginRefusedError as error:
        say(f"refused: {error}")
        return 3
    except ConnectionEndedError as error:
        say(f"ended: {error}")
        return 4
    finally:
        tally.keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
