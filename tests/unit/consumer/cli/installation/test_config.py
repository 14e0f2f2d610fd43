"""``detachd config ...``: what an installer begins with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from consumer.bus import broker
from consumer.bus.broker import BrokerSettings, options_read
from consumer.cli.app import main
from consumer.settings import configuration, sample

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[5]
MOST_LINES = 25


@pytest.fixture
def printed(capsys: Captured) -> Callable[..., str]:
    """Run a command that has to end well, and return what it printed."""

    def run(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return run


def test_the_minimal_configuration_is_short_and_has_no_error(
    printed: Callable[..., str], tmp_path: Path
) -> None:
    """`config minimal`, its words in capitals replaced -> at most 25 lines, and a valid file."""
    text = printed("config", "minimal")
    assert len(text.splitlines()) <= MOST_LINES
    file = tmp_path / "detachd.conf"
    for word in ("RABBIT-HOST", "KEYSTONE-HOST", "PASSWORD"):
        assert word in text
        text = text.replace(word, "there")
    file.write_text(text)
    file.chmod(0o600)
    shown = printed("config", "check", "--config-file", str(file))
    assert "errors: 0, warnings: 0" in shown
    assert configuration.load([file]).ledger.url == "sqlite:////var/lib/detachd/ledger.sqlite"


def test_words_of_the_minimal_configuration_that_nobody_replaced_are_errors(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config minimal`, checked as printed -> each word left; not one that a later source sets."""
    file, secrets = tmp_path / "detachd.conf", tmp_path / "secrets.conf"
    file.write_text(sample.MINIMAL)
    file.chmod(0o600)
    assert main(["config", "check", "--config-file", str(file)]) == 4
    shown = capsys.readouterr().out
    for option, word in (
        ("[DEFAULT] transport_url", "PASSWORD"),
        ("[DEFAULT] transport_url", "RABBIT-HOST"),
        ("[cinder] auth_url", "KEYSTONE-HOST"),
        ("[cinder] password", "PASSWORD"),
    ):
        assert f"{option} still has the word {word}" in shown
    assert "no error" not in shown
    secrets.write_text("[DEFAULT]\ntransport_url = rabbit://detachd:x@there:5672/\n")
    secrets.chmod(0o600)
    file.write_text(sample.MINIMAL.replace("KEYSTONE-HOST", "there"))
    monkeypatch.setenv("OS_CINDER__PASSWORD", "x")
    both = ["--config-file", str(file), "--config-file", str(secrets)]
    assert main(["config", "check", *both]) == 0
    assert "errors: 0" in capsys.readouterr().out


