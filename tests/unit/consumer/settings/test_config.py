"""The configuration: what is read, and what is refused in which words."""

import contextlib
import dataclasses
import io
import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from oslo_config import cfg, generator

from consumer.errors import ConfigurationError
from consumer.ledger import Tls
from consumer.settings import configuration
from consumer.settings import files as config_files
from consumer.settings.configuration import Settings, load
from consumer.work import backends
from handlers.judgement.policy import BackendPolicy, LateAttach, Mode

ROOT = Path(__file__).parents[4]
SMALLEST = "[backend_defaults]\ndriver = simulator\n"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file and return its path."""

    def write_file(text: str) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.conf"
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def read(write: Write) -> Callable[[str], Settings]:
    """Load a configuration from its text, the smallest that is needed added."""
    return lambda text: load([write(SMALLEST + text)])


def refused(files: list[Path]) -> tuple[str, ...]:
    """Return the problems that loading these files names."""
    with pytest.raises(ConfigurationError) as error:
        load(files)
    return error.value.problems


@pytest.fixture
def problems(write: Write) -> Callable[[str], str]:
    """Return the problems of a configuration, given as text, one a line."""
    return lambda text: "\n".join(refused([write(SMALLEST + text)]))


# -- what is read ----------------------------------------------------------------------------------


def test_deadlines_follow_cinder_s_timeout(read: Callable[[str], Settings]) -> None:
    """Nothing said -> fifteen of Cinder's RPC timeouts each; said of one operation -> that."""

    def deadlines(text: str) -> tuple[float, float]:
        ledger = read(text).ledger
        return ledger.attach_deadline_seconds, ledger.detach_deadline_seconds

    shorter = "[cloud]\nrpc_response_timeout_seconds = 20\n"
    assert deadlines("") == (900.0, 900.0)
    assert deadlines(shorter) == (300.0, 300.0)
    assert deadlines(shorter + "[ledger]\ndetach_deadline_seconds = 7200\n") == (300.0, 7200.0)


def test_retention(read: Callable[[str], Settings]) -> None:
    """Nothing said of retention -> a year; days -> so many; 0 -> for ever."""
    days = {text: read(f"[ledger]\n{text}\n").ledger.retention_seconds for text in (
        "", "retention_days = 90", "retention_days = 0",
    )}  # fmt: skip
    assert list(days.values()) == [365 * 86_400, 90 * 86_400, 0]


@pytest.mark.parametrize("text", ["-1", "36501", "90d", "none", "0.5", ""])
def test_retention_that_means_nothing(problems: Callable[[str], str], text: str) -> None:
    """A retention that is no number of days -> refused, with the option's name."""
    assert "retention_days" in problems(f"[ledger]\nretention_days = {text}\n")


def test_retention_shorter_than_an_operation(problems: Callable[[str], str]) -> None:
    """A day of retention, deadlines of as long -> refused, with both numbers."""
    found = problems("[ledger]\nretention_days = 1\nattach_deadline_seconds = 86400\n")
    assert "retention_days = 1 is shorter than twice attach_deadline_seconds = 86400" in found


def test_archive(read: Callable[[str], Settings]) -> None:
    """Nothing said of the archive -> two days; days -> so many; 0 -> never."""
    days = {text: read(f"[ledger]\n{text}\n").ledger.archive_seconds for text in (
        "", "archive_days = 30", "archive_days = 0", "archive_days = 30\nretention_days = 0",
    )}  # fmt: skip
    assert list(days.values()) == [2 * 86_400, 30 * 86_400, 0, 30 * 86_400]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("archive_days = -1", "archive_days", id="negative"),
        pytest.param("archive_days = 1.5", "archive_days", id="no whole days"),
        pytest.param(
            "retention_days = 1", "archive_days = 2 is longer than retention_days = 1",
            id="later than forgotten",
        ),
        pytest.param(
            "detach_deadline_seconds = 86401",
            "archive_days = 2 is shorter than twice detach_deadline_seconds = 86401",
            id="earlier than an end",
        ),
    ],
)  # fmt: skip
def test_archive_that_means_nothing(problems: Callable[[str], str], text: str, why: str) -> None:
    """An archive that is too early, too late, or no number of days -> refused, in words."""
    assert why in problems(f"[ledger]\n{text}\n")


