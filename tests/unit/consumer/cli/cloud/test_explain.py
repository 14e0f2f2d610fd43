"""``detachd explain`` on a simulated cloud and a real ledger: it says what is so and only reads."""

from __future__ import annotations

import hashlib
import json
import random
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from consumer.cli.app import main
from consumer.demo.performance import last_attach
from consumer.demo.scenes import Stage
from consumer.demo.wire import Message
from consumer.ledger import Arrival, Ledger
from drivers.simulator import Cloud
from drivers.simulator.remote import serve_cloud
from handlers.notification import Notification, parse
from tests.situations import arrangements
from tests.unit.consumer.due import only_case

Run = Callable[..., tuple[int, str, str]]
Arrange = Callable[[Stage], Sequence[Message]]
GOLDEN = Path(__file__).parent / "golden"
HOST = "compute-1"
MODES = {
    "auto": "driver = simulator\nmode = auto\n",
    "observe": "driver = simulator\n",
    "blind": "driver = cinder_managed\nmode = auto\n",
}


@pytest.fixture
def run(tmp_path: Path, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run ``detachd explain`` against that cloud, in a mode; return exit code, stdout, stderr."""
    path = tmp_path / "detachd.conf"
    with serve_cloud(cloud, authkey=b"key") as server:

        def run_command(*words: str, mode: str = "auto", where: Path = tmp_path) -> Any:
            path.write_text(
                f"[ledger]\nconnection = sqlite:///{where}/ledger.sqlite\n"
                f"[simulator]\naddress = {server.address}\nauthkey = key\n"
                f"[backend_defaults]\n{MODES[mode]}"
            )
            code = main(["explain", *words, "--config-file", str(path)])
            shown = capsys.readouterr()
            return code, shown.out, shown.err

        yield run_command


def arranged(cloud: Cloud, arrange: Arrange) -> Stage:
    """Arrange a situation with ids that are the same each time; the bus tells nothing of it."""
    rng, kept = random.Random(1), uuid.uuid4
    uuid.uuid4 = lambda: uuid.UUID(int=rng.getrandbits(128), version=4)
    try:
        stage = Stage(cloud, cloud.create_volume(), cloud.boot_server(host=HOST), HOST)
        arrange(stage)
    finally:
        uuid.uuid4 = kept
    return stage


def hear(ledger: Ledger, messages: Iterable[Message]) -> None:
    """Let these notifications arrive."""
    for message in messages:
        if isinstance(heard := parse(message.body), Notification):
            body = hashlib.sha256(message.body).hexdigest()
            ledger.accept([Arrival(heard, body, "default")])


def rows(tmp_path: Path) -> dict[str, list[Any]]:
    """Return every row of every table of the ledger."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/ledger.sqlite")
    with engine.connect() as connection:
        tables = sa.inspect(engine).get_table_names()
        found = {t: [tuple(r) for r in connection.execute(sa.text(f'SELECT * FROM "{t}"'))]
                 for t in tables}  # fmt: skip
    engine.dispose()
    return found


