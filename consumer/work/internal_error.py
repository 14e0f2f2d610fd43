"""What becomes of a case whose attempt ended in an error, of detachd itself or of its ledger."""

from __future__ import annotations

from consumer.ledger import Claim, LedgerUnavailableError
from handlers.announcement import Event, Told, announce
from handlers.case import Announcement, CaseState, Outcome
from handlers.judgement.policy import BackendPolicy
from handlers.judgement.verdict import Diagnosis, Verdict
from handlers.recovery.retry import delay_seconds

RULE = "internal-error"
AWAY = "ledger-away"


def internal_error(claim: Claim, error: Exception, policy: BackendPolicy) -> Outcome:
    """Return the outcome: again after a backoff, or parked when the failures are spent. Pure.

    So a case that always ends this way, a bug of ours, neither stops the others nor is worked for
    ever. The reason names the error's class only: its text may hold anything.
    """
    failures = claim.case.failures + 1
    rule, reason = RULE, f"internal error: {type(error).__name__}"
    if isinstance(error, LedgerUnavailableError):
        rule, reason = AWAY, "the ledger's database was away while the case was worked"
    spent = failures >= policy.max_failures
    return Outcome(
        state=CaseState.PARKED if spent else CaseState.DUE,
        rule=rule,
        verdict=Verdict.UNKNOWN.value,
        reason=reason,
        delay_seconds=None if spent else delay_seconds(failures, policy),
        conclusion=None,
        use_case=None,
        verified_by=None,
        failed=True,
        mended=False,
        clean=False,
        fingerprint=None,
        evidence={},
        announcements=(_parked(claim, rule, reason),) if spent else (),
    )


def _parked(claim: Claim, rule: str, reason: str) -> Announcement:
    diagnosis = Diagnosis(Verdict.UNKNOWN, rule, reason, use_case=None, situation=None)
    return announce(claim.case, diagnosis, Told(Event.PARKED, claim.claimed_at, (), reason))
