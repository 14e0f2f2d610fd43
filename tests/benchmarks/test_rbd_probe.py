"""How long a look of the rbd driver takes, beside one with a new program: `make bench`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from drivers.base import ClientInstance
from tests.rbd import Rbd
from tests.services.ceph import PYTHON, Ceph
from tests.services.rbd_clients import RbdClients

IMAGES = 200
LOOKS = 15
MOST_SECONDS = 0.010
MOST_OF_NEW = 0.2
"""A look asks a program that is connected already. With a new one it takes a Python, Ceph's
libraries and a connection more."""
MOST_OF_START = 4.0
"""Of a look with a new program. A second process in it would show."""
MOST_SECONDS_AN_IMAGE = 0.020

START = "a Python with Ceph's libraries"
NEW = "observe, with a new program"
Look = Callable[[], object]


@pytest.fixture
def rbd(ceph: Ceph, rbd_clients: RbdClients) -> Rbd:
    """Return a backend in a namespace of its own."""
    place = f"volumes/bench-{time.monotonic_ns()}"
    ceph.create_namespace(place)
    return Rbd(ceph, rbd_clients, place)


def test_look_and_list_of_two_hundred_images(rbd: Rbd) -> None:
    """200 images -> a look in 10 ms, a fifth of one with a new program; a list, 20 ms an image."""
    volumes = [rbd.volume() for _ in range(IMAGES)]
    driver = rbd.driver()
    nobody = ClientInstance("192.0.2.1:0/1", "client.1", 1, datetime.now(UTC))
    looks: dict[str, Look] = {
        START: start,
        NEW: lambda: rbd.driver().observe(volumes[0], timeout_seconds=60),
        "observe": lambda: driver.observe(volumes[0], timeout_seconds=60),
        "observe, the last": lambda: driver.observe(volumes[-1], timeout_seconds=60),
        "list_exports": lambda: driver.list_exports(timeout_seconds=60),
        "reach_of": lambda: driver.reach_of(volumes[0], nobody, timeout_seconds=60),
    }
    busy = os.getloadavg()[0]
    took = {name: median_of(look) for name, look in looks.items()}
    an_image = (took["list_exports"] - took[NEW]) / IMAGES
    show(took, an_image, busy)
    assert took[NEW] / took[START] < MOST_OF_START
    assert took["observe"] / took[NEW] < MOST_OF_NEW
    assert took["observe"] < MOST_SECONDS
    assert an_image < MOST_SECONDS_AN_IMAGE


def start() -> None:
    """Run the driver's Python for nothing but the import of Ceph's libraries."""
    subprocess.run([PYTHON, "-I", "-c", "import rados, rbd, json"], check=True)


def median_of(look: Look) -> float:
    """Return how long it takes in the median, in seconds."""
    took = []
    for _ in range(LOOKS):
        began = time.monotonic()
        look()
        took.append(time.monotonic() - began)
    return statistics.median(took)


def show(took: dict[str, float], an_image: float, busy: float) -> None:
    """Print what was measured."""
    lines = [f"{IMAGES} images, load {busy:.1f} before"]
    lines += [f"{n:<32} {s * 1000:6.0f} ms {s / took[START]:6.2f}" for n, s in took.items()]
    lines += [f"{an_image * 1000:.1f} ms an image of a list"]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
