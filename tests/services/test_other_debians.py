"""RabbitMQ and Ceph of other Debians: a tool makes them, a variable chooses each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services import chroot
from tests.services.ceph import Ceph
from tests.services.chroot import Debian
from tests.services.fixtures import installed
from tests.services.rabbitmq import RabbitMQ

TOOL = Path(__file__).parents[2] / "tools" / "install-debian"


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose both."""
    monkeypatch.setenv("DETACHD_RABBITMQ", "4.0")
    monkeypatch.setenv("DETACHD_CEPH", "18")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let it not have been made, as far as this test is concerned."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def tool(*words: str, debian: str = "13", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tool, without CI but for what ``environment`` says."""
    base = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [TOOL, debian, *words], check=False, capture_output=True, text=True, env=base | environment
    )


def listening(pids: list[int]) -> set[str]:
    """Return the addresses at which these processes take TCP connections, as the kernel writes."""
    sockets = {link.readlink().name for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {
        fields[1].partition(":")[0]
        for fields in lines
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    }


def inside(directory: Path) -> set[tuple[str, int]]:
    """Return what a directory holds, with the times of change."""
    found = directory.rglob("*")
    return {(str(path), path.lstat().st_ctime_ns) for path in found if not path.is_socket()}


@pytest.mark.integration
@pytest.mark.usefixtures("chosen")
@pytest.mark.parametrize(
    ("kind", "version"),
    [(RabbitMQ, lambda broker: broker.ctl("version")), (Ceph, lambda ceph: ceph.version)],
    ids=["RabbitMQ 4", "Ceph 18"],
)
def test_it_is_on_loopback_and_leaves_its_root_as_it_was(
    kind: type[RabbitMQ | Ceph],
    version: Callable[[RabbitMQ | Ceph], str],
    request: pytest.FixtureRequest,
) -> None:
    """Chosen -> it answers, at loopback alone; no mount of it is seen here, its root unchanged."""
    installed(kind)
    root = chroot.place(Debian.THIRTEEN)
    before = inside(root / "etc") | inside(root / "var")
    with installed(kind) as service:
        assert f"{kind.__name__} {version(service).partition('.')[0]}" in request.node.name
        loopback = {"0100007F", "00000000000000000000000001000000"}
        assert "0100007F" in listening(service.processes()) <= loopback
        mounts = Path("/proc/self/mounts").read_text()
        assert str(service.directory) not in mounts
        assert str(root) not in mounts
    assert inside(root / "etc") | inside(root / "var") == before


@pytest.mark.usefixtures("chosen", "empty_cache")
@pytest.mark.parametrize(("kind", "name"), [(RabbitMQ, "RabbitMQ 4"), (Ceph, "Ceph 18")])
def test_not_made_is_skipped_on_a_laptop_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, kind: type[RabbitMQ | Ceph], name: str
) -> None:
    """No such directory -> the test is skipped with the reason; where CI=true it fails."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=rf"{name} .*root.*make services"):
        installed(kind)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=name):
        installed(kind)


@pytest.mark.parametrize(
    ("kind", "variable", "known"),
    [
        (RabbitMQ, "DETACHD_RABBITMQ", r"installed, 4\.0 or testing"),
        (Ceph, "DETACHD_CEPH", "installed or 18"),
    ],
)
def test_an_unknown_choice_is_no_choice(
    monkeypatch: pytest.MonkeyPatch, kind: type[RabbitMQ | Ceph], variable: str, known: str
) -> None:
    """A slip in the variable -> an error, not the other one's results."""
    monkeypatch.setenv(variable, "4")
    with pytest.raises(ValueError, match=rf"{known}, not '4'"):
        kind()


@pytest.mark.parametrize("debian", Debian)
def test_the_tool_makes_it_where_the_tests_look(empty_cache: Path, debian: Debian) -> None:
    """Tool and tests -> one place, in the cache of the user, whatever its packages are."""
    said = Path(tool("where", debian=debian.value).stdout.strip())
    assert said == chroot.place(debian)
    assert empty_cache in said.parents


def test_other_packages_are_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is added to the list -> what was made before is not taken for it."""
    before, longer = chroot.place(Debian.THIRTEEN), tmp_path / "packages"
    longer.write_text(f"{Debian.THIRTEEN.packages.read_text()}hello\n")
    monkeypatch.setattr(Debian, "packages", longer)
    assert chroot.place(Debian.THIRTEEN) != before


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"CI": "true"}, 1)])
def test_the_tool_says_why_it_cannot(
    empty_cache: Path, tmp_path: Path, environment: dict[str, str], code: int
) -> None:
    """Not root -> said in words; no failure on a laptop, one in CI. Nothing is made."""
    somebody = tmp_path / "id"
    somebody.write_text("#!/bin/sh\necho 1000\n")
    somebody.chmod(0o755)
    done = tool(PATH=f"{tmp_path}:{os.environ['PATH']}", **environment)
    assert done.returncode == code, done.stderr
    assert "Only root can make it" in done.stderr
    assert not (empty_cache / "detachd").exists()


def test_a_mirror_that_does_not_answer_leaves_nothing_half_made(
    empty_cache: Path, tmp_path: Path
) -> None:
    """The making fails half-way -> its words are shown, and the next run begins anew."""
    programs = {
        "id": "echo 0",
        "unshare": "exit 0",
        "mmdebstrap": 'for to; do :; done; mkdir "$to" || exit; echo "E: no mirror" >&2; exit 1',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for _ in range(2):
        done = tool(PATH=f"{tmp_path}:{os.environ['PATH']}")
        assert done.returncode == 0, done.stderr
        assert "E: no mirror" in done.stderr
        assert "the tests that need it are skipped" in done.stderr
        assert not chroot.place(Debian.THIRTEEN).exists()


def test_a_debian_that_nobody_knows_is_refused() -> None:
    """A slip in the name -> an error with the names that there are."""
    done = tool(debian="14")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There are: 13, testing" in done.stderr