def test_tls_to_the_database(read: Callable[[str], Settings]) -> None:
    """Set ssl and a CA for the ledger -> verified, the host's name included."""
    settings = read("[ledger]\nssl = true\nssl_ca_file = /etc/detachd/ca.pem\n")
    assert settings.ledger.tls == Tls("/etc/detachd/ca.pem", None, None, verify_hostname=True)
    assert read("").ledger.tls is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ssl_ca_file = /ca.pem", "ssl_ca_file: of no effect while ssl is false; set ssl = true"),
        ("ssl = true\nssl_key_file = /k", "ssl_key_file is set and ssl_cert_file is not"),
    ],
)
def test_tls_that_would_not_be(problems: Callable[[str], str], text: str, problem: str) -> None:
    """TLS options that do not go together -> refused: nobody believes to be safe who is not."""
    assert problem in problems(f"[ledger]\n{text}\n")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:///ledger.sqlite", "write the absolute path, with four slashes: sqlite:////"),
        ("postgresql://u:canary-2@h/d?sslmode=require", "has sslmode; use the options ssl"),
        ("canary-2", "does not parse"),
    ],
)
def test_ledger_that_no_url_names(problems: Callable[[str], str], url: str, problem: str) -> None:
    """A URL of no ledger, or one of another for each directory -> refused, with its option."""
    found = problems(f"[ledger]\nconnection = {url}\n")
    assert found.startswith("[ledger] connection: ")
    assert problem in found
    assert "canary" not in found


def test_a_new_installation_observes(read: Callable[[str], Settings]) -> None:
    """No mode set anywhere -> observe, for every backend."""
    settings = read("")
    assert settings.backends.of("any@where").policy == BackendPolicy(mode=Mode.OBSERVE)


def test_a_backend_s_section_takes_from_the_defaults_what_it_does_not_set(
    read: Callable[[str], Settings],
) -> None:
    """[backend:X] over [backend_defaults] -> its own values win, the others are inherited."""
    settings = read(
        "mode = approve\ntries = 2\nconcurrency = 1\n"
        "[backend:labhost@lab]\nmode = auto\nconcurrency = 3\n"
    )
    lab, other = settings.backends.of("labhost@lab"), settings.backends.of("other@lab")
    assert (lab.policy.mode, lab.policy.tries, lab.concurrency) == (Mode.AUTO, 2, 3)
    assert (other.policy.mode, other.policy.tries, other.concurrency) == (Mode.APPROVE, 2, 1)
    assert lab.driver == other.driver == "simulator"
    assert (lab.name, other.name) == ("labhost@lab", "other@lab")


def test_a_backend_keeps_the_case_of_its_name(read: Callable[[str], Settings]) -> None:
    """Cinder's host names are case sensitive -> so is the section's name."""
    settings = read("[backend:Lab@LVM]\nmode = auto\n")
    assert settings.backends.of("Lab@LVM").policy.mode is Mode.AUTO
    assert settings.backends.of("lab@lvm").policy.mode is Mode.OBSERVE


def test_every_field_of_a_policy_is_an_option() -> None:
    """A field added to BackendPolicy -> it can be configured, with the same default and a help."""
    options = {opt.dest: opt for opt in backends.options()}
    for field in dataclasses.fields(BackendPolicy):
        words = isinstance(field.default, Mode | LateAttach)
        default = field.default.value if words else field.default
        assert options[field.name].default == (
            list(default) if isinstance(default, tuple) else default
        )
        assert options[field.name].help


