"""The real parts are real: they start, keep what is durable, freeze, and leave nothing behind."""

import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from kombu import Connection, Exchange, Queue
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.bus import until
from tests.services.ceph import Ceph
from tests.services.database import PrivateDatabase
from tests.services.fixtures import installed
from tests.services.fuse_disk import FuseDisk
from tests.services.mariadb import MariaDB
from tests.services.postgresql import PostgreSQL
from tests.services.processes import Watched
from tests.services.rabbitmq import RabbitMQ
from tests.services.service import PrivateService, ServiceFailedError
from tests.services.tgtd import Tgtd

ROOT = Path(__file__).parents[2]
KEEPING = {kind.name: kind for kind in (RabbitMQ, PostgreSQL, MariaDB)}
KINDS = {**KEEPING, Tgtd.name: Tgtd, FuseDisk.name: FuseDisk, Ceph.name: Ceph}
MEMORY = Queue("memory", Exchange("", durable=True), "memory", durable=True)

# What a test run does with a service, up to the point where the run itself is ended.
A_TEST_RUN = """
import signal, sys
from tests.services.test_services import KINDS
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with KINDS[sys.argv[1]]() as service:
    print(service.directory, *service.processes(), flush=True)
    signal.pause()
"""

pytestmark = pytest.mark.integration


@pytest.fixture(params=list(KEEPING))
def service(request: pytest.FixtureRequest) -> PrivateService:
    """Each service that keeps something in turn."""
    shared: PrivateService = request.getfixturevalue(request.param)
    return shared


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> PrivateDatabase:
    """Each database in turn."""
    shared: PrivateDatabase = request.getfixturevalue(request.param)
    return shared


def remember(service: PrivateService, word: str) -> None:
    """Have a service confirm that it keeps a word."""
    if isinstance(service, PrivateDatabase):
        service.execute("CREATE TABLE memory (word VARCHAR(50))")
        service.execute(f"INSERT INTO memory VALUES ('{word}')")
    elif isinstance(service, RabbitMQ):
        publish(service, word)
        service.sync()


def publish(service: RabbitMQ, word: str) -> None:
    """Send a persistent message to a durable queue; blocks until the broker confirms it."""
    with Connection(service.url, transport_options={"confirm_publish": True}) as connection:
        connection.Producer().publish(word, routing_key="memory", declare=[MEMORY], delivery_mode=2)


def recall(service: PrivateService) -> str:
    """Ask for the word back, which the service forgets thereby."""
    if isinstance(service, PrivateDatabase):
        ((word,),) = service.execute("SELECT word FROM memory")
        service.execute("DROP TABLE memory")
        return str(word)
    with Connection(service.url) as connection:
        message = MEMORY(connection.default_channel).get()
        message.ack()
        return str(message.payload)


def answers(service: PrivateService, within_seconds: float = 20.0) -> bool:
    """Tell whether a client that connects now is greeted in time."""
    try:
        with socket.create_connection(("127.0.0.1", service.port), within_seconds) as client:
            client.sendall(greeting(service))
            return bool(client.recv(1))
    except OSError:
        return False


def greeting(service: PrivateService) -> bytes:
    """Say what the client says first: a protocol header, an SSLRequest, to MariaDB nothing."""
    match service:
        case RabbitMQ():
            return b"AMQP\x00\x00\x09\x01"
        case PostgreSQL():
            return b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
        case _:
            return b""


def shared_memory_of(pids: list[str]) -> list[str]:
    """List the System V segments that these processes made; the fifth column names the maker."""
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [segment for segment in segments if segment.split()[4] in pids]


def test_killed_and_started_again_keeps_what_was_durable(service: PrivateService) -> None:
    """Kill -9 -> nothing runs, nobody answers; started again -> the confirmed word is there."""
    remember(service, "kept")
    with Watched(service.processes()) as before, service.killed():
        assert before.end(10.0)
        assert not answers(service)
    assert recall(service) == "kept"


def test_paused_takes_connections_and_does_not_answer(service: PrivateService) -> None:
    """SIGSTOP -> the port is open, no greeting comes; SIGCONT -> greeted again."""
    assert answers(service)
    with service.paused(), socket.create_connection(("127.0.0.1", service.port), 20):
        assert not answers(service, within_seconds=1.0)
    assert answers(service)


