"""``detachd doctor`` on files, a ledger and a simulated cloud; a real broker is in integration."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.app import main
from consumer.cli.installation import examining, rights
from consumer.findings import Level
from consumer.ledger import Ledger
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.openstack.place import Place
from drivers.simulator import Cloud
from drivers.simulator.remote import serve_cloud
from tests.bus import new_ledger
from tests.unit.consumer.due import open_case

Ask = Callable[..., tuple[int, list[dict[str, str]]]]
LOST = IndeterminateError("no answer")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with new_ledger(tmp_path) as made:
        (tmp_path / "ledger.sqlite").chmod(0o600)
        yield made


@pytest.fixture
def ask(tmp_path: Path, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """Run ``detachd doctor`` with further lines of configuration; return exit code, findings."""
    path = tmp_path / "detachd.conf"
    with serve_cloud(cloud, authkey=b"key") as server:

        def run(*words: str, more: str = "driver = simulator\nmode = auto\n") -> Any:
            path.write_text(
                f"[DEFAULT]\ntransport_url = kombu+memory:////\n"
                f"[ledger]\nconnection = sqlite:///{tmp_path}/ledger.sqlite\n"
                f"[simulator]\naddress = {server.address}\nauthkey = key\n"
                f"[backend_defaults]\n{more}"
            )
            path.chmod(0o600)
            code = main(["doctor", "-f", "json", *words, "--config-file", str(path)])
            return code, json.loads(capsys.readouterr().out)

        yield run


def bad(found: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Return where there are warnings and errors."""
    return [(f["level"], f["area"]) for f in found if f["level"] in ("warning", "error")]


def of(found: list[dict[str, str]], area: str) -> str:
    """Return all that is said of an area."""
    return " | ".join(f["said"] for f in found if f["area"] == area)


def test_files_alone_are_examined_without_any_connection(ask: Ask, cloud: Cloud) -> None:
    """--config, and nothing runs -> what the files say, exit 0; no ledger is made."""
    code, found = ask("--config")
    assert (code, bad(found)) == (0, [])
    assert {f["area"] for f in found} == {"configuration", "[backend_defaults]"}
    assert not (Path(found[0]["said"].split(":")[0]).parent / "ledger.sqlite").exists()


def test_each_problem_of_the_files_is_an_error(ask: Ask) -> None:
    """Two mistakes -> both said with the nearest name, exit 4, nothing else examined."""
    code, found = ask(more="driver = simulator\nmoode = auto\ntrise = 3\n")
    assert code == 4
    assert [f["level"] for f in found] == ["error", "error"]
    assert "did you mean mode" in of(found, "configuration")


def test_mode_that_cannot_act_is_a_warning(ask: Ask) -> None:
    """Auto on a blind driver without trust_blind -> what is parked, exit 3; observe is a note."""
    code, found = ask("--config", more="driver = cinder_managed\nmode = auto\n")
    assert (code, bad(found)) == (3, [("warning", "[backend_defaults]")])
    assert "parked" in of(found, "[backend_defaults]")
    code, found = ask("--config", more="driver = simulator\n")
    assert code == 0
    assert "mode observe" in of(found, "[backend_defaults]")


def test_password_for_everybody_is_a_warning(ask: Ask, tmp_path: Path) -> None:
    """A file and a ledger that everybody may read -> chmod, with the path."""
    ask("--config")
    (tmp_path / "detachd.conf").chmod(0o644)
    _, found = examining.examine_files([tmp_path / "detachd.conf"])
    (warned,) = [f for f in found if f.level is Level.WARNING]
    assert warned.todo == f"chmod o-rwx {tmp_path}/detachd.conf"


@pytest.mark.usefixtures("ledger")
def test_what_never_arrived_is_said_for_each_source(ask: Ask, ledger: Ledger, cloud: Cloud) -> None:
    """Cinder was heard, Nova never -> the age of the one, a warning for the other."""
    cloud.create_volume()
    open_case(ledger)
    code, found = ask()
    assert code == 3
    assert ("warning", "notifications") in bad(found)
    assert "cinder on bus" in of(found, "notifications")
    assert "none of nova's" in of(found, "notifications")
    assert "shows 1 volumes" in of(found, "cinder")


def test_missing_ledger_and_silent_cloud_are_errors(ask: Ask, tmp_path: Path) -> None:
    """No tables -> the command; Cinder shows no volume -> what that may mean; all the rest too."""
    code, found = ask()
    assert code == 4
    assert ("error", "ledger") in bad(found)
    assert "detachd ledger upgrade" in of(found, "ledger")
    assert ("warning", "cinder") in bad(found)
    assert of(found, "nova")
    assert not (tmp_path / "ledger.sqlite").exists()