def test_what_becomes_of_a_late_attach(write: Write) -> None:
    """One backend's late_attach -> that backend's; kept elsewhere; another word is refused."""
    text = "[backend:h@lvm]\nlate_attach = "
    found = load([write(SMALLEST + text + "detach\n")]).backends
    assert found.of("h@lvm").policy.late_attach is LateAttach.DETACH
    assert found.of("h@ceph").policy.late_attach is LateAttach.KEEP
    with pytest.raises(ConfigurationError, match="late_attach"):
        load([write(SMALLEST + text + "forget\n")])


def test_protected_volumes(write: Write) -> None:
    """One backend protects a type, all protect a project -> each by itself, the key by default."""
    text = (
        "protected_projects = p1, p2\n"
        "[backend:h@lvm]\nprotected_volume_types = gold\nprotected_metadata_key = keep\n"
    )
    found = load([write(SMALLEST + text)]).backends
    lvm, other = found.of("h@lvm").policy, found.of("h@ceph").policy
    assert (lvm.protected_volume_types, lvm.protected_projects) == (("gold",), ("p1", "p2"))
    assert (other.protected_volume_types, other.protected_projects) == ((), ("p1", "p2"))
    assert (lvm.protected_metadata_key, other.protected_metadata_key) == (
        "keep", "detachd_protected",
    )  # fmt: skip


def test_later_files_win(write: Write) -> None:
    """Two --config-file -> the second one's values."""
    first = write(SMALLEST + "[worker]\nthreads = 3\npoll_seconds = 2\n")
    second = write("[worker]\nthreads = 8\n")
    worker = load([first, second]).worker
    assert (worker.threads, worker.poll_seconds) == (8, 2.0)


def test_the_libraries_read_their_own_options(read: Callable[[str], Settings]) -> None:
    """Names that operators know -> accepted, and there for oslo.log and oslo.messaging."""
    settings = read(
        "[DEFAULT]\ntransport_url = rabbit://u:p@h:5672/v\ndebug = true\nuse_json = true\n"
        "[oslo_messaging_rabbit]\nheartbeat_rate = 3\n"
        "[oslo_messaging_notifications]\ntransport_url = rabbit://other/\n"
    )
    assert settings.conf.debug is True
    assert settings.conf.use_json is True


def test_a_simulated_cloud_is_known_by_its_address(read: Callable[[str], Settings]) -> None:
    """[simulator] address -> settings; without it None, and no secret shows in a repr."""
    settings = read("[simulator]\naddress = 127.0.0.1:9999\nauthkey = hush-hush\n")
    assert settings.simulator is not None
    assert settings.simulator.address == "127.0.0.1:9999"
    assert "hush-hush" not in repr(settings)
    assert read("").simulator is None


def test_no_secret_reaches_the_log(
    read: Callable[[str], Settings], caplog: pytest.LogCaptureFixture
) -> None:
    """log_opt_values at start -> URLs with passwords, keys and drivers' options are masked."""
    settings = read(
        "[ledger]\nconnection = postgresql://u:canary-1@h/d\n"
        "[simulator]\naddress = h:1\nauthkey = canary-2\n"
        "[driver:simulator]\nauthkey = canary-4\n"
        "[driver:simulator:a@b]\nauthkey = canary-5\n"
        "[DEFAULT]\ntransport_url = rabbit://u:canary-3@h/\n"
    )
    with caplog.at_level(logging.INFO):
        settings.conf.log_opt_values(logging.getLogger(__name__), logging.INFO)
    assert "ledger.connection" in caplog.text
    assert "driver:simulator:a@b.authkey" in caplog.text
    assert "canary" not in caplog.text
    assert "canary" not in repr(settings)


# -- files that cannot be read ---------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """--config-file of a file that is not there -> its name and the cause."""
    (problem,) = refused([tmp_path / "absent.conf"])
    assert str(tmp_path / "absent.conf") in problem
    assert "No such file" in problem


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """--config-file of a directory -> its name and the cause."""
    (problem,) = refused([tmp_path])
    assert str(tmp_path) in problem
    assert "directory" in problem


