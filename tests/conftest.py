"""What every test may use: the private services, and benchmarks only when asked for."""

import faulthandler
import os
from pathlib import Path

import hypothesis
import pytest

from tests import compiled_once, memory_disk
from tests.compatibility import recorder

# How many examples each property is tried on. `make check` gives --hypothesis-profile=quick, which
# tries the same ones each time. No deadlines: they would measure what else the machine does.
hypothesis.settings.register_profile("full", max_examples=150, deadline=None)
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("full")

pytest_plugins = ["tests.services.fixtures", "tests.lab.fixtures"]

PATIENCE_SECONDS = 60.0
BENCHMARKS = Path(__file__).parent / "benchmarks"
PARALLEL = tuple(
    Path(__file__).parent / name
    for name in (
        "unit",
        "properties",
        "cases",
        "situations",
        "behaviour",
        "conformance",
        "exhaustive",
    )
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --benchmarks, which `make bench` gives."""
    parser.addoption(
        "--benchmarks", action="store_true", help="collect tests/benchmarks, which measure"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests write in memory; what is measured has to be on a disk, as in use.

    DETACHD_RECORD_RUNS names the file that the run is recorded in.
    """
    if file := os.environ.get(recorder.VARIABLE):
        config.pluginmanager.register(recorder.Recorder(Path(file).resolve()))
    if not config.getoption("benchmarks"):
        memory_disk.use()
        compiled_once.use()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what may run beside other tests, before -m looks at the marks.

    That is what neither measures time nor starts the OpenStack of tests/lab. A private database
    disturbs no other test.
    """
    for item in items:
        on_lab = item.get_closest_marker("lab") or "openstack" in getattr(item, "fixturenames", ())
        if not on_lab and any(place in item.path.parents for place in PARALLEL):
            item.add_marker(pytest.mark.parallel)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say what keeps the run from ending, and end it: a thread that a test left, for example.

    Not in a worker of pytest-xdist. That is unconfigured when it has no more tests, waits then for
    the others, however long they take, and is killed where it does not end with them.
    """
    if not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the benchmarks out of every other run: what they measure, other work disturbs."""
    if BENCHMARKS in (collection_path, *collection_path.parents):
        return None if config.getoption("benchmarks") else True
    return None
