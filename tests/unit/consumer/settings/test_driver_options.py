"""The sections of storage drivers: whose options, for which backend, and what is refused."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg, generator

from consumer.errors import ConfigurationError
from consumer.settings import drivers
from consumer.settings.configuration import Settings, list_opts, load
from tests.unit.drivers.plugins import install

ARRAY = """
    from oslo_config import cfg

    from drivers.simulator import SimulatorDriver


    class Array(SimulatorDriver):
        \"\"\"Sees an array.\"\"\"

        opts = (
            cfg.StrOpt("portal", required=True, help="Where the array answers."),
            cfg.IntOpt("pool", default=1, min=0, help="Which of its pools."),
            cfg.StrOpt("password", secret=True, help="What it asks for."),
        )

        def __init__(self, backend, options):
            super().__init__(backend, options, cloud=object())
"""
SMALLEST = "[backend_defaults]\ndriver = array\n"

Read = Callable[[str], Settings]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Load a configuration from its text, with a driver of somebody else's installed."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    (site / "detachd_test_array.py").write_text(textwrap.dedent(ARRAY))
    install(site, "array", array="detachd_test_array:Array", broken="detachd_no_such_module:X")

    def load_text(text: str) -> Settings:
        path = tmp_path / "detachd.conf"
        path.write_text(SMALLEST + text)
        return load([path])

    return load_text


@pytest.fixture
def problems(read: Read) -> Callable[[str], str]:
    """Return the problems of a configuration, one a line."""

    def refused(text: str) -> str:
        with pytest.raises(ConfigurationError) as error:
            read(text)
        return "\n".join(error.value.problems)

    return refused


def test_each_backend_takes_what_its_own_section_leaves_out(read: Read) -> None:
    """[driver:X:BACKEND] over [driver:X] over the default -> typed, the nearest first."""
    options = read(
        "[driver:array]\nportal = 192.0.2.7\npool = 3\n[driver:array:a@b]\nportal = 192.0.2.8\n"
    ).driver_options
    assert options.of("array", "a@b") == {"portal": "192.0.2.8", "pool": 3, "password": None}
    assert options.of("array", "c@d")["portal"] == "192.0.2.7"


def test_inherited_value_is_not_read_twice(read: Read) -> None:
    """A password with oslo's escaped dollar -> one dollar, in the section that inherits it too."""
    options = read(
        "[driver:array]\nportal = x\npassword = pa$$word\n[driver:array:a@b]\npool = 2\n"
    ).driver_options
    assert options.of("array", "a@b")["password"] == "pa$word"
    assert options.of("array", "c@d")["password"] == "pa$word"


def test_required_option_may_stand_in_either_section(read: Read) -> None:
    """Each named backend says its portal itself -> the section for all need not."""
    read("[driver:array:a@b]\nportal = x\n[backend:c@d]\ndriver = simulator\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "[driver:array] portal must be set, for backend backend_defaults"),
        (
            "[backend:a@b]\nmode = auto\n[driver:array:c@d]\nportal = x\n",
            "[driver:array] portal must be set, for backend a@b",
        ),
        ("[driver:aray]\n", "[driver:aray]: No storage driver is called 'aray'; there are: array"),
        ("[driver:broken]\n", "[driver:broken]: The storage driver 'broken'"),
        (
            "[driver:array]\nportla = x\n",
            "[driver:array] has no option portla; did you mean portal?",
        ),
        ("[driver:array]\nportal = x\npool = -1\n", "[driver:array] pool: Should be greater"),
        ("[driver:array:a@b]\nportal = x\npool = all\n", "[driver:array:a@b] pool: "),
        (
            "[driver:array]\nportal = x\n[driver:simulator:a@b]\naddress = h:1\n",
            "[driver:simulator:a@b] is not used: the driver of backend a@b is array",
        ),
        ("[driver:array:a]\nportal = x\n", "[driver:array:a]: a backend is named HOST@BACKEND"),
        ("[driver:array:a@b#c]\nportal = x\n", "a backend is named HOST@BACKEND, without #POOL"),
        (
            "[driver:array:a@b]\nportal = x\n[driver:array:a@B]\nportal = y\n",
            "differ by case only",
        ),
    ],
    ids=lambda value: value.replace("\n", " "),
)
def test_what_cannot_work_is_refused(problems: Callable[[str], str], text: str, words: str) -> None:
    """A section, an option or a value that would be ignored or fail later -> told at start."""
    assert words in problems(text)


def test_broken_driver_that_nobody_uses_stops_nobody(read: Read) -> None:
    """An installed plug-in cannot be imported, and no backend names it -> as if it were not."""
    assert read("[driver:array]\nportal = x\n").backends.defaults.driver == "array"


def test_sample_has_a_section_for_each_installed_driver(read: Read) -> None:
    """oslo-config-generator where a driver is installed -> its options, or why there are none."""
    read("[driver:array]\nportal = x\n")
    listed = {group.name: (group, opts) for group, opts in list_opts()}
    group, opts = listed["driver:array"]
    assert [opt.name for opt in opts] == ["portal", "pool", "password"]
    assert group.help.startswith("Sees an array. A section [driver:array:HOST@BACKEND] sets")
    group, opts = listed["driver:broken"]
    assert opts == []
    assert "cannot be imported" in group.help


def test_generated_sample_can_be_read(read: Read) -> None:
    """The sample with a third party's options -> required ones are marked, none is set."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--namespace", "detachd"], default_config_files=[])
    shown = io.StringIO()
    generator.generate(conf, shown)
    assert "[driver:array]\n" in shown.getvalue()
    assert "#portal = <None>" in shown.getvalue()


def test_no_value_shows_in_a_repr(read: Read) -> None:
    """Settings are logged by mistake -> no driver's password in it."""
    settings = read("[driver:array]\nportal = x\npassword = canary\n")
    assert "canary" not in repr(settings)
    assert drivers.is_own("Driver:array")
