"""The status page over a real socket and a real ledger: what it shows, to whom, and how much."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sqlite3
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry

from consumer.ledger import Ledger, LedgerUnavailableError, Pause
from consumer.status import page as status_page
from consumer.status.page import StatusPage
from consumer.status.rendering import policy, style
from handlers.case import CaseState, UseCase
from handlers.judgement.guards import Guard
from handlers.judgement.policy import Mode
from metrics.exporter import Exporter
from tests.bus import until
from tests.unit.consumer.due import LAB, SLOW, open_case
from tests.unit.consumer.status.conftest import Site, fill, finished, seen
from tests.unit.handlers.judgement.acting_pictures import UC5

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><svg onload=alert(1)>",
    "{{ 7919 * 7919 }}{% include 'x' %}",
    "javascript:alert(1)",
    "admin\u202egpj.exe\u2066\u200f",
    "\x1b[31mred\x07",
    "n" * 10_000,
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "small", "p",
    "main", "section", "dl", "dt", "dd", "table", "thead", "tr", "th", "tbody", "td", "a", "span",
    "footer", "div", "ul", "ol", "li", "details", "summary", "pre", "code",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "class", "scope", "data-label", "href", "rel",
}  # fmt: skip


class Parsed(HTMLParser):
    """A page: its elements, its attributes and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += f"{data} "


def get(site: Site, below: str = "", **headers: str) -> requests.Response:
    """Ask for a page."""
    return requests.get(site.url(below), headers=headers, timeout=60)


def parsed(site: Site, below: str = "") -> Parsed:
    """Return a page that there has to be."""
    answer = get(site, below)
    assert answer.status_code == 200
    return Parsed(answer.text)


def test_what_is_stuck_by_backend_cause_and_age(site: Site) -> None:
    """Cases of every kind -> how many wait for a person, each cause with its number and age."""
    fill(site.ledger)
    text = " ".join(parsed(site).text.split())
    assert "16 cases wait for a person" in text
    assert "PAUSED by anna" in text
    assert "12 parked X3.backend-unknown slowhost@slow 12 - - -" in text
    assert "1 approve? UC4.wish-on-record labhost@lab 1 - - -" in text
    assert "1 to 17 of 17" in text, "the closed one is not among them"


def test_one_case_with_its_three_sides_its_plan_and_its_timeline(site: Site) -> None:
    """A case that awaits approval -> all that `case show` says, and the command to type."""
    case_id = fill(site.ledger)
    for named in (case_id, case_id[:13]):
        text = " ".join(parsed(site, f"/case/{named}").text.split())
        assert "detaching; cinder-volume of storage-1@tgt is up" in text
        assert "active on compute-1, compute up" in text
        assert "has access, 1 live session" in text
        assert "explained by attachment" in text
        assert "Nova: detach volume" in text
        assert f"{len(Guard) - 1} pass, 1 stop: APPROVE" in text
        assert f"detachd case approve {case_id[:8]} --plan" in text
        assert "message volume.attach.start from volume.labhost@lab" in text


def test_every_link_leads_to_a_page(site: Site) -> None:
    """Each link of the first page and of a case -> a page, and the filter is what it says."""
    case_id = fill(site.ledger)
    links = {*parsed(site).links, *parsed(site, f"/case/{case_id}").links}
    assert len(links) > 15
    for link in links:
        assert link.startswith("/status")
        parsed(site, link.removeprefix("/status"))
    narrowed = parsed(site, "?state=parked&backend=slowhost%40slow&rule=X3.backend-unknown")
    assert "Only parked, backend slowhost@slow, rule X3.backend-unknown" in narrowed.text


