"""Which Cinder, Nova and storage drivers the settings stand for."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.cloud import Drivers, capabilities, control_plane
from consumer.errors import ConfigurationError
from consumer.settings.configuration import Settings, load
from drivers.base import VolumeRef
from drivers.child_driver import ChildDriver
from drivers.cinder_managed import CinderManagedDriver
from drivers.errors import PermanentError, TransientError
from drivers.openstack.cinder import CinderClient
from drivers.openstack.nova import NovaClient
from drivers.simulator import Cloud, SimulatorDriver
from drivers.simulator.remote import serve_cloud

Read = Callable[[str], Settings]
DEFAULTS = "[backend_defaults]\ndriver = simulator\n"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Load a configuration from its text."""

    def load_text(text: str) -> Settings:
        path = tmp_path / "detachd.conf"
        path.write_text(DEFAULTS + text)
        return load([path])

    return load_text


@pytest.fixture
def served() -> Iterator[tuple[Cloud, str]]:
    """Serve a simulated cloud; give it and the section that finds it."""
    with Cloud() as cloud, serve_cloud(cloud, authkey=b"key") as server:
        yield cloud, f"[simulator]\naddress = {server.address}\nauthkey = key\n"


def test_without_any_cloud_the_words_say_what_to_set(read: Read) -> None:
    """Neither simulated nor real -> refused, with the section to fill in."""
    with pytest.raises(ConfigurationError, match=r"set auth_type .* in \[cinder\] and \[nova\]"):
        control_plane(read(""))


@pytest.mark.parametrize(
    ("text", "lists"),
    [
        ("driver = cinder_managed\n", False),
        ("driver = cinder_managed\n[backend:h@ceph]\nmode = auto\n", False),
        ("driver = cinder_managed\n[backend:h@lvm]\ndriver = tgt\n", True),
        ("driver = tgt\n[backend:h@ceph]\ndriver = cinder_managed\n", True),
    ],
)
def test_any_driver_that_lists_is_enough(tmp_path: Path, text: str, lists: bool) -> None:
    """The drivers of the defaults and of each section -> whether one can list its exports."""
    path = tmp_path / "detachd.conf"
    path.write_text("[backend_defaults]\n" + text)
    assert any(one.lists_exports for one in capabilities(load([path]))) is lists


def openstack(*sections: str) -> str:
    """Return sections that say how to authenticate at a Keystone that nobody listens for."""
    options = (
        "auth_type = password\nauth_url = http://127.0.0.1:1/v3\nusername = u\npassword = canary\n"
    )
    return "".join(f"[{section}]\n{options}" for section in sections)


def test_real_cloud_is_the_control_plane(read: Read) -> None:
    """[cinder] and [nova] -> their clients; nothing is connected to."""
    clouds = control_plane(read(openstack("cinder", "nova")))
    assert isinstance(clouds.cinder, CinderClient)
    assert isinstance(clouds.nova, NovaClient)


def test_credentials_in_one_place(read: Read) -> None:
    """[nova] auth_section = cinder, or a section of its own for both -> enough."""
    both = "[nova]\nauth_section = cinder\n"
    assert control_plane(read(openstack("cinder") + both))
    shared = "[cinder]\nauth_section = keystone\n[nova]\nauth_section = keystone\n"
    assert control_plane(read(openstack("keystone") + shared))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (openstack("cinder"), r"\[cinder\] is configured and \[nova\] is not"),
        (openstack("nova"), r"\[nova\] is configured and \[cinder\] is not"),
        (
            openstack("cinder", "nova") + "[simulator]\naddress = 127.0.0.1:1\nauthkey = k\n",
            r"\[simulator\] cannot be combined with \[cinder\]",
        ),
        ("[cinder]\nauth_type = password\n[nova]\nauth_section = cinder\n", "lacks auth_url"),
        (
            openstack("cinder", "nova") + "[service_user]\nsend_service_user_token = true\n",
            r"\[service_user\] has no auth_type",
        ),
    ],
)
def test_cloud_that_is_configured_by_halves(read: Read, text: str, words: str) -> None:
    """One of two, both kinds at once, credentials missing -> refused, with what to do."""
    with pytest.raises(ConfigurationError, match=words) as error:
        control_plane(read(text))
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[cinder]\nauth_type = passwort\n", "there is no such auth plugin; there are: "),
        (openstack("cinder") + "pasword = canary\n", "no option pasword; did you mean password?"),
        (openstack("cinder") + "timeout = 30\n", "has no option timeout"),
        (
            "[cinder]\nauth_type = v3applicationcredential\napplication_credential_ids = x\n",
            "did you mean application_credential_id?",
        ),
        (
            "[nova]\nauth_section = keystone\n[keystone]\nauth_uri = x\n",
            "[keystone] has no option auth_uri",
        ),
    ],
)
def test_mistyped_option_of_an_auth_plugin(read: Read, text: str, words: str) -> None:
    """An option that the named plugin does not have -> refused, the nearest one suggested."""
    with pytest.raises(ConfigurationError, match=re.escape(words)) as error:
        read(text)
    assert "canary" not in str(error.value)


