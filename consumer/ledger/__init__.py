"""The ledger: tables, migrations and every transaction there is.

SQLite (WAL, synchronous=FULL) by default, PostgreSQL and MariaDB (10.6 or newer) for more. Nothing
is acknowledged to the bus before it is durable here, and nothing is announced that did not commit
here. ``Ledger`` is the whole of it to the rest of detachd.
"""

from consumer.ledger.address import check_url
from consumer.ledger.archive import Archived
from consumer.ledger.arrival import Accepted, Arrival
from consumer.ledger.claims import Claim
from consumer.ledger.control import Pause
from consumer.ledger.errors import (
    LedgerError,
    LedgerUnavailableError,
    LedgerUrlError,
    NoSuchBodyError,
    NoSuchCaseError,
    ReplayRefusedError,
    SchemaAheadError,
    SchemaBehindError,
    WrongStateError,
)
from consumer.ledger.held import BodyState, QuarantinedBody
from consumer.ledger.history import HistoryKind
from consumer.ledger.ledger import Ledger
from consumer.ledger.matching import Timing
from consumer.ledger.outbox import Outgoing
from consumer.ledger.reading import (
    CaseRecord,
    CaseSummary,
    HistoryRecord,
    IntentRecord,
    NotificationRecord,
    OutboxRecord,
    StateCount,
)
from consumer.ledger.replay import Replay, Replayed
from consumer.ledger.replicas import Replica, ReplicaSeen
from consumer.ledger.retention import Pruned
from consumer.ledger.schema import Upgraded
from consumer.ledger.tls import Tls

__all__ = [
    "Accepted",
    "Archived",
    "Arrival",
    "BodyState",
    "CaseRecord",
    "CaseSummary",
    "Claim",
    "HistoryKind",
    "HistoryRecord",
    "IntentRecord",
    "Ledger",
    "LedgerError",
    "LedgerUnavailableError",
    "LedgerUrlError",
    "NoSuchBodyError",
    "NoSuchCaseError",
    "NotificationRecord",
    "OutboxRecord",
    "Outgoing",
    "Pause",
    "Pruned",
    "QuarantinedBody",
    "Replay",
    "ReplayRefusedError",
    "Replayed",
    "Replica",
    "ReplicaSeen",
    "SchemaAheadError",
    "SchemaBehindError",
    "StateCount",
    "Timing",
    "Tls",
    "Upgraded",
    "WrongStateError",
    "check_url",
]
