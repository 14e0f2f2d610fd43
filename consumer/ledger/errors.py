"""What the ledger raises. ClaimLostError and PausedError are in handlers/case.py."""

from __future__ import annotations

from consumer.errors import BadInputError


class LedgerError(Exception):
    """Something is wrong with the ledger."""


class LedgerUrlError(LedgerError, BadInputError, ValueError):
    """The ledger's URL cannot be used."""


class LedgerUnavailableError(LedgerError):
    """The ledger's database cannot be reached or refuses to work."""


class SchemaBehindError(LedgerError):
    """The ledger's tables are older than this program: run `detachd ledger upgrade`."""


class SchemaAheadError(LedgerError):
    """The ledger's tables are newer than this program: run the newer detachd."""


class ClusterUnfitError(LedgerError):
    """The database is a Galera cluster whose settings break what the ledger needs."""


class NoSuchCaseError(LedgerError, BadInputError):
    """There is no case of that id."""


class NoSuchBodyError(LedgerError, BadInputError):
    """There is no quarantined body of that hash."""


class WrongStateError(LedgerError, BadInputError):
    """The state of the case does not allow this."""


class PlanChangedError(WrongStateError):
    """The plan that was shown is not the plan of the case any more."""


class NoSuchFenceError(LedgerError, BadInputError):
    """No fence has this number."""


class NoSuchHostError(LedgerError, BadInputError):
    """No word says that this host is powered off."""