def test_default_file_that_may_not_be_looked_for_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default file cannot even be looked for -> the system's reason, as for any other file."""
    monkeypatch.setattr(config_files, "DEFAULT_FILE", tmp_path / ("a" * 300))
    (problem,) = refused([])
    assert problem.endswith("cannot be read: File name too long")


def test_a_binary_file_is_refused_in_words(tmp_path: Path) -> None:
    """A file that is no text -> said so."""
    path = tmp_path / "binary.conf"
    path.write_bytes(b"\xff\xfe[DEFAULT]\n")
    (problem,) = refused([path])
    assert "not a text file" in problem


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[DEFAULT]\ntransport_url canary\n", 2),
        ("[worker\n", 1),
        ("[]\n", 1),
        ("threads = 4\n", 1),
        ("  canary\n", 1),
    ],
    ids=["no equals sign", "open bracket", "no name", "before any section", "continuation"],
)
def test_a_line_that_does_not_parse_is_numbered_but_not_shown(
    write: Write, text: str, line: int
) -> None:
    """A typing error -> file and line; never the line itself, which may hold a password."""
    (problem,) = refused([write(text)])
    assert f"line {line}" in problem
    assert "canary" not in problem


def test_without_any_file_the_default_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither --config-file nor the default file -> what to do about it."""
    monkeypatch.setattr(config_files, "DEFAULT_FILE", tmp_path / "detachd.conf")
    (problem,) = refused([])
    assert str(tmp_path / "detachd.conf") in problem
    assert "--config-file" in problem


def test_the_default_file_is_read_when_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default file exists -> it is the configuration."""
    path = tmp_path / "detachd.conf"
    path.write_text(SMALLEST + "[cloud]\nname = east\n")
    monkeypatch.setattr(config_files, "DEFAULT_FILE", path)
    assert load().cloud == "east"


# -- names that nobody declares --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[worker]\nthread = 3\n", "[worker] has no option thread; did you mean threads?"),
        ("[workers]\nthreads = 3\n", "no section [workers]; did you mean [worker]?"),
        (
            "[backend:a@b]\nmod = auto\n",
            "[backend:a@b] has no option mod; did you mean mode?",
        ),
        (
            "[DEFAULT]\ntransport_ulr = rabbit://\n",
            "[DEFAULT] has no option transport_ulr; did you mean transport_url?",
        ),
        (
            "[oslo_messaging_rabbit]\nheartbeat_rat = 3\n",
            "[oslo_messaging_rabbit] has no option heartbeat_rat; did you mean heartbeat_rate?",
        ),
        ("[DEFAULT]\nlog-file = x\n", "[DEFAULT] has no option log-file; did you mean log_file?"),
        ("[Default]\ndebug = true\n", "no section [Default]"),
        ("[cloud]\nxyzzy = 1\n", "[cloud] has no option xyzzy"),
    ],
    ids=lambda value: value.replace("\n", " "),
)
def test_a_mistyped_name_is_refused_with_the_nearest_one(
    problems: Callable[[str], str], text: str, words: str
) -> None:
    """An option that would be ignored without a word -> refused, with a suggestion."""
    assert words in problems(text)


@pytest.mark.parametrize("line", ["transport_url rabbit u:canary@h", "authkey canary:x"])
def test_a_line_without_an_equals_sign_shows_its_first_word_only(
    problems: Callable[[str], str], line: str
) -> None:
    """A colon later in the line makes all before it a name -> no secret of it is shown."""
    text = problems(f"[simulator]\n{line}\n")
    assert f"begins with '{line.split(maxsplit=1)[0]}' and has no '='" in text
    assert "canary" not in text


def test_a_secret_under_a_mistyped_name_is_not_shown(problems: Callable[[str], str]) -> None:
    """A password behind a mistyped name -> the name is shown, the value is not."""
    assert "canary" not in problems("[simulator]\nauthkye = canary\n")


