"""The status page: what is stuck, and one case, for a browser. It reads the ledger and no more.

1. It has no authentication, so it answers only this machine, and only under a name of this machine:
   a page of the internet that a browser here has open could otherwise have its own name resolved to
   this address, and read along. From elsewhere a person comes by ``ssh -L``.
2. A page is bounded: ``CASES`` a page, ``GROUPED`` cases by cause, ``MOMENTS`` of a case's course,
   and no text longer than ``rendering.LONGEST``.
3. ``AT_ONCE`` are made at the same time, fewer than the exporter has threads, so that a ledger that
   hangs leaves threads for Prometheus and the supervisor.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from consumer.ledger import Filter, LedgerError, NoSuchCaseError
from consumer.status import one_case, rows, standing, timeline
from consumer.status.rendering import policy, render
from handlers.case import OPEN_STATES, CaseState
from handlers.recovery.explanation import NOT_RECORDED, SHOWN_FINGERPRINT

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from consumer.ledger import CaseRecord, Ledger

PATH = "/status"
AT_ONCE = 2
CASES, GROUPED, GROUPS, MOMENTS = 50, 2000, 40, 400
# Checked before the ledger is asked: the path may hold anything.
CASE_ID = re.compile(r"[0-9a-f][0-9a-f-]{3,63}")
# A page is skipped to in the database: what is farther costs as much as all before it.
LAST_PAGE = 1000
FILTERS = ("backend", "rule", "host", "server", "volume", "project")
LONGEST_FILTER = 255


class NoSuchPageError(Exception):
    """There is no such page; the status page begins at /status."""


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """Which cases the first page is to list: by state, by what else, and which page of them."""

    states: tuple[CaseState, ...]
    others: Mapping[str, str]
    page: int = 1

    def filter(self) -> Filter:
        """Return it for the ledger."""
        states = self.states or OPEN_STATES
        wanted = Filter(states=states, limit=CASES, skip=CASES * (self.page - 1))
        return dataclasses.replace(wanted, **dict[str, Any](self.others))

    def link(self, **changed: Any) -> str:
        """Return the address of the page that differs from this one in what is given."""
        asked = dataclasses.replace(self, **changed)
        pairs = [("state", state.value) for state in asked.states]
        pairs += [(name, value) for name, value in asked.others.items() if value]
        pairs += [("page", str(asked.page))] if asked.page > 1 else []
        return f"{PATH}?{urlencode(pairs)}" if pairs else PATH


@dataclasses.dataclass(frozen=True, slots=True)
class StatusPage:
    """The pages below ``/status`` as a WSGI application. Thread-safe; blocks for the ledger.

    ``address`` is where the exporter listens, ``cloud`` and ``version`` are shown.
    """

    ledger: Ledger
    cloud: str
    version: str
    address: str
    _room: threading.BoundedSemaphore = dataclasses.field(
        default_factory=lambda: threading.BoundedSemaphore(AT_ONCE)
    )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request of the exporter."""
        status, page = self._answer(environ)
        start_response(f"{status.value} {status.phrase}", _headers(page, status))
        return [page]

    def _answer(self, environ: WSGIEnvironment) -> tuple[HTTPStatus, bytes]:
        if refused := _refused(environ, self.address):
            return _notice(HTTPStatus.FORBIDDEN, refused)
        # Not waited for: a thread of the exporter that waits here is one that Prometheus does not
        # get.
        if not self._room.acquire(blocking=False):
            busy = "Other pages are being made. Load this one again in a moment."
            return _notice(HTTPStatus.SERVICE_UNAVAILABLE, busy)
        try:
            return HTTPStatus.OK, self._page(environ)
        except (NoSuchCaseError, NoSuchPageError) as error:
            return _notice(HTTPStatus.NOT_FOUND, str(error) or str(type(error).__doc__))
        except LedgerError as error:
            return _notice(HTTPStatus.SERVICE_UNAVAILABLE, f"The ledger cannot be read: {error}")
        finally:
            self._room.release()

    def _page(self, environ: WSGIEnvironment) -> bytes:
        path = str(environ.get("PATH_INFO", "")).rstrip("/")
        if path == PATH:
            return self._overview(asked_for(str(environ.get("QUERY_STRING", ""))))
        case_id = path.removeprefix(f"{PATH}/case/")
        if not CASE_ID.fullmatch(case_id):
            raise NoSuchPageError
        return self._case(self.ledger.case(case_id))

    def _overview(self, asked: Asked) -> bytes:
        now = datetime.now(UTC)
        stands = standing.read(self.ledger)
        listed = self.ledger.list_cases(asked.filter())
        # All open ones, also where the list is filtered: the groups say what there is to choose.
        every = self.ledger.list_cases(Filter(states=OPEN_STATES, limit=GROUPED))
        groups = rows.grouped(every.cases)
        shown = [*zip(groups, rows.of_groups(groups, now), strict=True)][:GROUPS]
        return render(
            "overview.html",
            {
                **self._frame(now),
                "waiting": sum(len(g.cases) for g in groups if g.cases[0].state in FOR_A_PERSON),
                "sentences": standing.sentences(stands, self.version, now),
                "backends": [standing.row(name, n) for name, n in standing.by_name(stands)],
                "steps": rows.STEPS,
                "groups": [
                    (cells, rows.by_age(group, now), _link_to(group)) for group, cells in shown
                ],
                "more_groups": len(groups) - len(shown),
                "grouped": (len(every.cases), every.total),
                "cases": [
                    (cells, f"{PATH}/case/{case.case_id}")
                    for case, cells in zip(
                        listed.cases, rows.of_cases(listed.cases, now), strict=True
                    )
                ],
                **_pages(asked, len(listed.cases), listed.total),
            },
        )

    def _case(self, record: CaseRecord) -> bytes:
        now, case = datetime.now(UTC), record.case
        told = one_case.explanation(record)
        moments = timeline.moments(record)
        shown, began = moments[-MOMENTS:], moments[0].at if moments else now
        return render(
            "case.html",
            {
                **self._frame(now),
                "case": case,
                "in_short": one_case.in_short(case, now),
                "reason": _more_than(case.reason, told.reason),
                "told": told,
                "now": now,
                "fingerprint": (told.fingerprint or "")[:SHOWN_FINGERPRINT],
                "not_recorded": NOT_RECORDED,
                "began": f"{began:%Y-%m-%d %H:%M:%S} UTC" if moments else "",
                "moments": [
                    (m.lane, timeline.LANES[m.lane], m.text, f"+{since}", gap)
                    for m, since, gap in timeline.with_gaps(shown, began)
                ],
                "earlier": len(moments) - len(shown),
            },
        )

    def _frame(self, now: datetime) -> dict[str, Any]:
        return {
            "cloud": self.cloud,
            "version": self.version,
            "made_at": f"{now:%Y-%m-%d %H:%M:%S} UTC",
            "home": PATH,
        }


