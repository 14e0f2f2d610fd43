"""Which buses are listened to, as operators write them: [bus:NAME]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.bus.settings import ListenerSettings
from consumer.bus.topology import Binding
from consumer.errors import ConfigurationError
from consumer.settings import buses
from consumer.settings.configuration import load

ANNOUNCE = "[DEFAULT]\ntransport_url = rabbit://u:canary-0@main/\n"
CELL1 = "[bus:cell1]\ntransport_url = rabbit://u:canary-1@one/\n"
CELL2 = "[bus:cell2]\ntransport_url = rabbit://u:canary-2@two:5673/v\n"
REST = "[backend_defaults]\ndriver = simulator\n"

Read = Callable[[str], tuple[ListenerSettings, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read the buses of a configuration file as the service does."""

    def read_buses(text: str) -> tuple[ListenerSettings, ...]:
        path = tmp_path / "detachd.conf"
        path.write_text(text + REST)
        return buses.read(load([path]).conf)

    return read_buses


def problems(read: Read, text: str) -> str:
    """Read what is refused; return why, no password in it."""
    with pytest.raises(ConfigurationError) as error:
        read(text)
    assert "canary" not in str(error.value)
    return str(error.value)


def test_no_section_is_one_bus(read: Read) -> None:
    """No [bus:...] -> the bus of transport_url and [listener], called default."""
    (only,) = read(ANNOUNCE + "[listener]\nqueue = mine\n")
    assert (only.bus, only.queue.name, str(only.broker.hosts[0])) == ("default", "mine", "main")


def test_each_section_is_a_bus(read: Read) -> None:
    """Two sections -> these two and not that of [DEFAULT], each with a broker of its own."""
    one, two = read(ANNOUNCE + CELL1 + CELL2)
    assert [(bus.bus, str(bus.broker.hosts[0])) for bus in (one, two)] == [
        ("cell1", "one"),
        ("cell2", "two:5673"),
    ]
    assert (one.broker.virtual_host, two.broker.virtual_host) == ("/", "v")


def test_section_takes_from_the_general_what_it_does_not_set(read: Read) -> None:
    """Bindings, priorities, durability, queue, TLS of one bus -> of that one only."""
    one, two = read(
        ANNOUNCE
        + "[listener]\nprefetch = 77\nbatch_size = 60\npriorities = error\n"
        + "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 9\nssl = true\n"
        + f"{CELL1}bindings = nova:cell_one\npriorities = info\namqp_durable_queues = true\n"
        + "queue = detachd.cell1\nssl_ca_file = /cell1.pem\nprefetch = 50\n"
        + f"{CELL2}ssl = false\n"
    )
    assert one.bindings == (Binding("nova", ("cell_one.info",)),)
    assert [b.exchange for b in two.bindings] == ["nova", "cinder", "openstack"]
    assert two.bindings[1].routing_keys == ("notifications.error",)
    assert (one.queue.name, two.queue.name) == ("detachd.cell1", "detachd.notifications")
    assert (one.prefetch, one.pace.size, two.prefetch, two.pace.size) == (50, 50, 77, 60)
    assert (one.broker.durable_exchanges, two.broker.durable_exchanges) == (True, False)
    assert (one.broker.tls or {})["ca_certs"] == "/cell1.pem"
    assert two.broker.tls is None
    assert (one.broker.heartbeat_seconds, two.broker.heartbeat_seconds) == (9, 9)


def test_password_of_a_bus_shows_nowhere(read: Read) -> None:
    """A bus printed -> no password."""
    assert "canary" not in repr(read(ANNOUNCE + CELL1))


@pytest.mark.parametrize("section", ["DEFAULT", "oslo_messaging_notifications"])
def test_amqp_is_refused_where_announcements_are_sent(read: Read, section: str) -> None:
    """amqp://, as other programs write it -> refused by the check, and not at the start alone."""
    text = f"[{section}]\ntransport_url = amqp://u:canary@main/\n"
    assert "write rabbit://" in problems(read, text)
    only_heard = "[bus:one]\ntransport_url = amqp://u:p@one/\n"
    assert [one.bus for one in read(ANNOUNCE + only_heard)] == ["one"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("[bus:a]\nqueue = q\n", "[bus:a] has no transport_url", id="no URL"),
        pytest.param(
            "[bus:a]\ntransport_url = rabbit://u:canary@h:x/\n",
            "[bus:a] transport_url is not valid; write",
            id="no port",
        ),
        pytest.param(
            "[bus:a]\ntransport_url = kafka://u:canary@h/\n",
            "[bus:a] transport_url: detachd supports RabbitMQ only",
            id="kafka",
        ),
        pytest.param(
            "[bus:a]\ntransport_url = amqps://u:canary@h/\n",
            "(for TLS, set ssl = true)",
            id="amqps",
        ),
        pytest.param(
            "[bus:]\ntransport_url = rabbit://u:p@h/\n", "the name may have letters", id="no name"
        ),
        pytest.param("[bus:a b]\n", "the name may have letters", id="name of two words"),
        pytest.param(f"{CELL1}bindngs = a:b\n", "did you mean bindings?", id="mistyped"),
        pytest.param(f"{CELL1}mode = auto\n", "has no option mode", id="another section's option"),
        pytest.param(f"{CELL1}prefetch = none\n", "[bus:cell1] prefetch: ", id="no number"),
        pytest.param(f"{CELL1}bindings = nova\n", "[bus:cell1] bindings: ", id="no topic"),
        pytest.param("[buss:a]\nqueue = q\n", "there is no section [buss:a]", id="no such section"),
        pytest.param(
            f"{CELL1}[bus:Cell1]\ntransport_url = rabbit://u:canary@two/\n",
            "differ by case only",
            id="case",
        ),
    ],
)
def test_wrong_section_is_refused_in_words(read: Read, text: str, words: str) -> None:
    """A section that cannot be meant -> refused, naming it, before anything is started."""
    assert words in problems(read, ANNOUNCE + text)


