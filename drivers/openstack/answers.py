"""What an answer of an OpenStack API means for us: pure, one place, each code with its reason.

The question is the one of ``drivers.errors``: may it have acted. A read never acts, so whatever
gives no answer is transient. For a write:

- 3xx: an endpoint that redirects is a wrong endpoint; the request went no further.
- 4xx: the service looked and refused, nothing is done. 409, and 400 where its words say that the
  volume's state forbids it, is a conflict: look again. A 404 in the service's own words that names
  what we named is "not found"; any other may be a proxy's.
- 401: comes through only after the token was renewed once, so the credentials are wrong.
- 408: a proxy gave up while it had the request; it may have passed it on.
- 413, 429: over a limit, turned away at the door.
- 500: Cinder's volume manager may be at it all the same: an RPC that timed out is a 500.
- 501: not implemented, so not done.
- 502, 503, 504 and other 5xx: of a proxy that may have passed the request on, or whose backend
  broke off after it had begun. HAProxy's own 503 means that it did not, but nothing in an answer
  proves whose 503 it is. Kubernetes' external-attacher holds UNAVAILABLE to be not final too.
- a success in a form that the service never gives: somebody else answered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from oslo_utils import strutils

from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)

LONGEST_WORDS = 300
STATE_FORBIDS = ("Invalid volume", "Invalid input received: Invalid volume")
EXPLAINED: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: ": the credentials are not accepted",
    HTTPStatus.FORBIDDEN: ": the configured user has no role that allows it",
    HTTPStatus.NOT_ACCEPTABLE: ": it does not speak the microversion that this needs",
}
SUCCESS, REDIRECT, CLIENT_ERROR = 2, 3, 4


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request as it is meant. ``request_id`` is what makes it a write.

    ``subjects`` are the ids of what it is about: a 404 has to name one of them to be believed.
    ``service_token`` asks for one to go along, where there is one.
    """

    method: str
    path: str
    microversion: str
    subjects: tuple[str, ...] = ()
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    request_id: str | None = None
    service_token: bool = False

    @property
    def writes(self) -> bool:
        """Tell whether it changes anything."""
        return self.request_id is not None

    def __str__(self) -> str:
        action = f" {next(iter(self.body))}" if self.body else ""
        return f"{self.method} {self.path}{action}"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A refusal as Cinder and Nova word it: ``{"itemNotFound": {"message": "..."}}``."""

    name: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the body where it is JSON (else None), the Retry-After header."""

    status: int
    document: Any
    retry_after: str | None = None

    @classmethod
    def read(cls, status: int, body: bytes, retry_after: str | None) -> Answer:
        """Parse the body; whatever is not JSON is None."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        return cls(status, document, retry_after)

    @property
    def fault(self) -> Fault | None:
        """The refusal in the service's own words, None where they are not its own."""
        if not isinstance(self.document, dict) or len(self.document) != 1:
            return None
        name, inner = next(iter(self.document.items()))
        message = inner.get("message") if isinstance(inner, dict) else None
        return Fault(name, message) if isinstance(message, str) else None


def refusal(service: str, call: Call, answer: Answer) -> OutsideError | None:
    """Return what the answer's status is for us, None where it is a success. Pure."""
    kind, said = answer.status // 100, _said(service, call, answer)
    if kind == SUCCESS:
        return None
    if answer.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.TOO_MANY_REQUESTS):
        return _over_limit(said, answer)
    if kind == REDIRECT:
        return PermanentError(f"{said}: it redirects; configure the endpoint that answers itself")
    final = kind == CLIENT_ERROR and answer.status != HTTPStatus.REQUEST_TIMEOUT
    if final or answer.status == HTTPStatus.NOT_IMPLEMENTED:
        return _refused(said, call, answer)
    return unanswered(said, call)


def unanswered(said: str, call: Call) -> OutsideError:
    """Return the kind of a call that has no answer of the service's own."""
    return IndeterminateError(said) if call.writes else TransientError(said)


def nonsense(service: str, call: Call, what: str) -> OutsideError:
    """Return the kind of a success that the service cannot have given."""
    return unanswered(f"{service}'s answer to {call} cannot be used: {what}", call)


def scrubbed(words: str) -> str:
    """Return what another side said as one short line, passwords and tokens masked."""
    return str(strutils.mask_password(" ".join(words.split())[:LONGEST_WORDS]))


def _said(service: str, call: Call, answer: Answer) -> str:
    words = f": {scrubbed(answer.fault.message)}" if answer.fault else ""
    return f"{service} answered {answer.status} to {call}{words}"


def _refused(said: str, call: Call, answer: Answer) -> OutsideError:
    if answer.status == HTTPStatus.NOT_FOUND:
        return _not_found(said, call, answer.fault)
    if _conflicts(answer):
        return ConflictError(said)
    return PermanentError(said + EXPLAINED.get(answer.status, ""))


def _not_found(said: str, call: Call, fault: Fault | None) -> OutsideError:
    if fault and any(subject in fault.message for subject in call.subjects):
        return NotFoundError(said)
    if fault is None and not call.writes:
        return TransientError(f"{said}, and not in its own words: perhaps a proxy")
    return PermanentError(said)


def _conflicts(answer: Answer) -> bool:
    if answer.status == HTTPStatus.CONFLICT:
        return True
    forbidden = answer.fault is not None and answer.fault.message.startswith(STATE_FORBIDS)
    return answer.status == HTTPStatus.BAD_REQUEST and forbidden


def _over_limit(said: str, answer: Answer) -> TransientError:
    asked = answer.retry_after or ""
    seconds = float(asked) if asked.isdecimal() else 0.0
    wish = f"; it asks us to wait {seconds:g} s" if seconds else ""
    return TransientError(f"{said}{wish}", retry_after_seconds=seconds)