FOR_A_PERSON = frozenset({CaseState.PARKED, CaseState.AWAITING_APPROVAL})


def asked_for(query: str) -> Asked:
    """Read the query of the first page. Raises NoSuchPageError for what no link of ours has."""
    try:
        # Strict: a byte that is no UTF-8 would become another filter, and show a list of something
        # else.
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=16)
        states = tuple(CaseState(value) for name, value in pairs if name == "state")
        page = next((_number(value) for name, value in pairs if name == "page"), 1)
    except ValueError as error:  # UnicodeDecodeError is one
        raise NoSuchPageError from error
    others = {name: value for name, value in pairs if name not in ("state", "page")}
    # PostgreSQL takes no NUL in a text, and would answer with an error.
    long = any(len(value) > LONGEST_FILTER or "\0" in value for value in others.values())
    if long or not set(others) <= set(FILTERS):
        raise NoSuchPageError
    return Asked(tuple(dict.fromkeys(states)), others, page)


def _number(text: str) -> int:
    # int() also takes digits of other scripts, blanks and signs, and huge numbers slowly.
    number = int(text) if text.isascii() and text.isdigit() and len(text) < len(str(10**6)) else 0
    if not 1 <= number <= LAST_PAGE:
        raise NoSuchPageError
    return number


def _link_to(group: rows.Group) -> str:
    one = group.cases[0]
    others = {"backend": one.backend or "", "rule": one.rule or ""}
    return Asked((one.state,), others).link()


def _pages(asked: Asked, shown: int, total: int) -> dict[str, Any]:
    """Return what the list says of the cases that it leaves out."""
    before = CASES * (asked.page - 1)
    chosen = [state.value for state in asked.states]
    chosen += [f"{name} {value}" for name, value in asked.others.items()]
    return {
        "asked": ", ".join(chosen),
        "first": before + 1 if shown else 0,
        "last": before + shown,
        "total": total,
        "previous": asked.link(page=asked.page - 1) if asked.page > 1 else None,
        "next": asked.link(page=asked.page + 1) if before + shown < total and shown else None,
    }


def _more_than(reason: str | None, told: str) -> str | None:
    """Return the reason of a case where it is not that of the last look."""
    return reason if reason and not reason.startswith(told) else None


def _notice(status: HTTPStatus, text: str) -> tuple[HTTPStatus, bytes]:
    return status, render("notice.html", {"title": status.phrase, "text": text, "home": PATH})


def _headers(page: bytes, status: HTTPStatus) -> list[tuple[str, str]]:
    again = [("Retry-After", "2")] if status is HTTPStatus.SERVICE_UNAVAILABLE else []
    return [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(page))),
        ("Content-Security-Policy", policy()),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        *again,
    ]


# -- who may ask -----------------------------------------------------------------------------------


def _refused(environ: WSGIEnvironment, address: str) -> str | None:
    """Return why this client gets no page, or None."""
    client = str(environ.get("REMOTE_ADDR", ""))
    if not _is_here(client, address):
        return (
            "The status page answers this machine alone, as it has no authentication. "
            "Use ssh -L, or a proxy on this machine that asks who you are."
        )
    if not _is_our_name(str(environ.get("HTTP_HOST", ""))):
        return (
            "The status page is asked under a name that is not its own: use localhost or an IP "
            "address. A proxy has to set the header Host to one of these."
        )
    return None


def _is_here(client: str, address: str) -> bool:
    """Tell whether a client is on this machine: on loopback, or by the address listened on."""
    try:
        ip = ipaddress.ip_address(client)
    except ValueError:
        return False
    # A socket that listens on IPv6 shows a client of IPv4 as ::ffff:127.0.0.1.
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    # A connection from this machine to its own outer address comes from that address.
    return bool(mapped.is_loopback) or str(mapped) == address


def _is_our_name(host: str) -> bool:
    """Tell whether the header ``Host`` names an IP address or localhost, with a port or without."""
    name = re.sub(r":[0-9]{1,5}$", "", host).strip("[]").lower()
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