def test_buses_without_a_place_for_announcements(read: Read) -> None:
    """Sections, and no transport_url in [DEFAULT] -> refused, since announcements need one."""
    assert "[DEFAULT] has no transport_url" in problems(read, CELL1)


def test_two_buses_at_one_queue(read: Read) -> None:
    """One host in both, the same virtual host and queue -> refused; another queue -> accepted."""
    again = "[bus:again]\ntransport_url = rabbit://u:p@other,u:p@one:5672/\n"
    assert "share the queue detachd.notifications of one" in problems(
        read, ANNOUNCE + CELL1 + again
    )
    assert len(read(f"{ANNOUNCE}{CELL1}{again}queue = detachd.again\n")) == 2


@pytest.mark.parametrize(
    "name",
    ["notifications.info", "versioned_notifications.error", "notifications", "metering.sample"],
)
@pytest.mark.parametrize("option", ["queue", "quarantine_queue"])
@pytest.mark.parametrize("section", ["[listener]\n", CELL1])
def test_queue_of_somebody_else_is_refused(
    read: Read, name: str, option: str, section: str
) -> None:
    """Ceilometer's queue, or any that oslo.messaging would name so -> refused: we would steal."""
    words = problems(read, f"{ANNOUNCE}{section}{option} = {name}\n")
    assert f"{option} = {name} is the name of another consumer's queue" in words


def test_queue_named_by_a_binding_of_one_s_own_topic(read: Read) -> None:
    """A topic and a priority that only this bus binds -> its queue is somebody's, too: refused."""
    text = "[listener]\nbindings = nova:for_us\npriorities = odd\nqueue = for_us.odd\n"
    assert "another consumer's queue" in problems(read, ANNOUNCE + text)


def test_one_queue_for_two_tasks(read: Read) -> None:
    """The quarantine is the queue itself -> refused: bodies would go round for ever."""
    text = "[listener]\nqueue = same\nquarantine_queue = same\n"
    assert (
        "bus default: queue and bus default: quarantine_queue are the same queue, same of main"
        in (problems(read, ANNOUNCE + text))
    )


CROSSED = (
    f"{CELL1}quarantine_queue = detachd.other\n"
    "[bus:again]\ntransport_url = rabbit://u:p@one/\nqueue = detachd.other\n"
)
ASIDE = (
    f"{CELL1}queue = detachd.replay\n"
    "[bus:main]\ntransport_url = rabbit://u:p@main/\nquarantine_queue = detachd.replay\n"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[replay]\nqueue = detachd.notifications\n", "bus default: queue and [replay] queue are"),
        ("[replay]\nqueue = detachd.quarantine\n", "quarantine_queue and [replay] queue are the"),
        (
            CROSSED,
            "bus again: queue and bus cell1: quarantine_queue are the same queue, detachd.other",
        ),
        (ASIDE, "bus main: quarantine_queue and [replay] queue are the same"),
    ],
)
def test_replays_and_other_buses_have_queues_of_their_own(
    read: Read, text: str, words: str
) -> None:
    """One queue for what two tasks put and take -> refused; of another broker -> accepted."""
    found = problems(read, ANNOUNCE + text)
    assert words in found
    assert "cell1: queue and [replay]" not in found, "that one is at another broker"


def test_two_buses_may_share_a_quarantine(read: Read) -> None:
    """Two buses at one virtual host, one quarantine queue -> accepted: nobody consumes it."""
    again = "[bus:again]\ntransport_url = rabbit://u:p@one/\nqueue = detachd.again\n"
    assert len(read(f"{ANNOUNCE}{CELL1}{again}")) == 2


def test_replays_from_somebody_else_s_queue(read: Read) -> None:
    """Ceilometer's queue as that of replays -> refused: its messages would go round as replays."""
    words = problems(read, f"{ANNOUNCE}[replay]\nqueue = notifications.info\n")
    assert "[replay] queue = notifications.info is the name of another consumer's queue" in words


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("ssl_ca_file = {d}/none.pem", "ssl_ca_file = {d}/none.pem: No such file or directory"),
        ("ssl_ca_file = {d}/text.pem", "ssl_ca_file = {d}/text.pem: NO_CERTIFICATE_OR_CRL_FOUND"),
        (
            "ssl_cert_file = {d}/none.pem",
            "ssl_cert_file = {d}/none.pem, ssl_key_file = not set: No such file or directory",
        ),
    ],
)
def test_files_for_tls_that_cannot_be_used_are_found_at_the_start(
    tmp_path: Path, options: str, why: str
) -> None:
    """A CA file that is missing, or is none -> the bus, the option, the file and the reason."""
    (tmp_path / "text.pem").write_text("not a certificate")
    file = tmp_path / "detachd.conf"
    file.write_text(
        f"[DEFAULT]\ntransport_url = rabbit://u:p@h/\n{REST}"
        f"[oslo_messaging_rabbit]\nssl = true\n{options.format(d=tmp_path)}\n"
    )
    found = buses.read(load([file]).conf)
    with pytest.raises(ConfigurationError) as refused:
        buses.check_files(found)
    assert refused.value.problems == (
        f"bus default: [oslo_messaging_rabbit] {why.format(d=tmp_path)}",
    )
