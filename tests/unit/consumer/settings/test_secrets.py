"""Secrets that are not in the main file: in a second file, or in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.bus.broker import BrokerSettings
from consumer.cloud import control_plane
from consumer.settings.configuration import Settings, load
from consumer.settings.ledger import ledger_alone

OPEN = """
[cinder]
auth_type = password
auth_url = http://127.0.0.1:1/v3
username = detachd
project_name = service
user_domain_name = Default
project_domain_name = Default
[nova]
auth_section = cinder
"""
URL, LEDGER, WORD = "rabbit://u:canary-1@h/", "postgresql://u:canary-2@h/detachd", "canary-3"


@pytest.fixture
def main_file(tmp_path: Path) -> Path:
    """Give a configuration without any secret."""
    path = tmp_path / "detachd.conf"
    path.write_text(OPEN)
    return path


def complete(settings: Settings) -> bool:
    """Tell whether broker, ledger and Keystone have their passwords."""
    (host,) = BrokerSettings.from_conf(settings.conf).hosts
    control_plane(settings)
    found = (host.password, settings.ledger.url, settings.conf.cinder.password)
    return found == ("canary-1", LEDGER, WORD)


def test_secrets_of_a_second_file(main_file: Path, tmp_path: Path) -> None:
    """--config-file twice, the second as systemd's credentials have it -> all is complete."""
    second = tmp_path / "secrets.conf"
    second.write_text(
        f"[DEFAULT]\ntransport_url = {URL}\n[ledger]\nconnection = {LEDGER}\n"
        f"[cinder]\npassword = {WORD}\n"
    )
    assert complete(load([main_file, second]))
    assert not complete(load([main_file]))


def test_secrets_of_the_environment(main_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OS_SECTION__OPTION, as oslo.config has it -> all is complete, for the ledger alone too."""
    monkeypatch.setenv("OS_DEFAULT__TRANSPORT_URL", URL)
    monkeypatch.setenv("OS_LEDGER__CONNECTION", LEDGER)
    monkeypatch.setenv("OS_CINDER__PASSWORD", WORD)
    assert complete(load([main_file]))
    ledger = ledger_alone([main_file])
    ledger.close()
    assert ledger.name == "postgresql+psycopg://u:***@h/detachd"


def test_a_wrong_value_of_the_environment_is_refused(
    main_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that is none -> refused as in a file, and not used."""
    monkeypatch.setenv("OS_WORKER__THREADS", "many")
    with pytest.raises(Exception, match="threads"):
        load([main_file])
