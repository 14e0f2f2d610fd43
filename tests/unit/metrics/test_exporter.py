"""The exporter, asked over a real socket."""

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
import requests
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from waitress.trigger import trigger

from metrics import exporter as exporter_module
from metrics.exporter import Check, Exporter, ExporterError, _Channel


class Components:
    """What the checks answer, to be changed by a test."""

    def __init__(self) -> None:
        self.checks: Sequence[Check] = (Check("ledger", ok=True, reason="answers"),)

    def __call__(self) -> Sequence[Check]:
        """Answer as the exporter asks."""
        return self.checks


@pytest.fixture
def components() -> Components:
    """Make components that are ready."""
    return Components()


@pytest.fixture
def exporter(components: Components) -> Iterator[Exporter]:
    """Serve one counter on a free port."""
    registry = CollectorRegistry()
    Counter("seen", "Seen.", registry=registry).inc(3)
    served = Exporter("127.0.0.1", 0, registry, components)
    served.start()
    yield served
    served.stop()


def get(exporter: Exporter, path: str) -> requests.Response:
    """Ask the exporter for a page."""
    return requests.get(f"http://127.0.0.1:{exporter.port}{path}", timeout=60)


def test_metrics_are_served_in_prometheus_text_format(exporter: Exporter) -> None:
    """GET /metrics -> a page that Prometheus' own parser reads."""
    page = get(exporter, "/metrics")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/plain; version=")
    (family,) = [f for f in text_string_to_metric_families(page.text) if f.name == "seen"]
    assert family.samples[0].value == 3


def test_openmetrics_is_served_to_who_accepts_it(exporter: Exporter) -> None:
    """Prometheus' Accept header -> OpenMetrics."""
    page = requests.get(
        f"http://127.0.0.1:{exporter.port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        timeout=60,
    )
    assert page.text.rstrip().endswith("# EOF")


def test_a_living_process_is_healthy_whatever_its_components_say(
    exporter: Exporter, components: Components
) -> None:
    """Broker down -> /healthz stays 200: a restart would not mend the broker."""
    components.checks = (Check("broker", ok=False, reason="refused"),)
    assert get(exporter, "/healthz").status_code == 200


def test_a_loop_that_does_not_turn_makes_the_process_unhealthy() -> None:
    """A loop hangs -> /healthz answers 503 and says which; only a restart helps."""
    stuck = ["the worker has not turned for 901 s"]
    served = Exporter("127.0.0.1", 0, CollectorRegistry(), Components(), stuck=lambda: stuck)
    served.start()
    try:
        page = get(served, "/healthz")
        assert page.status_code == 503
        assert page.json() == {"alive": False, "stuck": stuck}
        stuck.clear()
        assert get(served, "/healthz").status_code == 200
    finally:
        served.stop()


def test_a_degraded_component_is_ready_with_its_reason(
    exporter: Exporter, components: Components
) -> None:
    """Nova gives no answer -> 200, and the body says that it is degraded, and why."""
    components.checks = (Check("nova", ok=True, reason="no route", degraded=True),)
    page = get(exporter, "/readyz")
    assert page.status_code == 200
    assert page.json()["components"] == {
        "nova": {"ok": True, "reason": "no route", "degraded": True}
    }


def test_all_components_ready_makes_the_process_ready(exporter: Exporter) -> None:
    """Every check ok -> 200 and each reason in the body."""
    page = get(exporter, "/readyz")
    assert page.status_code == 200
    assert page.json() == {
        "ready": True,
        "components": {"ledger": {"ok": True, "reason": "answers"}},
    }


def test_one_component_that_is_not_ready_makes_503_with_its_reason(
    exporter: Exporter, components: Components
) -> None:
    """One check not ok -> 503, and the body says which and why."""
    components.checks = (
        Check("ledger", ok=True, reason="answers"),
        Check("broker", ok=False, reason="connection refused"),
    )
    page = get(exporter, "/readyz")
    assert page.status_code == 503
    assert page.json()["components"]["broker"] == {"ok": False, "reason": "connection refused"}


