"""What the service is doing now, for a person who wonders (SIGUSR2): threads, cases, configuration.

It is made by the main thread, which only waits otherwise, and never in the handler of the signal: a
handler runs between any two instructions, where a lock may be held that the report needs. Secrets
are masked by oslo.config; a stack shows lines of the program, and no values.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from oslo_config import cfg

from consumer.ledger import Ledger, LedgerError
from consumer.status.words import printable
from handlers.case import Case, CaseState

MOST_CASES = 100
OPEN = tuple(state for state in CaseState if state is not CaseState.CLOSED)


def report(head: str, stuck: Sequence[str], ledger: Ledger, conf: cfg.ConfigOpts) -> str:
    """Return the report. Blocks for the ledger, which may be away: the report says so then."""
    parts = {
        f"detachd report, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC": [head],
        "Loops that stand still": stuck or ["none"],
        "Threads": list(_threads()),
        f"Cases that are not closed, at most {MOST_CASES} of each state": list(_cases(ledger)),
        "Configuration": list(_configuration(conf)),
    }
    lines = (line for title, body in parts.items() for line in (f"=== {title} ===", *body, ""))
    return "\n".join(map(printable, lines))


def _threads() -> Iterator[str]:
    named = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way
        yield f"{named.get(ident, 'not of Python')} ({ident})"
        for entry in traceback.extract_stack(frame):
            yield f"    {entry.filename}:{entry.lineno} {entry.name}: {entry.line}"


def _cases(ledger: Ledger) -> Iterator[str]:
    try:
        for state in OPEN:
            yield from (_line(case) for case in ledger.cases(state=state, limit=MOST_CASES))
    except LedgerError as away:
        yield f"the ledger could not be read: {away}"


def _line(case: Case) -> str:
    return (
        f"{case.case_id} {case.state.value} volume={case.volume_id} backend={case.backend or '-'} "
        f"rule={case.rule or '-'} attempts={case.attempts} opened={case.opened_at:%Y-%m-%d %H:%M}"
    )


def _configuration(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield every option with its value, the secret ones masked."""
    # log_opt_values masks what is declared as secret, and only writes to a logger.
    lines = _Lines()
    conf.log_opt_values(lines, logging.INFO)
    yield from lines.lines


class _Lines:
    """Stands where oslo.config wants a logger, and keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, msg: object, *args: object) -> None:
        del level
        self.lines.append(str(msg) % args if args else str(msg))