def test_a_closed_case_is_found_by_its_state(site: Site) -> None:
    """?state=closed -> the closed ones, and theirs is a page too."""
    fill(site.ledger)
    (link,) = (one for one in parsed(site, "?state=closed").links if "/case/" in one)
    closed = [c.case_id for c in site.ledger.cases(state=CaseState.CLOSED)]
    assert link.endswith(closed[0])
    assert "closed as healthy" in parsed(site, link.removeprefix("/status")).text


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name)[1:12])
def test_a_hostile_name_is_a_text_like_another(site: Site, name: str) -> None:
    """A name of a host, a backend, a server, a reason or a person -> no element, no attribute."""
    named: dict[str, Any] = {"host": name[:255], "instance_id": name[:36], "backend": name[:255]}
    hostile = seen(UC5, Mode.APPROVE) | {"reason": name, "rule": name[:64]}
    _poison(hostile["evidence"], name)
    case_id = finished(site.ledger, **named, **hostile)
    site.ledger.pause(name, name)
    site.ledger.write_note(case_id, name, name)
    for below in ("", f"/case/{case_id}", f"?backend={requests.utils.quote(name[:255])}"):
        page = get(site, below).text
        found = Parsed(page)
        assert found.tags <= TAGS
        assert found.attributes <= ATTRIBUTES
        assert all(link.startswith("/status") for link in found.links)
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x0b-\x1f]", page)
        assert "62710561" not in page  # nothing evaluates a template in a name
        assert len(page) < 60_000
    assert name[:8].strip("\x1b") in found.text or not name[:8].isprintable()


def _poison(look: dict[str, Any], name: str) -> None:
    """Put the name wherever a source could have said it."""
    look["cinder"]["backend"] = name
    look["cinder"]["attachments"] = [
        {"attachment_id": name, "status": name, "instance_id": name, "host": name}
    ]
    look["nova"] = {name: {"vm_state": name, "host": name, "compute_up": None, "task_state": name}}
    look["backend"] = {"connections": [{"name": name, "host": name, "access": True, "sessions": 1}]}
    look["parties"] = [{"who": name, "by": None}]
    look["reason"] = name


def test_an_unknown_page_or_filter_is_told(site: Site) -> None:
    """A path, an id, a state or a number that no link has -> 404 in words, and nothing of it."""
    for below in (
        "/case/", "/case/zz", "/case/abcd", "/case/../../etc/passwd", "/x", "?state=<b>", "?page=0",
        "?page=99999999999", "?page=\u0663", "?nonsense=1", "?backend=%00", "?backend=%ff",
        f"?host={'h' * 300}", "?" + "&".join(f"host={n}" for n in range(40)),
    ):  # fmt: skip
        answer = get(site, below)
        assert answer.status_code == 404, below
        assert "<b>" not in answer.text
        assert "Traceback" not in answer.text


def test_a_page_loads_runs_and_keeps_nothing(site: Site) -> None:
    """Every answer, also a refusal -> the headers that a browser holds it to."""
    case_id = fill(site.ledger)
    answers = [
        get(site),
        get(site, f"/case/{case_id}"),
        get(site, "/x"),
        get(site, Host="evil.example"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 403]
    for answer in answers:
        sent = answer.headers
        assert sent["Content-Security-Policy"] == policy()
        assert sent["X-Content-Type-Options"] == "nosniff"
        assert sent["Cache-Control"] == "no-store"
        assert sent["Content-Type"] == "text/html; charset=utf-8"
    assert "script" not in policy()
    assert "unsafe" not in policy()
    assert policy().startswith("default-src 'none'")
    assert "</" not in style()
    assert "url(" not in style()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:10713", 200), ("127.0.0.1", 200), ("[::1]:10713", 200), ("192.0.2.7:80", 200),
        ("evil.example", 403), ("evil.example:10713", 403), ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403), ("", 403), ("localhost@evil.example", 403),
    ],
)  # fmt: skip
def test_a_page_of_the_internet_cannot_read_along(site: Site, host: str, status: int) -> None:
    """A name that was resolved to this machine (DNS rebinding) -> nothing but a refusal."""
    fill(site.ledger)
    answer = get(site, Host=host)
    assert answer.status_code == status
    assert ("labhost" in answer.text) is (status == 200)


@pytest.mark.parametrize(
    ("client", "here"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.5", True), ("10.0.0.6", False), ("::ffff:10.0.0.6", False), ("", False),
        ("localhost", False),
    ],
)  # fmt: skip
def test_only_this_machine_gets_it(ledger: Ledger, client: str, *, here: bool) -> None:
    """The exporter listens where Prometheus reaches it -> the page still answers nobody else."""
    page = StatusPage(ledger, "north", "1.0", "10.0.0.5")
    answered: list[str] = []
    environ = {"REMOTE_ADDR": client, "HTTP_HOST": "localhost", "PATH_INFO": "/status"}
    page(environ, lambda status, headers, *_: answered.append(status))  # type: ignore[arg-type, return-value]
    assert answered == ["200 OK" if here else "403 Forbidden"]


