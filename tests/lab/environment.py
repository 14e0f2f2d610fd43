"""The Python environment that the lab's OpenStack runs in: where it is, and how it is made.

``DETACHD_OPENSTACK`` chooses which OpenStack that is: one of ``releases/``, by default the newest.
An environment is some 500 MB, so it is kept outside the checkout, one for each set of pins, and
shared by all checkouts of this user:
``${DETACHD_LAB_CACHE:-${XDG_CACHE_HOME:-~/.cache}/detachd}/lab-HASH``.
``make lab-environment`` runs this module; it needs nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RELEASES = Path(__file__).with_name("releases")
NEWEST = "2026.2"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet")
UNUSED_DAYS = 30
MARK = ".complete"


class LabMissingError(Exception):
    """The lab cannot run here: something that it needs is not installed."""


def cache() -> Path:
    """Return the directory that holds the environments, and what else is worth keeping."""
    if chosen := os.environ.get("DETACHD_LAB_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detachd"


def release() -> str:
    """Return which OpenStack ``DETACHD_OPENSTACK`` chooses, of those that there are pins of.

    Raises ValueError for any other word.
    """
    chosen = os.environ.get("DETACHD_OPENSTACK") or NEWEST
    known = sorted(file.stem for file in RELEASES.glob("*.txt"))
    if chosen not in known:
        raise ValueError(f"DETACHD_OPENSTACK is one of {', '.join(known)}, not {chosen!r}")
    return chosen


def pins() -> Path:
    """Return the list of what the chosen OpenStack consists of; ValueError as ``release``."""
    return RELEASES / f"{release()}.txt"


def place() -> Path:
    """Return where the environment of these pins and of this Python belongs."""
    what = [pins().read_bytes(), sys.version.encode(), sys.base_prefix.encode()]
    return cache() / f"lab-{hashlib.sha256(b'|'.join(what)).hexdigest()[:12]}"


def require() -> Path:
    """Return the environment; LabMissingError, with what to do about it, where there is none."""
    if os.environ.get("DETACHD_LAB") == "off":
        raise LabMissingError("The lab is switched off by DETACHD_LAB=off.")
    if not (place() / MARK).exists():
        choice = "" if release() == NEWEST else f"DETACHD_OPENSTACK={release()} "
        raise LabMissingError(
            f"The lab's OpenStack is not installed in {place()}; "
            f"`{choice}make lab-environment` does that."
        )
    return place()


def build() -> Path:
    """Make the environment where it is missing or half made; blocks, the first time for minutes.

    Others who want it wait for the one who makes it. Raises subprocess.CalledProcessError where
    pip fails, having said why.
    """
    directory = place()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(directory.parent / "lab.lock"):
        if not (directory / MARK).exists():
            print(f"Installing OpenStack {release()} into {directory} (minutes, once) ...")
            shutil.rmtree(directory, ignore_errors=True)
            _install(directory)
        (directory / MARK).touch()
        _remove_unused(directory.parent)
    return directory


def _install(directory: Path) -> None:
    venv.create(directory, with_pip=True)
    command: list[str | Path] = [
        directory / "bin" / "python",
        *PIP,
        "install",
        "--no-deps",
        "--requirement",
        pins(),
    ]
    subprocess.run(command, check=True)


def _remove_unused(directory: Path) -> None:
    """Remove environments of other pins that nobody has asked for in a month."""
    for mark in directory.glob(f"lab-*/{MARK}"):
        if time.time() - mark.stat().st_mtime > UNUSED_DAYS * 86_400:
            shutil.rmtree(mark.parent)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build it unless that is switched off; say in words why not, which is an error in CI only."""
    in_ci = os.environ.get("CI") == "true"
    if os.environ.get("DETACHD_LAB") == "off" and not in_ci:
        print("DETACHD_LAB=off: the lab's OpenStack is not installed, its tests are skipped.")
        return 0
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"The lab's OpenStack could not be installed: {error}", file=sys.stderr)
        print("Until it is, the tests that need it are skipped.", file=sys.stderr)
        return 1 if in_ci else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
