"""Drivers by name, from really installed metadata: distributions laid out in a directory."""

import textwrap
from pathlib import Path

import pytest

from drivers import registry
from drivers.base import StorageDriver
from drivers.cinder_managed import CinderManagedDriver
from drivers.simulator import Cloud
from tests.unit.drivers.plugins import install

CINDER = Cloud().cinder

GOOD = """
    from oslo_config import cfg

    from drivers.base import Capabilities, StorageDriver

    class Mine(StorageDriver):
        capabilities = Capabilities(sees_connections=False)

        def __init__(self, backend, options):
            super().__init__(backend, options)
            if "portal" not in options:
                raise ValueError("the option portal is missing; set it to the array's address")

        def observe(self, volume, *, timeout_seconds): ...
        def terminate_connection(self, volume, attachment, *, request_id, timeout_seconds): ...
        def detach(self, volume, attachment, *, request_id, timeout_seconds): ...

    class HalfDone(StorageDriver):
        def observe(self, volume, *, timeout_seconds): ...

    class WithoutCapabilities(Mine):
        capabilities = None

    class StrangeOpts(Mine):
        opts = ("portal",)

    class OneTwice(Mine):
        opts = (cfg.StrOpt("portal"), cfg.StrOpt("portal", help="again"))

    class Breaks(Mine):
        def __init__(self, backend, options):
            raise KeyError("canary")

    class OtherArguments(Mine):
        def __init__(self): ...

    class NoDriver:
        pass
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that packages can be laid out in and imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "detachd_test_plugin.py").write_text(textwrap.dedent(GOOD))
    return tmp_path


def test_plugin_is_found_and_built(site: Path) -> None:
    """A package declares a driver -> it is listed, loaded, and built with backend and options."""
    install(site, "plugin", mine="detachd_test_plugin:Mine")
    assert "mine" in registry.names()
    driver = registry.build("mine", "storage-1@array", {"portal": "192.0.2.7"}, cinder=CINDER)
    assert isinstance(driver, StorageDriver)
    assert (type(driver), driver.backend) == (registry.load("mine"), "storage-1@array")


def test_unknown_name_lists_what_there_is(site: Path) -> None:
    """No driver of that name -> the error lists those there are and how to add one."""
    install(site, "plugin", mine="detachd_test_plugin:Mine", other="detachd_test_plugin:Mine")
    with pytest.raises(registry.UnknownDriverError) as caught:
        registry.load("mien")
    for word in ("'mien'", *registry.names(), registry.GROUP):
        assert word in str(caught.value)
    assert {"mine", "other"} <= set(registry.names())


def test_nothing_installed_is_said_so() -> None:
    """No driver at all -> the error says so instead of listing nothing."""
    assert "none is installed" in str(registry.UnknownDriverError("mine", ()))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("detachd_no_such_module:Mine", "cannot be imported"),
        ("detachd_test_plugin:Missing", "no such class"),
        ("detachd_test_plugin:NoDriver", "not a subclass"),
        ("detachd_test_plugin:HalfDone", "lacks detach, terminate_connection"),
        ("detachd_test_plugin:WithoutCapabilities", "does not declare its capabilities"),
        ("detachd_test_plugin:StrangeOpts", "opts are not options of oslo.config"),
        ("detachd_test_plugin:OneTwice", "declares the option portal twice"),
    ],
)
def test_broken_plugin_is_explained(site: Path, value: str, words: str) -> None:
    """A plug-in that cannot be used -> an error with its name, its package and why."""
    install(site, "plugin", mine=value)
    with pytest.raises(registry.BrokenDriverError, match=words) as caught:
        registry.load("mine")
    assert f"'mine' ({value} of package plugin)" in str(caught.value)


def test_module_that_fails_to_import_names_the_cause(site: Path) -> None:
    """The plug-in's own dependency is missing -> the error names that dependency."""
    (site / "detachd_needy_plugin.py").write_text("import detachd_sdk_of_an_array\n")
    install(site, "plugin", needy="detachd_needy_plugin:Driver")
    with pytest.raises(registry.BrokenDriverError, match="detachd_sdk_of_an_array"):
        registry.load("needy")


@pytest.mark.parametrize(
    ("code", "words"),
    [("def broken(:\n", "SyntaxError"), ("raise RuntimeError('no licence')\n", "no licence")],
)
def test_module_that_breaks_is_explained(site: Path, code: str, words: str) -> None:
    """The plug-in's module raises something of its own -> the same error, with the cause."""
    (site / "detachd_broken_plugin.py").write_text(code)
    install(site, "plugin", broken="detachd_broken_plugin:Driver")
    with pytest.raises(registry.BrokenDriverError, match=f"its module fails: .*{words}"):
        registry.load("broken")


@pytest.mark.parametrize(
    ("kind", "words"), [("Breaks", "KeyError"), ("OtherArguments", "TypeError")]
)
def test_driver_that_breaks_when_made_is_explained(site: Path, kind: str, words: str) -> None:
    """The driver raises what is no word to an operator -> its kind only, which holds no secret."""
    install(site, "plugin", mine=f"detachd_test_plugin:{kind}")
    with pytest.raises(registry.BrokenDriverError, match=f"a@b it fails with {words}") as caught:
        registry.build("mine", "a@b", {"portal": "192.0.2.7"}, cinder=CINDER)
    assert "canary" not in str(caught.value)


def test_wrong_option_is_told_in_the_drivers_words(site: Path) -> None:
    """The driver refuses its options -> the error names backend and cause."""
    install(site, "plugin", mine="detachd_test_plugin:Mine")
    with pytest.raises(registry.BrokenDriverError, match=r"storage-1@array: the option portal"):
        registry.build("mine", "storage-1@array", {}, cinder=CINDER)


def test_two_packages_under_one_name(site: Path) -> None:
    """Two different drivers under one name -> neither is picked by chance."""
    install(site, "plugin", mine="detachd_test_plugin:Mine")
    install(site, "rival", mine="detachd_test_plugin:HalfDone")
    with pytest.raises(registry.AmbiguousDriverError, match="HalfDone, detachd_test_plugin:Mine"):
        registry.load("mine")


def test_same_driver_found_twice_is_one(site: Path) -> None:
    """The same driver seen by way of two paths -> it is simply that driver."""
    install(site, "plugin", mine="detachd_test_plugin:Mine")
    install(site, "plugin-again", mine="detachd_test_plugin:Mine")
    assert registry.load("mine").__name__ == "Mine"


def test_driver_that_acts_through_cinder_gets_the_services_client() -> None:
    """cinder_managed -> made with the Cinder of the service, from nothing but its name."""
    driver = registry.build("cinder_managed", "a@b", {}, cinder=CINDER)
    assert isinstance(driver, CinderManagedDriver)
    assert driver.cinder is CINDER