def test_an_unknown_page_names_the_ones_there_are(exporter: Exporter) -> None:
    """GET / -> 404 that says what to ask for."""
    page = get(exporter, "/")
    assert page.status_code == 404
    assert page.json()["pages"] == ["/metrics", "/healthz", "/readyz"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_write_is_refused(exporter: Exporter, method: str) -> None:
    """Anything but GET and HEAD -> 405."""
    page = requests.request(method, f"http://127.0.0.1:{exporter.port}/metrics", timeout=60)
    assert page.status_code == 405


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_head_gets_the_answer_without_its_body(exporter: Exporter, path: str) -> None:
    """HEAD -> the status of GET and no bytes after the headers."""
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=60) as client:
        client.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.endswith(b"\r\n\r\n")


def test_a_resolver_that_is_away_delays_no_start(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers who this machine is -> it listens all the same: nobody wants to know."""

    def asks(*_: object) -> str:
        raise AssertionError("the resolver was asked")

    monkeypatch.setattr(socket, "getfqdn", asks)
    exporter = Exporter("127.0.0.1", 0, CollectorRegistry(), components)
    exporter.start()
    assert get(exporter, "/metrics").status_code == 200
    exporter.stop()


def test_a_port_in_use_is_an_error_that_names_it(
    exporter: Exporter, components: Components
) -> None:
    """Binding fails -> ExporterError with address, port, cause and the options to change."""
    second = Exporter("127.0.0.1", exporter.port, CollectorRegistry(), components)
    with pytest.raises(ExporterError) as error:
        second.start()
    assert f"127.0.0.1 port {exporter.port}" in str(error.value)
    assert "in use" in str(error.value)
    assert "[exporter]" in str(error.value)


@pytest.mark.parametrize(
    ("port", "advice"), [(80, "below 1024 it needs a right of root"), (8080, "that are free")]
)
def test_a_port_that_only_root_may_have_is_an_error_in_words(
    components: Components, monkeypatch: pytest.MonkeyPatch, port: int, advice: str
) -> None:
    """Permission denied -> why, and a higher port; above 1024 it has another cause."""
    refused = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(exporter_module, "_Server", Mock(side_effect=refused))
    with pytest.raises(ExporterError, match=f"port {port}: Permission denied; .*{advice}"):
        Exporter("127.0.0.1", port, CollectorRegistry(), components).start()


def test_an_address_of_another_machine_is_an_error_in_words(components: Components) -> None:
    """An address that is not ours -> ExporterError, not a traceback of sockets."""
    with pytest.raises(ExporterError, match=r"192\.0\.2\.1"):
        Exporter("192.0.2.1", 0, CollectorRegistry(), components).start()


def test_a_client_that_says_nothing_is_let_go_and_stops_nobody(
    exporter: Exporter,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A silent connection -> others are served, it is closed in time, and stderr stays empty."""
    monkeypatch.setattr(exporter_module, "REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=60) as silent:
        assert get(exporter, "/healthz").status_code == 200
        assert silent.recv(1) == b""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("answer", [False, True], ids=["sends", "reads"])
def test_a_client_that_sends_or_reads_a_byte_now_and_then(
    components: Components, monkeypatch: pytest.MonkeyPatch, *, answer: bool
) -> None:
    """It sends its request, or reads a large answer, slowly -> closed in time all the same."""
    monkeypatch.setattr(exporter_module, "REQUEST_SECONDS", 1.0)
    registry = CollectorRegistry()
    Gauge("large", "X" * 4_000_000, registry=registry)
    served = Exporter("127.0.0.1", 0, registry, components)
    served.start()
    closed, close = threading.Event(), _Channel.handle_close
    monkeypatch.setattr(_Channel, "handle_close", lambda self: (close(self), closed.set()))
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as client:
        if answer:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        while not closed.is_set() and time.monotonic() - started < 60:
            with contextlib.suppress(ConnectionError):
                _ = client.recv(100) if answer else client.sendall(b"G")
            time.sleep(0.05)
    assert closed.is_set()
    assert time.monotonic() - started > 0.5
    served.stop()


@pytest.mark.slow
def test_parallel_scrapes_beside_dripping_connections(components: Components) -> None:
    """200 scrapes at once beside 400 that send a byte a second -> none lost, few threads, in time.

    With a thread for each connection and a backlog of five, 20 of the 200 were refused.
    """
    registry = CollectorRegistry()
    registry.register(_Slow())
    served = Exporter("127.0.0.1", 0, registry, components)
    served.start()
    idle = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        dripping = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=60))
            for _ in range(400)
        ]
        for client in dripping:
            client.sendall(b"G")
        assert get(served, "/healthz").status_code == 200
        assert set(threading.enumerate()) <= idle, "a slow client holds a thread"
        pool = stack.enter_context(ThreadPoolExecutor(200))
        together = threading.Barrier(200)

        def scrape(_: int) -> float:
            together.wait()
            started = time.monotonic()
            answer = requests.get(f"http://127.0.0.1:{served.port}/metrics", timeout=60)
            assert answer.status_code == 200
            assert "seconds_asleep" in answer.text
            return time.monotonic() - started

        took = sorted(pool.map(scrape, range(200)))
        assert took[-1] < 30, "Prometheus would have given it up"
    served.stop()