def test_a_former_name_of_a_library_s_option_is_accepted(
    read: Callable[[str], Settings],
) -> None:
    """A deprecated name that oslo still reads -> not refused."""
    deprecated = [
        (old.group or section, old.name)
        for section, opts in config_files.library_options().items()
        for opt in opts
        for old in opt.deprecated_opts
        if old.name and isinstance(opt, cfg.StrOpt)
    ]
    assert deprecated
    section, name = deprecated[0]
    read(f"[{section}]\n{name} = x\n")


def test_a_section_s_name_is_taken_in_any_case(read: Callable[[str], Settings]) -> None:
    """oslo.config reads [Worker] as [worker] -> so it is not refused."""
    assert read("[Worker]\nthreads = 7\n").worker.threads == 7


def test_every_problem_of_a_kind_is_told_at_once(problems: Callable[[str], str]) -> None:
    """Two mistyped names -> both in one message."""
    text = problems("[worker]\nthread = 1\n[exporter]\nprot = 1\n")
    assert "threads" in text
    assert "port" in text


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "mode = automatic\n",
            "[backend_defaults] mode: Valid values are [observe, approve, auto]",
        ),
        ("[backend:a@b]\nmode = no\n", "[backend:a@b] mode: Valid values are"),
        ("concurrency = 0\n", "[backend_defaults] concurrency: Should be greater than or equal"),
        ("[worker]\nthreads = many\n", "[worker] threads: 'many' is not a whole number"),
        ("[worker]\nlease_seconds = x\n", "[worker] lease_seconds: 'x' is not a number"),
        ("[exporter]\nport = 70000\n", "[exporter] port: "),
        ("[DEFAULT]\ndebug = perhaps\n", "[DEFAULT] debug: "),
        ("[oslo_messaging_rabbit]\nheartbeat_rate = often\n", "heartbeat_rate: "),
        ("tries = 0\n", "[backend_defaults] tries: "),
        ("look_timeout_seconds = 0\n", "[backend_defaults] look_timeout_seconds: "),
        ("call_timeout_seconds = nan\n", "[backend_defaults] call_timeout_seconds: nan is no"),
        ("late_horizon_seconds = inf\n", "[backend_defaults] late_horizon_seconds: inf is no"),
        ("[backend:a@b]\npatience_seconds = inf\n", "[backend:a@b] patience_seconds: inf is no"),
        ("[worker]\nlease_seconds = 1e999\n", "[worker] lease_seconds: inf is no"),
        ("[cloud]\nrpc_response_timeout_seconds = NaN\n", "rpc_response_timeout_seconds: nan is"),
    ],
    ids=lambda value: value.replace("\n", " "),
)
def test_a_value_that_cannot_be_is_refused_with_its_place(
    problems: Callable[[str], str], text: str, words: str
) -> None:
    """A bad value -> section, option and what it may be; no usage message, no SystemExit."""
    assert words in problems(text)


def test_a_lease_shorter_than_the_longest_step_is_refused_with_the_numbers(
    problems: Callable[[str], str],
) -> None:
    """A step that outlasts its claim -> both options and their numbers."""
    text = problems("[worker]\nlease_seconds = 60\n")
    longest = BackendPolicy().longest_step_seconds
    assert f"lease_seconds = 60 is shorter than the {longest:g} seconds" in text
    assert "call_timeout_seconds = 90" in text
    assert "[backend_defaults]" in text


def test_one_backend_s_longer_calls_are_checked_against_the_lease(
    problems: Callable[[str], str],
) -> None:
    """Only one backend is too slow for the lease -> that section is named, and only that one."""
    text = problems("[backend:slow@array]\ncall_timeout_seconds = 600\n")
    assert "[backend:slow@array]" in text
    assert "backend_defaults" not in text