def test_default_driver_acts_through_the_configured_cinder(read: Read) -> None:
    """No driver named -> cinder_managed, with the client of the service."""
    settings = read(openstack("cinder", "nova") + "[backend:a@b]\ndriver = cinder_managed\n")
    clouds = control_plane(settings)
    driver = Drivers(settings, clouds.cinder)("a@b")
    assert isinstance(driver, CinderManagedDriver)
    assert driver.cinder is clouds.cinder


def test_address_that_is_none_is_refused(read: Read) -> None:
    """[simulator] address without a port -> refused at once, not at the first call."""
    with pytest.raises(ConfigurationError, match=r"\[simulator\] address: "):
        control_plane(read("[simulator]\naddress = nowhere\nauthkey = k\n"))


def test_simulated_cloud_of_another_process_is_the_control_plane(
    read: Read, served: tuple[Cloud, str]
) -> None:
    """[simulator] address -> its Cinder and Nova answer."""
    cloud, section = served
    volume_id = cloud.create_volume()
    seen = control_plane(read(section)).cinder.volume(volume_id, timeout_seconds=5.0)
    assert seen is not None
    assert seen.status == "available"


def test_simulated_backend_is_found_where_its_cloud_is(
    read: Read, served: tuple[Cloud, str]
) -> None:
    """Driver simulator without options of its own -> those of [simulator]."""
    cloud, section = served
    volume_id = cloud.create_volume()
    settings = read(section)
    seen = control_plane(settings).cinder.volume(volume_id, timeout_seconds=5.0)
    assert seen is not None
    driver = Drivers(settings, control_plane(settings).cinder)(seen.ref.backend)
    assert isinstance(driver, SimulatorDriver)
    assert driver.observe(seen.ref, timeout_seconds=5.0).connections == ()


def test_driver_is_made_once_for_each_backend(read: Read, served: tuple[Cloud, str]) -> None:
    """Asked twice -> the same one; another backend -> another, even without a section."""
    drivers = Drivers(read(served[1] + "[backend:a@b]\nmode = auto\n"), served[0].cinder)
    assert drivers("a@b") is drivers("a@b")
    assert drivers("a@b") is not drivers("c@d")
    assert drivers("c@d").backend == "c@d"


@pytest.mark.parametrize(
    "text",
    [
        "[backend:a@b]\nmode = auto\n[driver:simulator]\naddress = nowhere\nauthkey = canary\n",
        "[driver:simulator:a@b]\naddress = nowhere\nauthkey = canary\n",
    ],
    ids=["for all backends", "for one"],
)
def test_option_that_a_driver_cannot_use_is_told_at_start(read: Read, text: str) -> None:
    """A named backend's driver cannot use what it is given -> refused before anything runs."""
    with pytest.raises(ConfigurationError, match=r"a@b: .*host:port") as error:
        Drivers(read(text), Cloud().cinder)
    assert "canary" not in str(error.value)


def test_driver_that_cannot_be_made_later_is_a_refusal(read: Read) -> None:
    """A backend that no section names, and its driver lacks an option -> one of the three kinds."""
    drivers = Drivers(read(""), Cloud().cinder)
    with pytest.raises(PermanentError, match=r"c@d: .*address"):
        drivers("c@d")


def test_own_section_of_a_backend_wins_over_simulator(
    read: Read, served: tuple[Cloud, str]
) -> None:
    """[driver:simulator:X] and [simulator] -> that backend is looked for where its section says."""
    cloud, section = served
    volume_id = cloud.create_volume(backend="a@b")
    settings = read(section + "[driver:simulator:a@b]\naddress = 127.0.0.1:1\n")
    ref = VolumeRef(volume_id, "a@b")
    with pytest.raises(TransientError):
        Drivers(settings, control_plane(settings).cinder)("a@b").observe(ref, timeout_seconds=1.0)


@pytest.mark.slow
def test_service_of_a_real_cloud_loads_no_simulator() -> None:
    """The service and its command are imported -> nothing of the simulated cloud is."""
    program = (
        "import sys, consumer.service, consumer.cli.serve\n"
        "print([name for name in sys.modules if name.startswith('drivers.simulator')])"
    )
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_driver_of_a_backend_runs_in_a_process(read: Read) -> None:
    """``run_in = process`` -> a child makes its calls, with the options of its section."""
    text = "[backend:a@b]\ndriver = rbd\nrun_in = process\n[driver:rbd:a@b]\npython = /none\n"
    driver = Drivers(read(text), Cloud().cinder)("a@b")
    assert isinstance(driver, ChildDriver)
    assert driver.kind == "RbdDriver"
    with pytest.raises(PermanentError, match="/none cannot be run"):
        driver.observe(VolumeRef("volume-1", "a@b"), timeout_seconds=20)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "run_in = process\n[backend:a@b]\ndriver = cinder_managed\n",
            r"\[backend:a@b\] run_in = process",
        ),
        (
            "[backend:a@b]\ndriver = cinder_managed\nrun_in = process\n",
            r"\[backend:a@b\] run_in = process",
        ),
        (
            "[backend:a@b]\ndriver = rbd\nrun_in = process\n[driver:rbd:a@b]\npython = none\n",
            "the option python must be an absolute path",
        ),
    ],
)
def test_driver_that_cannot_run_in_a_process_is_told_at_start(
    read: Read, text: str, words: str
) -> None:
    """One that acts through Cinder, or whose options are wrong -> the section and the reason."""
    with pytest.raises(ConfigurationError, match=words):
        Drivers(read(text), Cloud().cinder)
