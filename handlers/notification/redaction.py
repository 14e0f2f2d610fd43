"""Removes from a text whatever looks like a credential."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

# Every repetition is bounded or ends in a match, so that no text takes more than linear time.
_STEM = (
    r"(?:passw(?:or)?d|pswd|passphrase|(?:admin|new|rescue|root)pass|(?<![a-z])pass(?![a-z])"
    r"|secret|token|credential|chap|user_?data|connection_info"
    r"|(?:api|access|private|encrypted|ssl)key|(?<![a-z])key(?:ring)?(?![a-z])"
    r"|(?<![a-z])auth(?:orization)?(?![a-z]))[\w.\-]{0,64}"
)
_SEPARATOR = r"(?:[\"'] ?, ?[ub]?[\"']value[\"'] ?: ?|[\"']? ?[:=] ?|[\"'] ?, ?(?=[ub]?[\"']))"
# A list, an object or JSON text under such a key takes the rest of the text with it. Elsewhere a
# quotation mark ends the value, but only where something follows that can follow a value.
_VALUE = (
    r"(?:[ub]?[\"']?[\[{(].*\Z"
    r"|[ub]?(?P<quote>[\"']).*?(?:(?P=quote)(?=[\s,;:)}\]>&]|\Z)|\Z)"
    r"|(?:(?:bearer|basic|negotiate) )?[^\s&]+)"
)
_RULES = (
    (r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY.*?(?:-----END [A-Z ]+-----|\Z)", "***"),
    (r"gAAAA[\w\-]{4,}=*", "***"),
    (r"(?<![\w\-])eyJ[\w\-]{4,}\.[\w\-.]{4,}", "***"),
    (r"(?<=://)[^\s/]*@", "***@"),
    (r"(?<=://)[^\s/:@]{0,256}:[^\s@]{0,256}@", "***@"),
    (r"(\bCHAP |\b(?:incoming|outgoing)user )(?!\*{3})\S+ [^\s'\"]+", r"\1***"),
    (rf"(?i)((?<![\w\-])--[\w\-]{{0,64}}{_STEM}['\"]?,? )\S+", r"\1***"),
    (rf"(?i)({_STEM}{_SEPARATOR}){_VALUE}", r"\1***"),
)
_QUOTE_ESCAPES = re.compile(r"(?<!\\)\\+(?=[\"'])")
LONGEST_READ = 8000


def scrub(text: str) -> str:
    """Return the text on one line and without whatever looks like a credential.

    Removes the values of keys that name one (password, secret, token, key, auth_password,
    provider_auth, user_data, connection_info ...) in JSON, Python, option and query forms, user and
    password of URLs, CHAP pairs, Fernet and JSON web tokens, private keys. Rather removes too much
    than too little. Takes linear time; raises nothing.
    """
    printable = "".join(c if c.isprintable() else " " for c in text)
    scrubbed = _QUOTE_ESCAPES.sub("", " ".join(printable.split()))
    rules, mask_password = _compiled()
    for pattern, replacement in rules:
        scrubbed = pattern.sub(replacement, scrubbed)
    return mask_password(scrubbed)


@functools.cache
def _compiled() -> tuple[tuple[tuple[re.Pattern[str], str], ...], Callable[[str], str]]:
    """Return our rules and oslo.utils' own, compiled when the first text needs them.

    That takes a tenth of a second, which no command has to wait for that scrubs nothing.
    """
    from oslo_utils import strutils  # noqa: PLC0415 - compiles its rules at its import

    compiled = tuple((re.compile(rule), replacement) for rule, replacement in _RULES)
    return compiled, strutils.mask_password


def excerpt(text: str, length: int) -> str:
    """Return at most so many characters of the scrubbed text, however long the text is."""
    scrubbed = scrub(text[:LONGEST_READ])
    if len(text) > LONGEST_READ and len(scrubbed) <= length:
        # Half a credential at the cut might not have been known as one.
        scrubbed = scrubbed.rpartition(" ")[0]
    return scrubbed[:length]
