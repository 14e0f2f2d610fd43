"""The ledger: tables, migrations and all transactions of detachd.

The database is SQLite (WAL, synchronous=FULL) by default, or PostgreSQL or MariaDB (10.6 or newer).
A message is acked only after it is durable here, and an announcement is published only after it is
committed here. The rest of detachd uses the class ``Ledger`` only.
"""

from consumer.body_state import BodyState
from consumer.ledger.database.address import Tls, check_url
from consumer.ledger.database.cases import HistoryKind
from consumer.ledger.database.schema import Upgraded
from consumer.ledger.decisions.decisions import Decision, DecisionKind
from consumer.ledger.decisions.off_words import SaidOff
from consumer.ledger.decisions.pausing import Pause
from consumer.ledger.errors import (
    ClusterUnfitError,
    LedgerError,
    LedgerUnavailableError,
    LedgerUrlError,
    NoSuchBodyError,
    NoSuchCaseError,
    NoSuchFenceError,
    NoSuchHostError,
    PlanChangedError,
    SchemaAheadError,
    SchemaBehindError,
    WrongStateError,
)
from consumer.ledger.history.archive import Archived, Pruned
from consumer.ledger.history.reading import (
    CaseRecord,
    Filter,
    HistoryRecord,
    IntentRecord,
    Listing,
    NotificationRecord,
    OutboxRecord,
    StateCount,
)
from consumer.ledger.intake.accept import Accepted, Arrival
from consumer.ledger.intake.quarantine import QuarantinedBody
from consumer.ledger.intake.replay import Replay, Replayed
from consumer.ledger.ledger import Ledger
from consumer.ledger.periodic.replicas import Replica, ReplicaSeen
from consumer.ledger.work.allowances import Brake
from consumer.ledger.work.claims import Claim
from consumer.ledger.work.on_record import OnRecord
from consumer.ledger.work.outbox import Outgoing
from handlers.correlation.matching import Timing
from handlers.correlation.rearming import ReplayRefusedError

__all__ = [
    "Accepted",
    "Archived",
    "Arrival",
    "BodyState",
    "Brake",
    "CaseRecord",
    "Claim",
    "ClusterUnfitError",
    "Decision",
    "DecisionKind",
    "Filter",
    "HistoryKind",
    "HistoryRecord",
    "IntentRecord",
    "Ledger",
    "LedgerError",
    "LedgerUnavailableError",
    "LedgerUrlError",
    "Listing",
    "NoSuchBodyError",
    "NoSuchCaseError",
    "NoSuchFenceError",
    "NoSuchHostError",
    "NotificationRecord",
    "OnRecord",
    "OutboxRecord",
    "Outgoing",
    "Pause",
    "PlanChangedError",
    "Pruned",
    "QuarantinedBody",
    "Replay",
    "ReplayRefusedError",
    "Replayed",
    "Replica",
    "ReplicaSeen",
    "SaidOff",
    "SchemaAheadError",
    "SchemaBehindError",
    "StateCount",
    "Timing",
    "Tls",
    "Upgraded",
    "WrongStateError",
    "check_url",
]
