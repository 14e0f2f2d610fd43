"""``detachd stuck`` against a simulated cloud."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.cli.app import main
from consumer.cli.cloud.stuck import _made
from consumer.ledger import Ledger
from drivers.control_plane import ListedAttachment
from drivers.simulator import Cloud
from drivers.simulator.remote import serve_cloud
from tests.unit.consumer.cli.conftest import Run
from tests.unit.consumer.due import open_case


@pytest.fixture
def stuck(tmp_path: Path, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run ``detachd stuck`` against that cloud."""
    path = tmp_path / "stuck.conf"
    with serve_cloud(cloud, authkey=b"key") as server:
        path.write_text(
            f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n[sweep]\npage_size = 10\n"
            f"[simulator]\naddress = {server.address}\nauthkey = key\n"
            "[backend_defaults]\ndriver = simulator\n"
        )

        def run(*words: str) -> tuple[int, str, str]:
            code = main(["stuck", *words, "--config-file", str(path)])
            shown = capsys.readouterr()
            return code, shown.out, shown.err

        yield run


def arranged(cloud: Cloud, arrange: Callable[[str, str], object]) -> str:
    """Arrange one volume with a server; return the volume's id."""
    volume_id, server_id = cloud.create_volume(), cloud.boot_server(host="compute-1")
    arrange(volume_id, server_id)
    return volume_id


def test_quiet_cloud(ledger: Ledger, cloud: Cloud, stuck: Run) -> None:
    """Attached and free volumes -> nothing, exit 0."""
    arranged(cloud, cloud.attach)
    cloud.create_volume()
    assert stuck() == (0, "", "nothing is in transition\n")
    assert stuck("-f", "json")[:2] == (0, "[]\n")


def test_what_is_in_transition_is_listed_with_its_case(
    ledger: Ledger, cloud: Cloud, stuck: Run
) -> None:
    """More than a page, one with a case -> each once, the case named; and nothing is written."""
    kept = [arranged(cloud, cloud.begin_attach) for _ in range(12)]
    open_case(ledger, volume_id=kept[0])
    before = len(ledger.cases())
    code, out, err = stuck("-f", "json")
    found = {one["volume_id"]: one for one in json.loads(out)}
    assert (code, err) == (3, "")
    assert sorted(found) == sorted(kept)
    assert [v for v, one in found.items() if one["case_id"]] == [kept[0]]
    assert all(one["attachments"] for one in found.values())
    code, out, err = stuck()
    assert err == "12 in transition, 11 of them without a case\n"
    assert len(out.splitlines()) == 13
    assert len(ledger.cases()) == before


def test_rows_with_and_without_a_server() -> None:
    """Two reserved rows of one volume, one of no server -> both, in an order of their own."""
    rows = [
        ListedAttachment(str(n), "v", "reserved", server) for n, server in enumerate(("s", None))
    ]
    assert _made("v", None, rows).attachments == (("reserved", None), ("reserved", "s"))


def test_ledger_that_cannot_be_read(cloud: Cloud, stuck: Run, tmp_path: Path) -> None:
    """No ledger -> the volumes all the same, and why no case is known."""
    volume_id = arranged(cloud, cloud.begin_attach)
    code, out, err = stuck()
    assert (code, volume_id in out) == (3, True)
    assert "not known: There is no ledger" in err
    assert not (tmp_path / "ledger.sqlite").exists()
