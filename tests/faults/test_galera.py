"""A ledger on three Galera nodes while one is killed, cut off, or gets all data anew."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from consumer.ledger import Ledger, LedgerUnavailableError, Timing
from consumer.ledger.database.tables import cases, history, notifications, outbox
from handlers.case import CaseState, ClaimLostError
from tests.bus import until
from tests.services import ledgers
from tests.services.galera import Galera
from tests.unit.consumer.ledger.making import announcement, arrival, attach_error, make_due, outcome

pytestmark = [pytest.mark.integration, pytest.mark.slow]
LEASE = 30.0


@pytest.fixture
def through(galera: Galera) -> Iterator[list[Ledger]]:
    """Return an empty ledger three times, each written through another node."""
    url = ledgers.on(galera.nodes[0])
    opened = [Ledger(one, timing=Timing(error_settle_seconds=0.0)) for one in galera.urls(url)]
    yield opened
    galera.whole()
    for ledger in opened:
        ledger.close()
    galera.nodes[0].drop_database(url)


class Load:
    """A worker, a listener and a publisher for each node, until it is told to stop.

    A worker holds each volume it has for a moment and looks whether anyone else holds it.
    """

    def __init__(self, through: list[Ledger]) -> None:
        self.through = through
        self.stop = threading.Event()
        self.held: Counter[str] = Counter()
        self.twice: list[str] = []
        self.accepted: list[str] = []
        self.sent: list[str] = []
        self.finished: Counter[int] = Counter()
        self.failed: list[BaseException] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def listen(self, node: int) -> None:
        """Take in an error of a new volume, due at once; the same message until it is stored."""
        number = next(self._numbers)
        own = {"volume_id": f"vol-{number}", "request_id": f"req-{number}"}
        message = arrival(attach_error(**own))
        self._until_done(lambda: self.through[node].accept([message]))
        self.accepted.append(message.notification.message_id)
        time.sleep(0.05)

    def work(self, node: int) -> None:
        """Claim, hold for a moment, and close with an announcement."""
        ledger = self.through[node]
        for claim in ledger.claim(f"w{node}", limit=3, lease_seconds=LEASE, deadlines=True):
            volume = claim.case.volume_id
            with self._lock:
                self.held[volume] += 1
                if self.held[volume] > 1:
                    self.twice.append(volume)
            time.sleep(0.005)
            with self._lock:
                self.held[volume] -= 1
            said = [announcement("start"), announcement("end")]
            closed = outcome(CaseState.CLOSED, announcements=said)
            self._finish(node, lambda again, c=claim, o=closed: ledger.finish(c, o, repeated=again))

    def publish(self, node: int) -> None:
        """Lease, send, mark."""
        for out in self.through[node].outbox_lease(f"p{node}", limit=5, lease_seconds=LEASE):
            self.sent.append(out.message_id)
            self._until_done(lambda i=out.outbox_id: self.through[node].outbox_sent([i]))

    def _finish(self, node: int, finish: Callable[[bool], None]) -> None:
        again = False
        while True:
            try:
                finish(again)
            except LedgerUnavailableError:
                again = True
                time.sleep(0.1)
            except ClaimLostError:
                return
            else:
                self.finished[node] += 1
                return

    @staticmethod
    def _until_done(work: Callable[[], object]) -> None:
        while True:
            with contextlib.suppress(LedgerUnavailableError):
                work()
                return
            time.sleep(0.1)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have it run within; afterwards everything that is due is done through any node."""
        loops = [
            threading.Thread(target=self._loop, args=(part, node))
            for part in (self.listen, self.work, self.publish)
            for node in range(3)
        ]
        for loop in loops:
            loop.start()
        try:
            yield
        finally:
            self.stop.set()
            for loop in loops:
                loop.join(120)
        assert not self.failed, self.failed[0]

    def _loop(self, part: Callable[[int], None], node: int) -> None:
        while not self.stop.is_set():
            try:
                part(node)
            except LedgerUnavailableError:
                time.sleep(0.1)
            except BaseException as error:  # noqa: BLE001 - the test tells of it
                self.failed.append(error)
                return
            time.sleep(0.01)

    def tidy(self) -> None:
        """Let the time of every lease pass, and do the rest through the first node."""
        ledger = self.through[0]
        with ledger._database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE claims SET lease_expires_at = '2020-01-01'")
            connection.exec_driver_sql(
                "UPDATE outbox SET due_at = '2020-01-01' WHERE due_at IS NOT NULL"
            )
        make_due(ledger)
        self.stop.clear()
        while [case for case in ledger.cases(limit=10_000) if case.open]:
            self.work(0)
        while ledger.outbox_pending()[0]:
            self.publish(0)

    def all_is_well(self) -> None:
        """Nothing was held twice, lost, or written twice, and every node says the same."""
        assert not self.twice
        self.tidy()
        for ledger in self.through:
            stored = ledger._database.read(lambda c: list(c.execute(_STORED).scalars()))
            assert sorted(stored) == sorted(self.accepted)
            states = ledger._database.read(lambda c: c.execute(_STATES).all())
            assert [tuple(row) for row in states] == [("closed", len(self.accepted))]
            said = ledger._database.read(lambda c: c.execute(_SAID).all())
            wrong = [row.case_id for row in said if row.number != 2]
            assert not wrong, f"on {ledger.name}: {_course(ledger, wrong[0])}"
            assert len(said) == len(self.accepted)


