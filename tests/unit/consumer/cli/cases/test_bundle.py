"""``detachd case bundle``: everything of one case for a ticket, and no secret."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.cli.app import main
from consumer.ledger import Ledger
from tests.unit.consumer.cli.told import look
from tests.unit.consumer.due import open_case, outcome
from tests.unit.handlers.judgement.acting_pictures import UC1

Run = Callable[..., tuple[int, str, str]]
CANARY = "canary-7f3d"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``detachd case bundle`` with secrets in the configuration."""
    path = tmp_path / "detachd.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = rabbit://detachd:{CANARY}@broker:5672/\n"
        f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
        f"[simulator]\naddress = 127.0.0.1:1\nauthkey = {CANARY}\n"
        "[backend_defaults]\ndriver = simulator\nmode = approve\n"
    )

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main(["case", "bundle", *words, "--config-file", str(path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_command


def parked(ledger: Ledger) -> str:
    """Park a case whose look holds secrets where none should be; return its id."""
    open_case(ledger, fault=f"auth_password={CANARY}")
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    seen = look(UC1) | {
        "connection_info": {"data": {"auth_password": CANARY}},
        "reason": f"the driver said: 'auth_password': '{CANARY}' is wrong",
    }
    ledger.finish(claim, outcome(evidence=seen, reason=f"failed: password={CANARY}"))
    return claim.case.case_id


def test_bundle_holds_record_explanation_configuration_and_versions(
    ledger: Ledger, run: Run
) -> None:
    """A case -> all of `case show -f json`, each option's value, and what it runs with."""
    case_id = parked(ledger)
    code, out, err = run(case_id[:13], "-o", "-")
    made = json.loads(out)
    assert (code, err) == (0, "")
    assert made["case"]["case_id"] == case_id
    assert made["case"]["explanation"]["rule"] == "UC1.unfinished"
    assert len(made["case"]["history"]) >= 2
    assert made["configuration"]["backend_defaults.mode"] == "approve"
    assert made["packages"]["SQLAlchemy"]
    assert made["detachd"]


def test_no_secret_leaves_the_house(ledger: Ledger, run: Run) -> None:
    """Secrets in the configuration, a fault, a reason and a look -> masked in every place."""
    code, out, _ = run(parked(ledger), "-o", "-")
    assert code == 0
    assert CANARY not in out
    made = json.loads(out)
    assert made["configuration"]["simulator.authkey"] in ("***", "****")
    assert made["case"]["notifications"][0]["fault"] == "auth_password=***"


def test_file_is_private_and_never_overwritten(tmp_path: Path, ledger: Ledger, run: Run) -> None:
    """-o FILE -> readable by its owner alone; once more -> refused, the first one stays."""
    case_id, path = parked(ledger), tmp_path / "ticket.json"
    assert run(case_id, "-o", str(path))[0] == 0
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code, _, err = run(case_id, "-o", str(path))
    assert code == 2
    assert f"{path} exists, and is left as it is: name another file" in err
    assert path.read_text() == first
