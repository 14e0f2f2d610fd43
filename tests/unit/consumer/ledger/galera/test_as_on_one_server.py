"""What the ledger's own tests say of claims, announcements, case files and intake, on a cluster.

They are the tests that run on each database: here ``ledger`` and ``second`` are different nodes.
"""

from tests.unit.consumer.ledger.intake.test_accept import *  # noqa: F403
from tests.unit.consumer.ledger.work.test_casefile import *  # noqa: F403
from tests.unit.consumer.ledger.work.test_claims import *  # noqa: F403
from tests.unit.consumer.ledger.work.test_finish import *  # noqa: F403
from tests.unit.consumer.ledger.work.test_outbox import *  # noqa: F403
