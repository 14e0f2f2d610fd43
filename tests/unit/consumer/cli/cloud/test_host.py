"""``detachd host``: on a real ledger and a simulated cloud, as a person gives the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.app import main
from consumer.ledger import Ledger
from drivers.simulator import Cloud
from drivers.simulator.remote import serve_cloud
from tests.unit.consumer.due import open_case

Ask = Callable[..., tuple[int, str, str]]
WORDS = ("--off", "--until", "8h", "--reason", "unplugged")


@pytest.fixture
def ask(tmp_path: Path, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """Run ``detachd host`` with that cloud; return exit code, stdout and stderr."""
    path = tmp_path / "detachd.conf"
    with serve_cloud(cloud, authkey=b"key") as server:
        path.write_text(
            f"[DEFAULT]\ntransport_url = kombu+memory:////\n"
            f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
            f"[simulator]\naddress = {server.address}\nauthkey = key\n"
            "[backend_defaults]\ndriver = simulator\n"
        )

        def run(*words: str) -> tuple[int, str, str]:
            code = main(["host", *words, "--config-file", str(path)])
            shown = capsys.readouterr()
            return code, shown.out, shown.err

        yield run


def listed(ask: Ask) -> list[dict[str, Any]]:
    """Return what the list holds for programs."""
    found: list[dict[str, Any]] = json.loads(ask("list", "-f", "json")[1])
    return found


def test_attest_list_and_revoke(ledger: Ledger, cloud: Cloud, ask: Ask) -> None:
    """A host that Nova says is down -> on record with who and why; revoked -> on record too."""
    cloud.set_compute("compute-1", up=False)
    code, out, _ = ask("attest", "compute-1", *WORDS, "--actor", "anna")
    assert code == 0
    assert out.startswith("host compute-1 counts as powered off until ")
    (row,) = listed(ask)
    assert (row["Host"], row["Said by"], row["Reason"], row["Volumes"]) == (
        "compute-1", "anna", "unplugged", 0,
    )  # fmt: skip
    code, out, _ = ask("revoke", "compute-1", "--reason", "on again", "--actor", "bob")
    assert (code, out) == (0, "revoked what was said of host compute-1\n")
    assert ledger.hosts_off() == ()
    (row,) = listed(ask)
    assert (row["Ended by"], row["Why"]) == ("bob", "on again")
    code, _, err = ask("revoke", "compute-1", "--reason", "again")
    assert code == 2
    assert "no word says that host compute-1 is powered off" in err


@pytest.mark.usefixtures("cloud")
def test_a_host_whose_compute_is_up_is_refused(ledger: Ledger, ask: Ask) -> None:
    """Nova says up -> refused, and nothing is on record."""
    code, _, err = ask("attest", "compute-1", *WORDS)
    assert code == 2
    assert "is up, as Nova says" in err
    assert ledger.off_words() == ()


def test_a_host_that_nobody_knows_is_refused(ledger: Ledger, cloud: Cloud, ask: Ask) -> None:
    """A typo: no nova-compute, notification or connector of that name -> refused."""
    open_case(ledger, host="compute1")
    cloud.set_compute("compute11", up=None)
    cloud.set_compute("compute1", up=None)
    code, _, err = ask("attest", "compute11", *WORDS)
    assert code == 2
    assert "nobody knows a compute host compute11" in err
    assert ask("attest", "compute1", *WORDS)[0] == 0, "a notification named it"


def test_a_nova_that_gives_no_answer_is_no_yes(ledger: Ledger, cloud: Cloud, ask: Ask) -> None:
    """Whether it is up is not known -> refused."""
    cloud.set_apis(nova_up=False)
    code, _, err = ask("attest", "compute-1", *WORDS)
    assert code == 2
    assert "Nova did not say" in err
    assert ledger.off_words() == ()


@pytest.mark.parametrize(
    "left_out", [("--off",), ("--until", "8h"), ("--reason", "unplugged")], ids=lambda w: w[0]
)
def test_nothing_is_left_to_be_guessed(ledger: Ledger, ask: Ask, left_out: tuple[str, ...]) -> None:
    """Without --off, an end or a reason -> refused."""
    words = [word for word in WORDS if word not in left_out]
    code, _, err = ask("attest", "compute-1", *words)
    assert code == 2
    assert left_out[0] in err
    assert ledger.off_words() == ()