def test_a_trial_has_a_secret_of_its_own(
    printed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config minimal --simulated`, twice -> valid, with a ledger here, and with two secrets."""
    monkeypatch.chdir(tmp_path)
    words = ("config", "minimal", "--simulated", "--transport-url", "rabbit://u:p$p@127.0.0.1:1/v")
    first, second = printed(*words), printed(*words)
    assert len(first.splitlines()) <= MOST_LINES
    assert re.findall("authkey = .*", first) != re.findall("authkey = .*", second)
    file = tmp_path / "trial.conf"
    file.write_text(first)
    loaded = configuration.load([file])
    assert loaded.ledger.url == f"sqlite:///{tmp_path}/detachd-trial.sqlite"
    (host,) = BrokerSettings.from_conf(loaded.conf).hosts
    assert (host.port, host.password) == (1, "p$p")
    assert loaded.simulator is not None


def test_check_names_what_is_wrong_and_connects_to_nothing(
    tmp_path: Path, capsys: Captured
) -> None:
    """A file with a typing error -> the option that was meant, and the status of an error."""
    file = tmp_path / "detachd.conf"
    file.write_text("[backend_defaults]\nmoed = auto\n")
    assert main(["config", "check", "--config-file", str(file)]) == 4
    assert "did you mean mode?" in " ".join(capsys.readouterr().out.split())


def test_what_to_write_in_a_url_is_said_as_it_is_typed(tmp_path: Path, capsys: Captured) -> None:
    """A password with a / -> the placeholders in capitals, and one full stop at the end."""
    file = tmp_path / "detachd.conf"
    file.write_text("[DEFAULT]\ntransport_url = rabbit://u:s3/cr@127.0.0.1:1/\n")
    assert main(["config", "check", "-f", "json", "--config-file", str(file)]) == 4
    shown = capsys.readouterr().out
    assert "Write rabbit://USER:PASSWORD@HOST:5672/VHOST with %40 for @" in shown
    assert "for ?." in shown
    assert ".." not in shown


def test_a_variable_with_a_typing_error_is_named(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OS_CINDER__PASWORD -> a warning with the name that was meant, and never with its value."""
    file = tmp_path / "detachd.conf"
    file.write_text(sample.simulated(tmp_path))
    file.chmod(0o600)
    monkeypatch.setenv("OS_LEDGER__CONECTION", "s3cr3t")
    monkeypatch.setenv("OS_AUTH_URL", "of the client of OpenStack")
    assert main(["config", "check", "-f", "json", "--config-file", str(file)]) == 3
    shown = capsys.readouterr().out
    assert "OS_LEDGER__CONECTION in the environment names no option" in shown
    assert "did you mean OS_LEDGER__CONNECTION?" in shown
    assert "OS_AUTH_URL" not in shown
    assert "s3cr3t" not in shown


def test_the_sample_has_nothing_that_detachd_does_not_read(printed: Callable[..., str]) -> None:
    """`config sample` -> no Kafka, no RPC, no connection pools, and transport_url at the top."""
    text = printed("config", "sample")
    foreign = r"^#kafka_|^#rpc_(?!response_timeout_seconds)|^#conn_pool|^\[oslo_messaging_kafka"
    assert not re.search(foreign, text, re.MULTILINE)
    assert text.index("#transport_url = rabbit://detachd:PASSWORD@") < text.index("[cinder]")


def test_the_sample_has_each_option_of_the_broker_that_is_read() -> None:
    """Every option of oslo.messaging that is asked for while a broker is read -> in the sample."""
    asked: set[str] = set()

    class Noting(broker._Options):
        def __call__(self, name: str, *, default: object = None) -> object:
            if name in self._types:  # an older oslo.messaging has not all of them
                asked.add(name)
            return super().__call__(name, default=default)

    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(broker, "_Options", Noting)
        BrokerSettings.from_conf(conf, "rabbit://h/?ssl=1")
    listed = {opt.dest for group, opts in options_read() for opt in opts if "rabbit" in group.name}
    assert asked == listed


def test_files_are_those_of_the_packages(printed: Callable[..., str], tmp_path: Path) -> None:
    """`config files DIRECTORY` -> alert rules, runbooks and schemas, byte for byte."""
    printed("config", "files", str(tmp_path / "new"))
    written = {path.name: path.read_bytes() for path in (tmp_path / "new").rglob("*.*")}
    expected = [
        *(ROOT / "metrics" / "alerts").glob("*.yaml"),
        *(ROOT / "metrics" / "runbooks").glob("*.md"),
        *(ROOT / "handlers" / "announcement").glob("*.json"),
    ]
    assert len(expected) > 5
    assert {path.name: path.read_bytes() for path in expected}.items() <= written.items()


def test_a_transport_url_that_is_missing_is_said_without_a_connection(
    tmp_path: Path, capsys: Captured
) -> None:
    """`config check` of a file without transport_url -> an error: it is not set."""
    file = tmp_path / "detachd.conf"
    file.write_text("[ledger]\nconnection = sqlite:////nowhere/ledger.sqlite\n")
    assert main(["config", "check", "--config-file", str(file)]) == 4
    assert "transport_url is not set" in capsys.readouterr().out


def test_files_into_a_file_are_refused_in_words(tmp_path: Path, capsys: Captured) -> None:
    """`config files FILE` -> exit 2, and to name a directory; below a file -> the path and why."""
    file = tmp_path / "file"
    file.write_text("mine")
    assert main(["config", "files", str(file)]) == 2
    assert capsys.readouterr().err == f"detachd: {file} is a file; name a directory\n"
    assert main(["config", "files", str(file / "below")]) == 1
    assert capsys.readouterr().err == f"detachd: {file}/below/alerts: Not a directory\n"
    assert file.read_text() == "mine"