def test_api_that_gives_no_answer_is_an_error_and_no_end() -> None:
    """Cinder and Nova down -> an error for each, in its words."""
    clouds = examining.ControlPlane(_Away(), _Away())  # type: ignore[arg-type]
    assert examining._cinder(clouds).level is Level.ERROR
    assert [f.level for f in examining._nova(clouds)] == [Level.ERROR]


@pytest.mark.usefixtures("ledger")
def test_what_a_look_reads_is_read_once(ask: Ask, cloud: Cloud) -> None:
    """A cloud with a server and a volume -> each kind of read is made."""
    cloud.attach(cloud.create_volume(), cloud.boot_server())
    _, found = ask()
    assert "what a look reads: 3 of 3 kinds" in of(found, "cinder")
    assert "what a look reads: 3 of 3 kinds" in of(found, "nova")
    assert len(cloud.calls()) > 6


@pytest.mark.usefixtures("ledger")
def test_nova_is_asked_to_detach_what_nobody_has(ask: Ask, cloud: Cloud) -> None:
    """Told to, with a server there -> one write, of another id; permitted; all is as it was."""
    volume_id, server_id = cloud.create_volume(), cloud.boot_server()
    cloud.attach(volume_id, server_id)
    before = cloud.cinder.volume(volume_id, timeout_seconds=5)
    _, found = ask()
    assert "was not asked; `detachd doctor --try-detach`" in of(found, "nova")
    assert cloud.calls(writes=True) == ()
    _, found = ask("--try-detach")
    assert "it permits a detach" in of(found, "nova")
    (asked,) = cloud.calls(writes=True)
    assert (asked.asked.actor, asked.asked.method) == ("nova", "detach")
    assert asked.asked.volume_id != volume_id
    assert cloud.cinder.volume(volume_id, timeout_seconds=5) == before
    assert "os-force_detach, os-complete and the DELETE" in of(found, "cinder")


def on_trial(cloud: Cloud) -> str:
    """Make a volume as a person makes one for this."""
    volume_id = cloud.create_volume()
    cloud.set_metadata(volume_id, detachd_trial="true")
    return volume_id


@pytest.mark.usefixtures("ledger")
def test_cinder_is_tried_on_a_volume_that_was_made_for_it(ask: Ask, cloud: Cloud) -> None:
    """Reserved, given back, and as it was -> what is permitted; the rest is not known."""
    volume_id = on_trial(cloud)
    before = cloud.cinder.volume(volume_id, timeout_seconds=5)
    _, found = ask("--try-writes", volume_id)
    told = of(found, "cinder")
    for name in ("os-roll_detaching", "os-reserve", "os-unreserve"):
        assert f"it permits {name}" in told
    assert "os-terminate_connection, os-force_detach, os-complete and the DELETE" in told
    assert "was not asked" not in told
    assert cloud.cinder.volume(volume_id, timeout_seconds=5) == before
    made = [f"{c.asked.actor}.{c.asked.method}" for c in cloud.calls(writes=True)]
    assert made == ["cinder.roll_detaching", "cinder.reserve", "cinder.unreserve"]


def test_a_volume_that_may_be_somebody_s_is_not_touched(cloud: Cloud) -> None:
    """No mark, attached, in another status, or gone -> why, how to make one, and no write."""
    plain, used, moving = cloud.create_volume(), on_trial(cloud), on_trial(cloud)
    cloud.attach(used, cloud.boot_server())
    cloud.set_status(moving, "attaching")
    words = {
        plain: "its metadata has no detachd_trial=true",
        used: "it is in-use with 1 attachments",
        moving: "it is attaching with 0 attachments, as while it is tried",
        str(uuid.uuid4()): "there is no such volume",
    }
    for volume_id, why in words.items():
        (found,) = rights._writes(cloud.cinder, volume_id)
        assert (found.level, why in found.said) == (Level.WARNING, True)
        remedy = "--state available" if volume_id == moving else "--property detachd_trial=true"
        assert remedy in str(found.todo)
    assert cloud.calls(writes=True) == ()