SITUATIONS: dict[str, tuple[Arrange, str, int, str]] = {
    "leak": (arrangements.uc5_modern_leak, "auto", 4, "P4.no-instance"),
    "unfinished": (arrangements.attach_and_cleanup_fail, "auto", 4, "UC1.unfinished"),
    "wish": (arrangements.detach_terminate_fails, "auto", 3, "UC4.wish-on-record"),
    "healthy": (arrangements.slow_initialize_retry_wins, "observe", 0, "H2.attached"),
    "blind-healthy": (arrangements.slow_initialize_retry_wins, "blind", 0, "H2.attached"),
}


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.usefixtures("ledger")
def test_situation_is_explained_as_it_was_looked_at(
    name: str, columns: int, cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A situation without a case, 80 and 200 columns -> the text that a person looked at."""
    monkeypatch.setenv("COLUMNS", str(columns))
    arrange, mode, code, rule = SITUATIONS[name]
    stage = arranged(cloud, arrange)
    got, out, err = run(stage.volume_id, mode=mode)
    assert err == ""
    text = re.sub(r"\[\d+ s ago\]", "[0 s ago]", out)
    assert text == (GOLDEN / f"explain-{name}.{columns}.txt").read_text(encoding="utf-8")
    assert f"by {rule}" in text
    assert got == code
    assert max(map(len, text.splitlines())) <= columns


# -- it only reads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arrange", arrangements.ALL, ids=lambda one: one.__name__)
def test_no_situation_makes_it_write(
    arrange: Arrange, tmp_path: Path, cloud: Cloud, ledger: Ledger, run: Run
) -> None:
    """Each of the thirty situations, told by the bus, mode auto -> only reads; the ledger stays.

    The exit code is that of the outlook, with a case and without one.
    """
    stage = Stage(cloud, _volume(cloud, arrange), cloud.boot_server(host=HOST), HOST)
    hear(ledger, [last_attach(stage)])
    messages = arrange(stage)
    for told in (False, True):
        hear(ledger, messages if told else ())
        before, calls = rows(tmp_path), len(cloud.journal)
        code, out, err = run(stage.volume_id, "-f", "json")
        assert err == ""
        assert code == EXITS[json.loads(out)["outlook"]]
        assert json.loads(out)["looks"]
        assert cloud.calls(writes=True) == ()
        assert len(cloud.journal) > calls
        assert rows(tmp_path) == before
    assert cloud.hazards() == ()


EXITS = {"nothing to do": 0, "would act": 3, "needs a person": 4, "waits": 5}


def _volume(cloud: Cloud, arrange: Arrange) -> str:
    if (backend := arrangements.BACKENDS.get(arrange)) is not None:
        cloud.add_backend(backend)
        return cloud.create_volume(backend=backend)
    return cloud.create_volume()


# -- what it is asked about ------------------------------------------------------------------------


def found(out: str) -> list[tuple[str | None, str, str]]:
    """Return of each look its case, the rule and the outlook."""
    return [
        (one["case_id"], one["explanation"]["rule"], one["explanation"]["outlook"])
        for one in json.loads(out)["looks"]
    ]


def test_volume_and_case_are_looked_at_as_the_open_case(
    cloud: Cloud, ledger: Ledger, run: Run
) -> None:
    """A case is open -> the volume is looked at as that case, and so is the id's beginning."""
    stage = Stage(cloud, cloud.create_volume(), cloud.boot_server(host=HOST), HOST)
    hear(ledger, [last_attach(stage), *arrangements.uc5_modern_leak(stage)])
    case_id = only_case(ledger, stage.volume_id).case.case_id
    for wanted in (stage.volume_id, case_id, case_id[:13]):
        code, out, _ = run(wanted, "-f", "json")
        assert found(out) == [(case_id, "UC5.leaked", "would act")]
        assert code == 3
    code, out, _ = run(case_id)
    assert f"looked at as case {case_id} (due, attach)" in " ".join(out.split())


def test_leak_without_a_case_is_looked_at_with_its_host_as_a_sweep_finds_it(
    cloud: Cloud, ledger: Ledger, run: Run
) -> None:
    """Available and exported to one host whose connector is known -> Nova is asked about it."""
    stage = Stage(cloud, cloud.create_volume(), cloud.boot_server(host=HOST), HOST)
    hear(ledger, [last_attach(stage)])
    arrangements.uc5_modern_leak(stage)
    code, out, _ = run(stage.volume_id, "-f", "json")
    assert (found(out), code) == ([(None, "UC5.ghost", "would act")], 3)


@pytest.mark.usefixtures("ledger")
def test_server_is_looked_at_by_each_of_its_volumes(cloud: Cloud, run: Run) -> None:
    """Two volumes, one of which only Nova names -> both; of several outlooks a person's counts."""
    server = cloud.boot_server(host=HOST)
    healthy, held = cloud.create_volume(), cloud.create_volume()
    cloud.attach(healthy, server)
    cloud.attach(held, server)
    cloud.set_status(held, "available", "detached")
    code, out, _ = run(server, "-f", "json")
    looks = json.loads(out)["looks"]
    assert {one["volume_id"] for one in looks} == {healthy, held}
    assert len(cloud.calls("nova.volumes_of")) == 1
    assert cloud.calls("nova.servers") == ()
    assert code == 4


@pytest.mark.usefixtures("ledger")
def test_id_of_nothing_is_unknown_and_not_gone(cloud: Cloud, run: Run) -> None:
    """Neither a case nor a volume nor a server -> a 404 without a control: unknown, exit 5."""
    code, out, _ = run(str(uuid.uuid4()), "-f", "json")
    assert (found(out), code) == ([(None, "X4.unknown-to-cinder", "waits")], 5)


@pytest.mark.usefixtures("ledger")
def test_beginning_of_no_case_is_bad_input(cloud: Cloud, run: Run) -> None:
    """No case begins so -> exit 2, and what else may be given."""
    code, out, err = run("ffffffff")
    assert (code, out) == (2, "")
    assert "there is no case ffffffff" in err
    assert "full id" in err


# -- what is away ----------------------------------------------------------------------------------


def test_without_the_ledger_it_looks_and_says_what_is_missing(
    tmp_path: Path, cloud: Cloud, run: Run
) -> None:
    """The ledger's file cannot be opened -> the look is shown; it would not act; exit 5, not 3."""
    stage = Stage(cloud, cloud.create_volume(), cloud.boot_server(host=HOST), HOST)
    arrangements.detach_terminate_fails(stage)
    nowhere = tmp_path / "absent"
    code, out, err = run(stage.volume_id, "-f", "json", where=nowhere)
    (look,) = json.loads(out)["looks"]
    told = look["explanation"]
    assert (code, err) == (5, "")
    assert (told["rule"], told["outlook"]) == ("UC4.wish-on-record", "waits")
    assert "the ledger (" in told["missing"][0]
    unasked = {g["name"] for g in told["guards"] if g["answer"] == "not asked"}
    assert {"LATE_DETACH", "NOVA_AT_IT", "OWN_CALL_UNANSWERED"} <= unasked
    assert not nowhere.exists()
    code, _, err = run("ffffffff", where=nowhere)
    assert code == 1
    assert "a case cannot be found without the ledger" in err


@pytest.mark.usefixtures("ledger")
def test_apis_that_are_away_are_told_as_unknown(cloud: Cloud, run: Run) -> None:
    """nova-api, then cinder-api too is down -> unknown, exit 5; nothing is called absent."""
    stage = Stage(cloud, cloud.create_volume(), cloud.boot_server(host=HOST), HOST)
    stage.attached()
    cloud.set_apis(nova_up=False)
    code, out, _ = run(stage.volume_id, "-f", "json")
    assert (found(out), code) == ([(None, "X2.nova-unknown", "waits")], 5)
    cloud.set_apis(cinder_up=False)
    code, out, _ = run(stage.volume_id, "-f", "json")
    assert (found(out), code) == ([(None, "X1.cinder-unknown", "waits")], 5)


def test_while_detachd_is_paused_it_would_not_act(cloud: Cloud, ledger: Ledger, run: Run) -> None:
    """Paused by a person -> who and why is among what is missing, and the exit code is 5."""
    stage = Stage(cloud, cloud.create_volume(), cloud.boot_server(host=HOST), HOST)
    hear(ledger, [last_attach(stage), *arrangements.uc5_modern_leak(stage)])
    assert run(stage.volume_id)[0] == 3
    ledger.pause("alice", "maintenance \x1b[2J")
    code, out, _ = run(stage.volume_id)
    assert code == 5
    assert "detachd is paused by alice: maintenance \\x1b[2J" in " ".join(out.split())