class _Slow(Collector):
    """A collector that takes as long as a question to the ledger."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Sleep for some milliseconds."""
        time.sleep(0.01)
        yield GaugeMetricFamily("seconds_asleep", "Asleep.", value=0.01)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"\x16\x03\x01\x02\r\n\r\n", b"400"),
    ],
    ids=["long head", "long body", "not http"],
)
def test_a_request_that_no_page_needs(
    exporter: Exporter, sent: bytes, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """A head or a body without end, or no HTTP -> refused, nothing kept or printed."""
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=60) as client:
        client.sendall(sent)
        assert client.recv(100).split()[1] == status
    assert get(exporter, "/healthz").status_code == 200
    assert capfd.readouterr().err == ""


def test_requests_leave_no_line_on_stderr(
    exporter: Exporter, capfd: pytest.CaptureFixture[str]
) -> None:
    """A scrape -> nothing printed."""
    get(exporter, "/metrics")
    assert capfd.readouterr().err == ""


def test_a_stopped_exporter_lets_go_of_its_port(components: Components) -> None:
    """stop() -> the port can be bound again and no thread is left."""
    first = Exporter("127.0.0.1", 0, CollectorRegistry(), components)
    first.start()
    port = first.port
    first.stop()
    assert "exporter" not in {t.name for t in threading.enumerate()}
    second = Exporter("127.0.0.1", port, CollectorRegistry(), components)
    second.start()
    assert json.loads(get(second, "/healthz").text) == {"alive": True}
    second.stop()


def test_stopped_while_a_page_wakes_its_thread(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """stop() between the page that wakes the thread and the thread that closes -> it stops.

    The thread that was woken by a page took the order to close, and closed the pipe into which
    stop() was about to write: "Bad file descriptor", or a byte in another file.
    """
    pull = trigger._physical_pull

    def beside_a_page(self: trigger) -> None:
        """Let a page pull first, and give the woken thread the time to take what is ordered."""
        pull(self)
        time.sleep(0.2)
        pull(self)

    served = Exporter("127.0.0.1", 0, CollectorRegistry(), components)
    served.start()
    monkeypatch.setattr(trigger, "_physical_pull", beside_a_page)
    served.stop()
    assert "exporter" not in {t.name for t in threading.enumerate()}


def test_page_that_is_done_after_the_end(
    components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that outlasts stop() is done when the pipe is closed -> nothing is written to it.

    Its number may be another file's by then, the ledger's perhaps, which got a byte.
    """
    pull, closed = trigger._physical_pull, []

    def noted(self: trigger) -> None:
        closed.append(self._closed)
        if not self._closed:
            pull(self)

    monkeypatch.setattr(trigger, "_physical_pull", noted)
    served = Exporter("127.0.0.1", 0, CollectorRegistry(), components)
    served.start()
    server = served._server
    assert server is not None
    server.pull_trigger()
    served.stop()
    server.pull_trigger()
    assert closed == [False, False]


def test_ipv6_loopback_can_be_listened_on(components: Components) -> None:
    """Address ::1 -> served there, where the machine has IPv6."""
    served = Exporter("::1", 0, CollectorRegistry(), components)
    try:
        served.start()
    except ExporterError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert requests.get(f"http://[::1]:{served.port}/healthz", timeout=60).status_code == 200
    served.stop()
