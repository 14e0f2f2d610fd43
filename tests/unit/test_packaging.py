"""What is shipped: the four packages, complete, and nothing that belongs to one machine."""

import re
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests import wheel

ROOT = Path(__file__).parents[2]
MANUAL = re.compile(r"detachd-[0-9.]+\.data/data/share/man/man1/detachd\.1")
TOP_LEVEL = {"consumer", "handlers", "drivers", "metrics"}

# In pieces, so that this file does not find itself.
MACHINE_PATHS = ["/" + path for path in ("work/", "root/", "opt/wheels", "opt/pypi")]
ELSEWHERE = ["../" + "shared", "pypi" + ".org", "python" + "hosted"]


@pytest.fixture(scope="module")
def tree() -> list[Path]:
    """Skip outside a git checkout, where nobody can tell our files from others."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return wheel.files_of_the_tree()


@pytest.fixture(scope="module")
def wheel_files(tree: list[Path], tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel, and list what is in it."""
    assert tree
    return set(zipfile.ZipFile(wheel.build(tmp_path_factory.mktemp("wheel"))).namelist())


def test_wheel_installs_four_top_level_packages(wheel_files: set[str]) -> None:
    """The wheel is unpacked -> beside its metadata and the manual exactly the four packages."""
    top_level = {name.partition("/")[0] for name in wheel_files if not MANUAL.fullmatch(name)}
    metadata = {name for name in top_level if name.endswith(".dist-info")}
    assert len(metadata) == 1
    assert top_level - metadata == TOP_LEVEL


def test_wheel_carries_every_file_of_the_packages(tree: list[Path], wheel_files: set[str]) -> None:
    """A module or data file in the tree -> in the wheel, so that an installation can find it."""
    in_packages = {file.as_posix() for file in tree if file.parts[0] in TOP_LEVEL}
    assert in_packages - wheel_files == set()


def test_wheel_carries_what_an_installer_needs(wheel_files: set[str]) -> None:
    """What `detachd config files` writes, the migrations, the manual -> in the wheel."""
    assert [name for name in wheel_files if MANUAL.fullmatch(name)]
    for name in (
        "consumer/deploy/prometheus.yaml",
        "consumer/ledger/migrations/script.py.mako",
        "consumer/ledger/migrations/versions/0001_first_light.py",
        "handlers/announcement/announcement.schema.json",
        "metrics/alerts/detachd.rules.yaml",
        "metrics/runbooks/README.md",
    ):
        assert name in wheel_files


def test_setup_cfg_names_the_packages_that_exist(tree: list[Path]) -> None:
    """A package is added or removed -> setup.cfg, which names each, has to say so."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    named = settings["options"]["packages"].split()
    with_code = {f.parent for f in tree if f.parts[0] in TOP_LEVEL and f.suffix == ".py"}
    assert sorted(named) == sorted(".".join(package.parts) for package in with_code)
    assert [p for p in with_code if not (ROOT / p / "__init__.py").is_file()] == []


def test_the_lowest_releases_are_tested() -> None:
    """setup.cfg accepts an older release -> the oldest list of tests/versions must have it."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    wanted = [settings["options"]["install_requires"], extras["postgresql"], extras["mariadb"]]
    bound = re.compile(r"^([\w.-]+)(?:\[\w+\])?>=([\d.]+)", re.MULTILINE)
    lowest = {name.lower(): release for name, release in bound.findall("\n".join(wanted))}
    oldest = min((ROOT / "tests" / "versions").glob("openstack-*.txt")).read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)$", oldest, re.MULTILINE)
    tested = {name.lower().replace("_", "-"): release for name, release in pins}
    assert len(lowest) == len(re.findall(r">=", "\n".join(wanted)))
    assert {name: tested.get(name) for name in lowest} == lowest


@pytest.mark.parametrize("needle", [*MACHINE_PATHS, *ELSEWHERE])
def test_no_file_names_a_machine_or_an_index(needle: str, tree: list[Path]) -> None:
    """A path or host that only one workplace knows -> named in no file, samples included."""
    alone = re.compile(rb"(?<![\w-])" + re.escape(needle.encode()))
    found = [str(file) for file in tree if alone.search((ROOT / file).read_bytes())]
    assert found == []