@pytest.mark.slow
def test_a_thousand_cases_are_pages_of_fifty(site: Site) -> None:
    """1,000 cases -> each page is small and comes in time, and together they have all."""
    for _ in range(1000):
        open_case(site.ledger, backend=SLOW)
    found: list[str] = []
    below = ""
    for _ in range(20):
        answer = get(site, below)
        assert len(answer.content) < 80_000
        assert answer.elapsed.total_seconds() < 30
        links = Parsed(answer.text).links
        found += [link for link in links if "/case/" in link]
        below = next((one for one in links if "page=" in one), "").removeprefix("/status")
        onward = [one for one in links if "page=" in one]
        below = onward[-1].removeprefix("/status") if onward else ""
    assert len(found) == len(set(found)) == 1000


def test_a_long_history_shows_its_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """More moments than a page has room for -> the last ones, and how many are left out."""
    monkeypatch.setattr(status_page, "MOMENTS", 5)
    case_id = finished(site.ledger, **seen(UC5, Mode.OBSERVE))
    for number in range(10):
        site.ledger.write_note(case_id, "anna", f"note {number}")
    text = parsed(site, f"/case/{case_id}").text
    assert "8 earlier moments are left out" in text
    assert "note 9" in text
    assert "note 4" not in text


def test_it_changes_nothing(site: Site, tmp_path: Path) -> None:
    """Every page was asked for -> the ledger is what it was, and a write is refused."""
    case_id = fill(site.ledger)
    before = _everything(tmp_path)
    for below in ("", f"/case/{case_id}", "?state=closed"):
        get(site, below)
        assert requests.post(site.url(below), timeout=60).status_code == 405
    assert _everything(tmp_path) == before


def _everything(directory: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(directory / "ledger.sqlite")) as connection:
        return list(connection.iterdump())


class Away(Ledger):
    """A ledger whose database does not answer until it is let go."""

    def __init__(self) -> None:
        super().__init__("sqlite://///nowhere/at/all")
        self.asked = threading.Semaphore(0)
        self.let_go = threading.Event()

    def pauses(self) -> tuple[Pause, ...]:
        """Answer nothing, and after a while that it is away."""
        self.asked.release()
        self.let_go.wait(60)
        raise LedgerUnavailableError("the ledger does not answer")


@pytest.fixture
def away(site: Site) -> Iterator[tuple[Site, Away]]:
    """Serve the page of a ledger that hangs."""
    ledger = Away()
    page = StatusPage(ledger, "north", "1.0", "127.0.0.1")
    exporter = Exporter("127.0.0.1", 0, CollectorRegistry(), lambda: (), mounted={"/status": page})
    exporter.start()
    yield dataclasses.replace(site, ledger=ledger, port=exporter.port), ledger
    ledger.let_go.set()
    exporter.stop()


def test_a_ledger_that_hangs_leaves_threads_for_prometheus(away: tuple[Site, Away]) -> None:
    """More readers than pages may be made at once -> told to come again, and /metrics answers."""
    site, ledger = away
    answers: list[int] = []
    readers = [
        threading.Thread(target=lambda: answers.append(get(site).status_code)) for _ in range(2)
    ]
    for reader in readers:
        reader.start()
        assert ledger.asked.acquire(timeout=60)
    third = get(site)
    assert third.status_code == 503
    assert third.headers["Retry-After"]
    for path in ("metrics", "healthz"):
        assert requests.get(f"http://127.0.0.1:{site.port}/{path}", timeout=60).status_code == 200
    ledger.let_go.set()
    for reader in readers:
        reader.join(60)
    assert answers == [503, 503]
    until(lambda: "cannot be read: the ledger does not answer" in get(site).text)


def test_use_case_and_backend_of_a_case_that_waits(site: Site) -> None:
    """A case that nobody looked at yet -> its page says so, and no side is made up."""
    open_case(site.ledger, backend=LAB)
    (case,) = site.ledger.cases()
    text = parsed(site, f"/case/{case.case_id}").text
    assert "no look is on record" in text
    assert UseCase.UC1.value not in text
