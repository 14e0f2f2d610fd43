"""``detachd driver ...`` on a simulated cloud: what is shown, and that nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.app import main
from drivers.errors import TransientError
from drivers.simulator import DEFAULT_BACKEND, Cloud, Fault
from drivers.simulator.remote import serve_cloud
from drivers.simulator.scenes import attached

Probe = Callable[..., tuple[int, str, str]]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def probe(tmp_path: Path, cloud: Cloud, capsys: Captured) -> Iterator[Probe]:
    """Run ``detachd driver probe`` against that cloud; return exit code, stdout and stderr."""
    path = tmp_path / "detachd.conf"
    with serve_cloud(cloud, authkey=b"key") as server:

        def run(*words: str, driver: str = "simulator") -> Any:
            path.write_text(
                f"[ledger]\nconnection = sqlite:///{tmp_path}/none.sqlite\n"
                f"[simulator]\naddress = {server.address}\nauthkey = key\n"
                f"[backend_defaults]\ndriver = {driver}\nmode = auto\n"
            )
            code = main(["driver", "probe", *words, "--config-file", str(path)])
            shown = capsys.readouterr()
            return code, shown.out, shown.err

        yield run


def test_the_drivers_are_listed_with_what_they_can(capsys: Captured) -> None:
    """`driver list` -> each of the entry points, the blind one among them."""
    assert main(["driver", "list", "-f", "json"]) == 0
    rows = {row["Driver"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"cinder_managed", "rbd", "simulator", "tgt"} <= rows.keys()
    assert "sees_connections" in rows["tgt"]["Can"]
    assert "sees_connections" in rows["cinder_managed"]["Cannot"]


def test_an_attached_volume_is_shown_with_its_host(probe: Probe, cloud: Cloud) -> None:
    """A healthy attachment -> its host, the control, and not one write, in mode auto."""
    scene = attached(cloud)
    code, out, _ = probe(DEFAULT_BACKEND, scene.volume_id)
    assert code == 0
    assert f"volume     {scene.volume_id}, in-use by Cinder" in out
    assert "(compute-1): has access, sessions: 1" in out
    assert "control    " in out
    assert cloud.calls(writes=True) == ()


def test_a_free_volume_has_nobody(probe: Probe, cloud: Cloud) -> None:
    """A volume that was never attached -> nobody is connected."""
    code, out, _ = probe(DEFAULT_BACKEND, cloud.create_volume())
    assert (code, "connected  nobody" in out) == (0, True)


def test_a_volume_of_another_backend_is_said_to_be(probe: Probe, cloud: Cloud) -> None:
    """A typing error in the backend -> the difference is said, before the error of the look."""
    volume_id = cloud.create_volume(backend="storage-2@tgt")
    code, out, _ = probe(DEFAULT_BACKEND, volume_id)
    assert code == 1
    assert "WARNING    by Cinder it is on storage-2@tgt, and not on storage-1@tgt" in out


@pytest.mark.parametrize(
    ("driver", "volume", "why"),
    [
        ("cinder_managed", None, "cannot see who is connected: there is nothing to try"),
        ("simulator", "00000000-0000-0000-0000-000000000000", "Cinder has no volume"),
    ],
)
def test_what_cannot_be_tried_is_bad_input(
    probe: Probe, cloud: Cloud, driver: str, volume: str | None, why: str
) -> None:
    """A blind driver, a volume that is none -> exit 2, with the reason."""
    code, _, err = probe(DEFAULT_BACKEND, volume or cloud.create_volume(), driver=driver)
    assert code == 2
    assert why in err


def test_a_backend_that_does_not_answer_is_a_failure(probe: Probe, cloud: Cloud) -> None:
    """The array gives no answer -> exit 1 and its words, no traceback."""
    volume_id = cloud.create_volume()
    cloud.script(Fault.before("driver.observe", TransientError, volume_id=volume_id))
    code, _, err = probe(DEFAULT_BACKEND, volume_id)
    assert code == 1
    assert "driver.observe" in err
    assert "Traceback" not in err
