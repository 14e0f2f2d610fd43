"""``detachd explain`` over HTTP: what leaves the process, as the other end sees it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from consumer.cli.app import main
from drivers.errors import OutsideError
from tests.bus import new_ledger
from tests.openstack_api import OpenStackApi, Reply
from tests.unit.drivers.openstack import answers
from tests.unit.drivers.openstack.answers import ROW, SERVER, VOLUME

LOGIN = "POST /identity/v3/auth/tokens"
ID = str(uuid.UUID(int=1))
CREATED = {"action": "create", "request_id": "c"}
SHOW = f"GET /servers/{SERVER}"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Return where the configuration is written to; its ledger is empty."""
    with new_ledger(tmp_path):
        return tmp_path / "detachd.conf"


def stuck(api: OpenStackApi) -> None:
    """Let a detach hang: Cinder says detaching, and Nova's block device names the row."""
    volume = answers.volume(status="detaching", attachments=[answers.attached()])
    rows = answers.attachments(answers.attachment(attach_status="attached"))
    said = {
        f"GET /volumes/{ID}": volume,
        "GET /attachments/detail": rows,
        "GET /os-services": answers.services(),
        SHOW: answers.server(),
        "GET /nova/os-services": answers.computes(),
        f"{SHOW}/os-volume_attachments": answers.devices(answers.device(ROW)),
        f"{SHOW}/os-instance-actions": {
            "instanceActions": [{"action": "create", "request_id": "c"}]
        },
    }
    for line, body in said.items():
        api.script(line, Reply(200, json.loads(json.dumps(body).replace(VOLUME, ID))))


def test_what_it_would_act_on_is_only_read(
    conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan that detachd would carry out -> GET alone on the wire, and the login.

    A write of the same clients is seen by the same server.
    """
    with OpenStackApi() as api:
        stuck(api)
        conf.write_text(
            f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n{api.sections()}"
            "[backend_defaults]\ndriver = cinder_managed\nmode = auto\n"
        )
        code = main(["explain", ID, "-f", "json", "--config-file", str(conf)])
        (look,) = json.loads(capsys.readouterr().out)["looks"]
        assert (look["explanation"]["rule"], code) == ("UC4.wish-on-record", 3)
        assert len(api.requests) > 6
        assert LOGIN in api.wire
        assert {line for line in api.wire if not line.startswith("GET ")} == {LOGIN}
        with pytest.raises(OutsideError):
            api.nova(tmp_path).detach(
                SERVER, ID, request_id=f"req-{uuid.uuid4()}", timeout_seconds=5
            )
        assert any(line.startswith("DELETE ") for line in api.wire)