def _course(ledger: Ledger, case_id: str) -> list[tuple[object, ...]]:
    """Return what was written for a case, to find out how it came to it."""
    own = sa.select(history).where(history.c.case_id == case_id).order_by(history.c.history_id)
    told = sa.select(outbox).where(outbox.c.case_id == case_id).order_by(outbox.c.outbox_id)
    return [
        tuple(row)
        for select in (own, told)
        for row in ledger._database.read(lambda c, select=select: c.execute(select).all())
    ]


_STORED = sa.select(notifications.c.message_id)
_STATES = sa.select(cases.c.state, sa.func.count()).group_by(cases.c.state)
_SAID = sa.select(outbox.c.case_id, sa.func.count().label("number")).group_by(outbox.c.case_id)


def test_node_killed_and_joining_with_all_data(galera: Galera, through: list[Ledger]) -> None:
    """A node is killed under load and joins again without data (SST) -> nothing lost or twice.

    The two others go on meanwhile; the third takes writes again.
    """
    load = Load(through)
    with load.running():
        time.sleep(2)
        galera.nodes[2].kill()
        try:
            galera.nodes[0].await_status("cluster_size", "2")
            before = load.finished.copy()
            until(lambda: load.finished[0] + load.finished[1] > before[0] + before[1])
        finally:  # or its own threads would wait for it for ever
            galera.nodes[2].forget()
            galera.nodes[2].start()
        galera.whole()
        back = load.finished[2]
        until(lambda: load.finished[2] > back)
    load.all_is_well()


def test_node_cut_off(galera: Galera, through: list[Ledger]) -> None:
    """A node is cut off from the two others under load -> it does no work until it is back.

    Its clients still reach it. What it was committing at that moment is there once or not at all.
    """
    load = Load(through)
    with load.running():
        time.sleep(2)
        with galera.nodes[2].isolated():
            galera.nodes[2].await_status("cluster_status", "non-Primary")
            with pytest.raises(LedgerUnavailableError, match="1047"):
                through[2].claim("w", limit=1, lease_seconds=LEASE, deadlines=True)
            alone = load.finished[2]
            others = load.finished[0] + load.finished[1]
            time.sleep(2)
            until(lambda: load.finished[0] + load.finished[1] > others, 60)
            assert load.finished[2] == alone
        galera.whole()
        back = load.finished[2]
        until(lambda: load.finished[2] > back, 60)
    load.all_is_well()