@pytest.mark.parametrize("answer", [ConflictError("400"), PermanentError("403"), LOST])
def test_what_somebody_else_has_reserved_is_not_given_back(
    cloud: Cloud, answer: OutsideError
) -> None:
    """It was not we, or perhaps not, who reserved it: another doctor, an attach -> no unreserve."""
    volume_id = on_trial(cloud)
    found = list(rights._writes(_Answering(cloud.cinder, "reserve", answer), volume_id))
    assert "only on a volume that detachd has surely reserved" in found[2].said
    assert [c.asked.method for c in cloud.calls(writes=True)] == ["roll_detaching"]
    is_refusal = type(answer) is PermanentError
    assert found[1].level is (Level.ERROR if is_refusal else Level.NOTE)


def test_doctor_that_was_killed_in_the_middle_leaves_what_the_next_one_tells(cloud: Cloud) -> None:
    """Killed after the reserve -> the next one writes nothing, and says how to give it back."""
    volume_id = on_trial(cloud)
    cloud.cinder.reserve(volume_id, request_id="req-1", timeout_seconds=5)
    (found,) = rights._writes(cloud.cinder, volume_id)
    assert "where that was stopped" in found.said
    assert found.todo == f"if nobody uses it: openstack volume set --state available {volume_id}"


@pytest.mark.usefixtures("ledger")
def test_nothing_is_tried_while_the_kill_switch_is_there(
    ask: Ask, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there, and a person asks for every try -> it says so, and writes nothing."""
    cloud.attach(cloud.create_volume(), cloud.boot_server())
    monkeypatch.setattr(examining.kill_switch, "is_there", lambda _: True)
    _, found = ask("--try-detach", "--try-writes", on_trial(cloud))
    assert "no call was tried: the kill switch" in of(found, "cloud")
    assert cloud.calls(writes=True) == ()


def test_what_cinder_refuses_is_an_error_and_what_is_left_is_told(cloud: Cloud) -> None:
    """os-unreserve is forbidden -> it says so, and that the volume is left reserved."""
    volume_id = on_trial(cloud)
    cinder = _Answering(cloud.cinder, "unreserve", PermanentError("403"))
    found = list(rights._writes(cinder, volume_id))
    assert [f.level for f in found] == [Level.GOOD, Level.GOOD, Level.ERROR, Level.ERROR]
    assert "it refuses detachd os-unreserve: 403" in found[2].said
    assert "it is attaching" in found[3].said


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (PermanentError("403"), Level.ERROR, "it refuses detachd a detach: 403"),
        (TransientError("503"), Level.NOTE, "is not known: 503"),
        (IndeterminateError("500"), Level.NOTE, "is not known: 500"),
        (None, Level.NOTE, "is not known: Nova accepted"),
    ],
)
def test_what_nova_answers_to_that_detach(
    cloud: Cloud, answer: OutsideError | None, level: Level, words: str
) -> None:
    """Forbidden -> an error; no clear answer -> not known, and never permitted."""
    cloud.attach(cloud.create_volume(), cloud.boot_server())
    nova = _Answering(cloud.nova, "detach", answer)
    clouds = examining.ControlPlane(cloud.cinder, nova)
    found = list(rights.reads(clouds, try_detach=True))
    assert [f.level for f in found if words in f.said] == [level]
    assert not [f for f in found if f.said.startswith("it permits")]


def test_server_that_goes_meanwhile_proves_nothing(cloud: Cloud) -> None:
    """404, and then no server -> the policy is not known."""
    nova = _Answering(cloud.nova, "detach", NotFoundError("404"))
    found = rights._denied(nova, str(uuid.uuid4()), str(uuid.uuid4()))
    assert (found.level, "was deleted meanwhile" in found.said) == (Level.NOTE, True)


class _Answering:
    """An API that answers one kind of call in its own way."""

    def __init__(self, api: Any, method: str, answer: OutsideError | None) -> None:
        self._api, self._method, self._answer = api, method, answer

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._api, name)

        def answered(*given: object, **named: object) -> None:
            if self._answer is not None:
                raise self._answer

        return answered


class _Shy:
    """An API that permits all but one kind of question."""

    def __init__(self, api: Any, refused: str) -> None:
        self._api, self._refused = api, refused

    def __getattr__(self, name: str) -> Any:
        if name != self._refused:
            return getattr(self._api, name)

        def refuse(*given: object, **named: object) -> None:
            raise PermanentError(f"{name}: 403")

        return refuse


@pytest.mark.parametrize(
    ("refused", "what"),
    [
        ("attachments_in", "the attachments of all projects cannot be read"),
        ("volumes_in", "the volumes of all projects cannot be read"),
        ("swapping", "the actions of a server cannot be read"),
        ("holders", "who uses a volume on a host cannot be read"),
        ("server", "a server with its host and its block devices cannot be read"),
    ],
)
def test_a_policy_that_forbids_one_read_is_named(cloud: Cloud, refused: str, what: str) -> None:
    """One kind of read is refused -> an error that names it, and all others are tried."""
    cloud.attach(cloud.create_volume(), cloud.boot_server())
    clouds = examining.ControlPlane(_Shy(cloud.cinder, refused), _Shy(cloud.nova, refused))
    found = list(rights.reads(clouds))
    (wrong,) = [f for f in found if f.level is Level.ERROR]
    assert wrong.said.startswith(what)
    assert "403" in wrong.said
    assert wrong.todo
    assert len(found) >= 2


@pytest.mark.parametrize(
    ("roles", "levels"),
    [({"admin", "reader"}, [Level.GOOD]), ({"reader"}, [Level.WARNING]), (set(), [])],
)
def test_roles_of_the_user_are_told(roles: set[str], levels: list[Level]) -> None:
    """Admin -> in order; another role -> a warning; a token that does not tell -> nothing."""
    place = Place("cinder", None, None, frozenset(), None, frozenset(roles))
    nowhere = Place("nova", None, None, frozenset(), None)
    assert [f.level for f in rights.roles((place, nowhere))] == levels


@pytest.mark.usefixtures("ledger")
def test_each_use_case_says_what_becomes_of_it(ask: Ask, ledger: Ledger, cloud: Cloud) -> None:
    """A driver that sees, auto, Cinder heard -> detected, seen and released, in few lines."""
    cloud.create_volume()
    open_case(ledger)
    _, found = ask()
    said = of(found, "use cases of [backend_defaults]")
    assert "UC1, UC3: detected by the notifications of cinder and the sweep; seen; released" in said
    assert "UC2: detected" in said
    assert "completed without asking" in said
    assert "UC4: " in said
    assert "and what that leaves released" in said
    assert "UC5: detected by the notifications of cinder and the exports that the sweep" in said


@pytest.mark.usefixtures("ledger")
def test_use_case_that_nothing_detects_is_a_warning(ask: Ask, cloud: Cloud) -> None:
    """No notification ever arrived, and the driver lists no exports -> UC5 is not detected."""
    cloud.create_volume()
    code, found = ask(more="driver = cinder_managed\nmode = approve\n")
    area = "use cases of [backend_defaults]"
    assert code == 3
    (warned,) = [f for f in found if f["area"] == area and f["level"] == "warning"]
    assert warned["said"].startswith("UC5: NOT DETECTED; the backend CANNOT BE SEEN; PARKED")
    assert "UC1, UC3: detected by the sweep; the backend CANNOT BE SEEN; PARKED" in of(found, area)
    assert "after a person's approval; what that leaves on the backend is parked" in of(found, area)


class _Away:
    """An API that gives no answer."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def away(*given: object, **named: object) -> None:
            raise TransientError(f"{name}: 503")

        return away


def test_clocks_that_are_apart_are_said(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is ten seconds ahead -> a warning with the sign; together -> in order."""
    assert [f.level for f in examining._clock(ledger)] == [Level.GOOD]
    ahead = ledger.now
    monkeypatch.setattr(ledger, "now", lambda: ahead() + timedelta(seconds=10))
    (found,) = examining._clock(ledger)
    assert found.level is Level.WARNING
    assert "+10 s" in found.said


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_text_fits_the_terminal(
    ask: Ask,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    """Any width -> no line is longer, the count of each kind at the end."""
    ask("--config")
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["doctor", "--config-file", str(tmp_path / "detachd.conf")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[-1].startswith("errors: ")


@pytest.mark.parametrize(
    ("roles", "levels"),
    [(None, []), (frozenset({"service"}), [Level.GOOD]), (frozenset({"admin"}), [Level.WARNING])],
)
def test_roles_of_the_service_user_are_told(
    cloud: Cloud, roles: frozenset[str] | None, levels: list[Level]
) -> None:
    """No service token, one that Cinder takes by default, one that it does not -> told of each."""
    clouds = examining.ControlPlane(cloud.cinder, cloud.nova, None, lambda _: roles)
    assert [f.level for f in rights.of_service_user(clouds)] == levels


def test_a_service_user_that_keystone_refuses_is_an_error(cloud: Cloud) -> None:
    """A wrong password in [service_user] -> found before a person orders a token."""

    def refused(_: float) -> frozenset[str]:
        raise PermanentError("Keystone answered 401")

    clouds = examining.ControlPlane(cloud.cinder, cloud.nova, None, refused)
    (found,) = rights.of_service_user(clouds)
    assert (found.level, "401" in found.said) == (Level.ERROR, True)
