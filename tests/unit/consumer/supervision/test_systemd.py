"""What systemd is told, on a real socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.supervision.systemd import Supervisor


class Systemd:
    """Listens as systemd does, and has a clock that the test sets."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000"}
        self.now = 1000.0

    def heard(self) -> list[str]:
        """Return what was told since the last time."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return found

    def started(self, **environment: str) -> Supervisor:
        """Return what a process that it has started tells it with."""
        return Supervisor(self.environment | environment, lambda: self.now)


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """Give a systemd that listens on a file, and one on an abstract socket."""
    name = f"@detachd-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/notify"
    made = Systemd(name)
    yield made
    made.socket.close()


def test_it_is_told_of_start_and_stop(systemd: Systemd) -> None:
    """Start, stop -> one line each."""
    supervisor = systemd.started()
    supervisor.started()
    supervisor.stopping()
    assert systemd.heard() == ["READY=1", "STOPPING=1"]


def test_watchdog_is_fed_three_times_in_its_interval(systemd: Systemd) -> None:
    """Asked every second for a minute -> told every twenty seconds."""
    supervisor = systemd.started()
    for _ in range(60):
        supervisor.alive(tuple)
        systemd.now += 1.0
    assert systemd.heard() == ["WATCHDOG=1"] * 3


def test_watchdog_goes_hungry_while_a_loop_stands_still(
    systemd: Systemd, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop does not turn -> not fed, and said once; it turns again -> fed at once."""
    supervisor = systemd.started()
    with caplog.at_level(logging.CRITICAL):
        for _ in range(60):
            supervisor.alive(lambda: ("the worker has not turned for 901 s",))
            systemd.now += 1.0
    assert systemd.heard() == []
    assert caplog.messages == [
        "systemd's watchdog is not fed any more: the worker has not turned for 901 s"
    ]
    supervisor.alive(tuple)
    assert systemd.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "environment", [{"WATCHDOG_USEC": ""}, {"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}]
)
def test_without_a_watchdog_for_this_process_nothing_is_fed(
    systemd: Systemd, environment: dict[str, str]
) -> None:
    """No interval, or that of another process -> nothing is sent."""
    systemd.started(**environment).alive(tuple)
    assert systemd.heard() == []


def test_nobody_asked_and_nobody_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No systemd -> nothing at all; one whose socket is gone -> a line, and the work goes on."""
    Supervisor({}).started()
    assert caplog.messages == []
    Supervisor({"NOTIFY_SOCKET": f"{tmp_path}/gone"}).started()
    assert caplog.messages == ["systemd could not be told READY=1: No such file or directory"]