def test_two_at_once_are_apart_and_nothing_of_them_survives_stop(service: PrivateService) -> None:
    """A second instance -> own port, own content; stopped -> no process, no directory, no port."""
    with ExitStack() as stack:
        with installed(KEEPING[service.name]) as second:
            assert second.port != service.port
            assert set(second.processes()).isdisjoint(service.processes())
            remember(service, "first")
            remember(second, "second")
            assert (recall(service), recall(second)) == ("first", "second")
            assert second.processes()
            theirs = stack.enter_context(Watched(second.processes()))
        assert theirs.end(10.0)
    assert not second.directory.exists()
    assert not answers(second)
    assert answers(service)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
@pytest.mark.parametrize("name", KINDS)
def test_the_test_run_ends_early_and_its_service_with_it(name: str, how: signal.Signals) -> None:
    """Ctrl-C or kill -9 of the tests -> within seconds no process and no directory is left."""
    installed(KINDS[name])
    command = [sys.executable, "-c", A_TEST_RUN, name]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        try:
            assert run.stdout is not None
            directory, *pids = run.stdout.readline().split()
            assert pids
            with Watched(map(int, pids)) as theirs:
                run.send_signal(how)
                run.wait(timeout=30)
                assert theirs.end(20.0)
        finally:
            run.kill()
    until(lambda: not Path(directory).exists())
    assert shared_memory_of(pids) == []


def test_port_taken_fails_with_the_log_and_leaves_nothing(database: PrivateDatabase) -> None:
    """A service that cannot start -> its own words in the error, its directory gone."""
    second = installed(type(database))
    second.port = database.port
    with pytest.raises(ServiceFailedError, match=r"(?i)address already in use"), second:
        pytest.fail("started on a port that was taken")
    assert not second.directory.exists()


def test_fresh_databases_are_empty_apart_and_removable_while_in_use(
    database: PrivateDatabase,
) -> None:
    """A table in one -> not in another; an open transaction -> the drop does not wait for it."""
    used, empty = database.fresh_database(), database.fresh_database()
    engine = create_engine(used, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    assert inspect(engine).get_table_names() == ["t"]
    assert inspect(create_engine(empty, poolclass=NullPool)).get_table_names() == []
    idle = engine.connect()
    idle.execute(text("SELECT * FROM t"))
    database.drop_database(used)
    with pytest.raises(OperationalError):
        idle.execute(text("SELECT * FROM t"))
    idle.invalidate()
    idle.close()
    database.drop_database(empty)


def test_wrong_password_is_refused(database: PrivateDatabase) -> None:
    """The password in the URL counts -> a test on secrets has a real one to look for."""
    wrong = make_url(database.url).set(password="wrong")
    with pytest.raises(OperationalError, match=r"(?i)password"):
        create_engine(wrong, poolclass=NullPool).connect()


def test_commits_are_as_durable_as_shipped(
    postgresql: PostgreSQL, mariadb: MariaDB, rabbitmq: RabbitMQ
) -> None:
    """No setting trades durability for speed -> what a test shows of a crash is true elsewhere."""
    assert postgresql.execute("SHOW fsync") == [("on",)]
    assert postgresql.execute("SHOW synchronous_commit") == [("on",)]
    assert mariadb.execute("SELECT @@innodb_flush_log_at_trx_commit") == [(1,)]
    assert "private@localhost" in rabbitmq.ctl("cluster_status")


def test_fresh_vhost_is_apart(rabbitmq: RabbitMQ) -> None:
    """A queue in one virtual host -> not seen in another."""
    with Connection(rabbitmq.fresh_vhost()) as connection:
        Queue("mine", channel=connection.default_channel).declare()
        assert rabbitmq.ctl("list_queues", "--vhost", connection.virtual_host, "name") != ""
    assert "mine" not in rabbitmq.ctl("list_queues", "--vhost", "/", "name")


def test_failing_command_says_why(rabbitmq: RabbitMQ) -> None:
    """An unknown command of rabbitmqctl -> an error with its words."""
    with pytest.raises(ServiceFailedError, match="no_such_command"):
        rabbitmq.ctl("no_such_command")
