"""The example of a driver of one's own: built, installed and tested as a stranger would do it.

Both wheels go into a fresh environment, from files alone. What they depend on comes from the
environment that runs this test, by one line in a ``.pth`` file, so that nothing is downloaded;
editable installations do not come along that way, which a test makes sure of.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests import wheel

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "detachd-shelf"
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*_cache")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program outside the tree, with nothing of this process's search path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, check=False, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that holds the example's tests, and an environment with both wheels."""
    place = tmp_path_factory.mktemp("outside")
    detachd = wheel.build(place / "detachd")
    shutil.copytree(EXAMPLE, place / "example", ignore=LEFT_BEHIND)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    wheels = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", place / "wheels"]
    run(*wheels, place / "example", cwd=place)
    venv.create(place / "venv", with_pip=False)
    python = place / "venv" / "bin" / "python"
    (example,) = (place / "wheels").glob("detachd_shelf-*.whl")
    run(*pip, "--python", python, "install", *offline, detachd, example, cwd=place)
    (site,) = (place / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(place / "detachd")
    shutil.rmtree(place / "example" / "detachd_shelf")
    return place


def python_of(outside: Path) -> Path:
    """Return the interpreter of the fresh environment."""
    return outside / "venv" / "bin" / "python"


def test_everything_is_imported_from_the_wheels(outside: Path) -> None:
    """The environment that the wheels are in -> its detachd is the built one, not this checkout."""
    code = "import consumer, drivers, detachd_shelf as s; print(consumer.__file__, s.__file__)"
    found = run(python_of(outside), "-c", code, cwd=outside).split()
    assert all(Path(path).is_relative_to(outside / "venv") for path in found), found


def test_driver_is_found_and_its_options_are_in_the_sample(outside: Path) -> None:
    """The package is installed -> detachd lists its driver, and the sample explains its options."""
    code = "from drivers import registry; print(*registry.names())"
    assert "shelf" in run(python_of(outside), "-c", code, cwd=outside).split()
    code = "import sys; from oslo_config.generator import main; main(sys.argv[1:])"
    sample = run(python_of(outside), "-c", code, "--namespace", "detachd", cwd=outside)
    assert "\n[driver:shelf]\n" in sample
    assert "\n#volume_name_template = volume-%s\n" in sample


def test_configuration_of_the_driver_is_checked(outside: Path) -> None:
    """detachd.conf names the driver without its socket -> the service refuses, in words."""
    (outside / "detachd.conf").write_text("[backend_defaults]\ndriver = shelf\n")
    code = (
        "from consumer.errors import ConfigurationError\n"
        "from consumer.settings.configuration import load\nfrom pathlib import Path\n"
        "try: load([Path('detachd.conf')])\nexcept ConfigurationError as e: print(e)"
    )
    said = run(python_of(outside), "-c", code, cwd=outside)
    assert "[driver:shelf] socket must be set" in said


def test_example_keeps_the_contract(outside: Path) -> None:
    """The example's own tests, run by its user -> every clause that a shelf can show passes."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    told = run(python_of(outside), *command, cwd=outside / "example")
    counts = re.findall(r"(\d+) (passed|skipped|failed)", told)
    counted = {word: int(count) for count, word in counts}
    assert counted["passed"] >= 60, told
    # A shelf sees everything and releases whole hosts: clauses on blind drivers, on single clients
    # and on fences do not apply to it.
    assert counted.get("skipped", 0) <= 13, told
    assert "failed" not in counted, told
