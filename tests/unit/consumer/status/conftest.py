"""A ledger with cases of every kind, and the status page of it on a free port."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from consumer.ledger import Ledger
from consumer.status.page import PATH, StatusPage
from handlers.case import CaseState, Conclusion, UseCase
from handlers.judgement.policy import Mode
from metrics.exporter import Exporter
from tests.bus import new_ledger
from tests.unit.consumer.cli.told import look
from tests.unit.consumer.due import LAB, SLOW, open_case, outcome
from tests.unit.handlers.judgement.acting_pictures import UC4, UC5
from tests.unit.handlers.judgement.pictures import UNSEEN


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """A status page that is served."""

    ledger: Ledger
    port: int

    def url(self, below: str = "") -> str:
        """Return the address of a page."""
        return f"http://127.0.0.1:{self.port}{PATH}{below}"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with new_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def site(ledger: Ledger) -> Iterator[Site]:
    """Serve the page of that ledger as the service does."""
    page = StatusPage(ledger, "north", "1.0", "127.0.0.1")
    exporter = Exporter("127.0.0.1", 0, CollectorRegistry(), lambda: (), mounted={PATH: page})
    exporter.start()
    yield Site(ledger, exporter.port)
    exporter.stop()


def finished(ledger: Ledger, state: CaseState = CaseState.PARKED, **changes: Any) -> str:
    """Open a case and let one attempt come to this state; return its id."""
    names = ("backend", "host", "volume_id", "instance_id")
    given = {name: changes.pop(name) for name in names if name in changes}
    volume_id = open_case(ledger, **given)
    (claim,) = ledger.claim("w:1", limit=1, lease_seconds=60.0, deadlines=True)
    assert claim.case.volume_id == volume_id
    ledger.finish(claim, outcome(state, **changes))
    return claim.case.case_id


def seen(picture: Any, mode: Mode) -> dict[str, Any]:
    """Return what an outcome has of a look at this picture."""
    found = look(picture, mode)
    mark = (found["guards"] or {}).get("fingerprint")
    return {
        "rule": found["rule"],
        "verdict": found["verdict"],
        "reason": found["reason"],
        "evidence": found,
        "fingerprint": mark,
    }


def fill(ledger: Ledger) -> str:
    """Put cases of every kind into the ledger; return the id of one that awaits approval."""
    silent = UC5.but(backend=UNSEEN, hosts_known=False)
    for number in range(12):
        finished(ledger, backend=SLOW, host=f"compute{number}", **seen(silent, Mode.AUTO))
    for number in range(3):
        leak = seen(UC5, Mode.OBSERVE)
        finished(ledger, backend=LAB, host=f"compute{number}", use_case=UseCase.UC5, **leak)
    finished(ledger, CaseState.CLOSED, conclusion=Conclusion.HEALTHY, **seen(UC4, Mode.AUTO))
    ask = seen(UC4, Mode.APPROVE)
    asked = finished(ledger, CaseState.AWAITING_APPROVAL, use_case=UseCase.UC4, **ask)
    open_case(ledger)
    ledger.pause("anna", "maintenance of the storage network")
    return asked