def test_a_late_horizon_below_five_rpc_timeouts_is_refused(
    problems: Callable[[str], str],
) -> None:
    """Cinder's calls may outlive the horizon -> refused with both numbers."""
    text = problems("late_horizon_seconds = 200\n")
    assert (
        "late_horizon_seconds = 200 is shorter than 5 x rpc_response_timeout_seconds = 60" in text
    )
    assert "[backend_defaults]" in problems("[cloud]\nrpc_response_timeout_seconds = 80\n")


@pytest.mark.parametrize("kept", ["archive_days = 1", "archive_days = 0\nretention_days = 1"])
def test_a_late_horizon_that_outlives_what_the_ledger_keeps_at_hand_is_refused(
    problems: Callable[[str], str], kept: str
) -> None:
    """What was asked for a volume is put away while it may still act -> refused with both."""
    text = problems(f"late_horizon_seconds = 90000\n[ledger]\n{kept}\n")
    assert "late_horizon_seconds = 90000 is longer than the 1 days" in text


def test_a_call_no_longer_than_cinder_s_own_timeout_is_refused(
    problems: Callable[[str], str],
) -> None:
    """We would hang up before Cinder answers -> refused."""
    assert "call_timeout_seconds = 60 must be longer than" in problems(
        "call_timeout_seconds = 60\n"
    )


def test_a_backend_may_not_take_every_thread(
    problems: Callable[[str], str], read: Callable[[str], Settings]
) -> None:
    """A concurrency of all threads -> refused; one thread for all is the operator's own choice."""
    assert "concurrency = 4 leaves no thread for other backends ([worker] threads = 4)" in problems(
        "concurrency = 4\n"
    )
    assert read("concurrency = 1\n[worker]\nthreads = 1\n").worker.threads == 1


def test_an_unknown_driver_is_refused_with_the_ones_there_are(
    problems: Callable[[str], str],
) -> None:
    """A driver that is not installed -> the names of those that are."""
    text = problems("[backend:a@b]\ndriver = simulater\n")
    assert "[backend:a@b] driver = simulater" in text
    assert "simulator" in text


def test_driver_of_a_new_installation_works_with_every_backend(write: Write) -> None:
    """Nothing said of a driver -> the one that acts through Cinder."""
    assert load([write("[worker]\nthreads = 4\n")]).backends.of("a@b").driver == "cinder_managed"


def test_no_driver_at_all_is_refused(write: Write) -> None:
    """An empty driver in the defaults -> refused, with the names of those there are."""
    (problem,) = refused([write("[backend_defaults]\ndriver =\n")])
    assert problem.startswith("[backend_defaults] driver is not set; installed storage drivers: ")


@pytest.mark.parametrize("name", ["labhost", "a@b#pool", "a@b@c"])
def test_a_backend_not_named_as_cinder_does_is_refused(
    problems: Callable[[str], str], name: str
) -> None:
    """A name that no volume could have -> how it must look."""
    assert f"[backend:{name}]: a backend is named HOST@BACKEND" in problems(f"[backend:{name}]\n")


def test_two_sections_that_oslo_cannot_tell_apart_are_refused(
    problems: Callable[[str], str],
) -> None:
    """Names that differ by case only -> refused, because oslo.config would mix their options."""
    assert "differ by case only" in problems("[backend:a@B]\ntries=1\n[backend:a@b]\ntries=2\n")


def test_a_simulated_cloud_without_its_key_is_refused(problems: Callable[[str], str]) -> None:
    """[simulator] address alone -> the missing key is named."""
    assert "[simulator] has an address and no authkey" in problems("[simulator]\naddress = h:1\n")


def test_loading_prints_nothing(problems: Callable[[str], str]) -> None:
    """A bad value of an option with a command-line twin -> an error, not argparse's output."""
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
        problems("[DEFAULT]\ndebug = perhaps\n")
    assert shown.getvalue() == ""


# -- the sample ------------------------------------------------------------------------------------


