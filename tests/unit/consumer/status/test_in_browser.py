"""The status page in a real browser: what it loads, whether it fits, and that nothing runs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from consumer.status.rendering import policy, style
from handlers.judgement.policy import Mode
from metrics.exporter import Exporter
from tests.services.chromium import Chromium
from tests.unit.consumer.status.conftest import Site, fill, finished, seen
from tests.unit.consumer.status.test_page import HOSTILE
from tests.unit.handlers.judgement.acting_pictures import UC5

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

WIDE, NARROW = (1280, 900), (390, 844)
LIGHT_GROUND, DARK_GROUND = (0xFB, 0xFB, 0xFA), (0x14, 0x17, 0x1A)
RATIO = """
(selector) => {
  const light = (colour) => {
    const of = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(of);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
    }
  };
  return Math.min(...[...document.querySelectorAll(selector)].map((e) => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}
"""
"""The least contrast of texts with their ground, as WCAG 2.1 reckons it."""


def first_pixel(png: bytes) -> tuple[int, ...]:
    """Return the colour of the upper left pixel, which no filter of PNG changes."""
    data, at = b"", 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return tuple(zlib.decompress(data)[1:4])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_page_fits_and_can_be_read(
    site: Site, chromium: Chromium, size: tuple[int, int], *, dark: bool
) -> None:
    """Wide and narrow, light and dark -> as wide as the window, enough contrast, one request."""
    case_id = fill(site.ledger)
    chromium.look(*size, dark=dark)
    for below in ("", f"/case/{case_id}"):
        loaded = chromium.open(site.url(below))
        assert loaded.status == 200
        assert loaded.asked == (site.url(below),)
        assert loaded.complaints == ()
        assert chromium.ask("document.documentElement.scrollWidth") == size[0]
        assert chromium.ask(f"({RATIO})('h1, h2, h3, p, td, dt, dd, li, a, .state')") >= 4.5
        assert first_pixel(chromium.screenshot()) == (DARK_GROUND if dark else LIGHT_GROUND)
    shown = "getComputedStyle(document.querySelector('thead')).display"
    chromium.open(site.url())
    assert (chromium.ask(shown) == "none") is (size == NARROW), "rows stand below each other"


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_hostile_names_are_texts_in_a_browser(
    site: Site, chromium: Chromium, size: tuple[int, int]
) -> None:
    """Names that would be scripts, attributes or endless -> nothing runs, and the page fits."""
    for name in HOSTILE:
        hostile = seen(UC5, Mode.OBSERVE) | {"reason": name, "rule": name[:64]}
        case_id = finished(site.ledger, host=name[:255], backend=name[:255], **hostile)
    chromium.look(*size, dark=False)
    for below in ("", f"/case/{case_id}"):
        loaded = chromium.open(site.url(below))
        assert loaded.asked == (site.url(below),)
        assert loaded.complaints == ()
        assert chromium.ask("document.querySelectorAll('script, img, svg, iframe').length") == 0
        assert chromium.ask("document.documentElement.scrollWidth") == size[0]
        assert chromium.ask("document.documentElement.scrollHeight") < 20_000
    assert chromium.ask("document.body.innerText.includes('nnnn')")


@pytest.fixture
def unescaped() -> Iterator[tuple[int, list[str]]]:
    """Serve what an escape that was forgotten would let through, with the headers of the page."""
    hostile = (
        b"<title>whole</title><style>h1 { color: rgb(255, 0, 0) }</style>"
        b"<h1 style='color: rgb(255, 0, 0)'>x</h1><script>document.title = 'ran'</script>"
        b"<img src=/status/other onerror=\"document.title = 'ran'\"><base href=http://192.0.2.1/>"
    )

    asked: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked.append(environ["PATH_INFO"])
        csp = ("Content-Security-Policy", policy())
        start_response("200 OK", [("Content-Type", "text/html"), csp])
        return [hostile, b"<style>", style().encode(), b"</style>"]

    exporter = Exporter("127.0.0.1", 0, CollectorRegistry(), lambda: (), mounted={"/status": app})
    exporter.start()
    yield exporter.port, asked
    exporter.stop()


def test_the_policy_stands_behind_the_escape(
    unescaped: tuple[int, list[str]], chromium: Chromium
) -> None:
    """An escape was forgotten -> the browser runs, loads and styles nothing of it all the same."""
    port, asked = unescaped
    chromium.look(*WIDE, dark=False)
    loaded = chromium.open(f"http://127.0.0.1:{port}/status")
    assert loaded.status == 200
    assert chromium.ask("document.title") == "whole"
    assert asked == ["/status"]
    colour = chromium.ask("getComputedStyle(document.querySelector('h1')).color")
    assert colour != "rgb(255, 0, 0)"
    assert chromium.ask("getComputedStyle(document.querySelector('h1')).fontSize") == "24px"
    assert chromium.ask("document.baseURI") == f"http://127.0.0.1:{port}/status"
    assert len(loaded.complaints) >= 3
