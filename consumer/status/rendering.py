"""The pages for the browser, as HTML. Pure but for the templates, which are read once.

What is shown comes from the bus, from Cinder, Nova and the backends, so any text may be hostile.
What keeps it harmless, for every expression of every template:

1. Jinja2 escapes it (docs/decisions/0022). Nothing is marked as safe but the style sheet.
2. Before that ``_shown`` makes it ``printable``: no control character, and nothing that turns the
   direction of text. It also cuts it, so that one long name fills no page.
3. The pages have no script, and ``POLICY`` permits none. It permits one style sheet, by its hash.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from consumer.status.words import ago, cut, printable

LONGEST, LONGEST_CELL = 1500, 200
"""How many characters of one text are shown, and of one in a list."""


@functools.cache
def style() -> str:
    """Return the style sheet of all pages."""
    return (resources.files(__package__) / "templates" / "style.css").read_text("utf-8")


@functools.cache
def policy() -> str:
    """Return the Content-Security-Policy: nothing is loaded, run, sent or framed."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """Return a page. ``values`` are what the template names, and no more is needed."""
    page = _environment().get_template(template)
    # The only text that is taken as it is; it is a file of this package.
    sheet = Markup(style())  # noqa: S704
    return page.render(values, style=sheet).encode()


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("consumer.status"),
        # For every template, whatever its file is called.
        autoescape=True,
        # A name that is misspelt in a template is an error, and no empty place.
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["cell"] = lambda value: cut(printable(str(value)), LONGEST_CELL)
    made.filters["ago"] = ago
    return made


def _shown(value: object) -> object:
    """Return what an expression of a template puts onto the page, before it is escaped."""
    # Our style sheet; it is longer than any text may be.
    if isinstance(value, Markup):
        return value
    return cut(printable(str(value)), LONGEST)