def sample() -> str:
    """Generate the sample configuration as `make config-sample` does."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--config-file", str(ROOT / "etc" / "config-generator.conf")], default_config_files=[])
    shown = io.StringIO()
    generator.generate(conf, shown)
    return shown.getvalue()


def test_the_committed_sample_is_current() -> None:
    """An option was added or changed -> the sample must be generated again.

    Options of other libraries are in it too, in the words of the releases in constraints.txt.
    """
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    for name in ("oslo.config", "oslo.log", "keystoneauth1"):
        if f"{name}=={version(name)}" not in pinned:
            pytest.skip(f"another release of {name} has other words")
    committed = (ROOT / "etc" / "detachd.conf.sample").read_text()
    assert committed == sample(), "run `make config-sample` and commit etc/detachd.conf.sample"


def test_the_sample_is_complete_and_changes_nothing(write: Write) -> None:
    """The sample as it is -> every option of ours in it, commented, none of them set."""
    text = (ROOT / "etc" / "detachd.conf.sample").read_text()
    for group, opts in configuration.list_opts():
        assert not opts or f"[{group.name}]" in text
        for opt in opts:
            assert f"\n#{opt.dest} =" in text
    settings = load([write(text + SMALLEST)])
    assert settings.backends.defaults.policy == BackendPolicy()


def test_every_option_of_ours_has_a_help() -> None:
    """The sample explains each option -> none without words."""
    for _, opts in configuration.list_opts():
        for opt in opts:
            assert opt.help, opt.name


@pytest.mark.parametrize("between", ["", "[sweep]\n[backend_defaults]\n"])
def test_an_option_that_a_file_sets_twice_is_refused(write: Write, between: str) -> None:
    """Mode = observe, and mode = auto further down -> refused: the last one would win unseen."""
    text = f"[backend_defaults]\nmode = observe\n{between}mode = auto\n"
    (problem,) = refused([write(text)])
    assert "[backend_defaults] mode is set 2 times; keep one of them" in problem


def test_two_files_may_set_the_same(write: Write, tmp_path: Path) -> None:
    """The same section in a second file -> the last file counts, as everywhere in OpenStack."""
    second = tmp_path / "second.conf"
    second.write_text("[backend_defaults]\nmode = approve\n")
    first = write(SMALLEST)
    assert load([first, second]).backends.of("any").policy.mode is Mode.APPROVE


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    """A file that an editor of another system has saved -> what it begins with is named."""
    file = tmp_path / "marked.conf"
    file.write_bytes(b"\xef\xbb\xbf[DEFAULT]\ndebug = true\n")
    (problem,) = refused([file])
    assert "line 1: it begins with a byte order mark" in problem


DOLLARS = {
    "[DEFAULT] transport_url": "[DEFAULT]\ntransport_url = rabbit://u:pa$s3cr3t@127.0.0.1:1/\n",
    "[cinder] password": "[cinder]\nauth_type = password\npassword = ge$s3cr3t\n",
    "[ledger] connection": "[ledger]\nconnection = postgresql://d:x$s3cr3t@h/d\n",
    "[simulator] authkey": "[simulator]\naddress = 127.0.0.1:1\nauthkey = ${none.s3cr3t}\n",
}


@pytest.mark.parametrize("option", DOLLARS)
def test_a_password_with_a_dollar_is_named_by_its_option(
    option: str, problems: Callable[[str], str]
) -> None:
    """A $ that oslo.config takes for a reference -> the option, the remedy, and no secret."""
    text = problems(DOLLARS[option])
    assert text == f"{option}: {config_files.DOLLAR}"
    assert "$$" in text


def test_a_reference_to_another_option_and_a_doubled_dollar_stay(
    read: Callable[[str], Settings],
) -> None:
    """$name of an option that there is, and $$ -> read as oslo.config means them."""
    text = "[simulator]\naddress = 127.0.0.1:1\nauthkey = a$$b$address\n"
    simulator = read(text).simulator
    assert simulator is not None
    assert simulator.authkey == "a$b127.0.0.1:1"
