"""One OpenStack API, called through keystoneauth, with time limits and our three kinds of error.

keystoneauth does what is easy to do wrong: the auth plugins, the catalog, one renewal of a token
that was refused. It repeats nothing here and follows no redirect: what may be repeated is decided
where it is known what a call may have done.

What an answer means for us is decided in one place, each code with its reason. The question is the
one of ``drivers.errors``: may it have acted. A read never acts, so whatever gives no answer is
transient. For a write:

- 3xx: an endpoint that redirects is a wrong endpoint; the request went no further.
- 4xx: the service looked and refused, nothing is done. 409, and 400 where its words say that the
  volume's state forbids it, is a conflict: look again. A 404 in the service's own words that names
  what we named is "not found"; any other may be a proxy's.
- 401: comes through only after the token was renewed once, so the credentials are wrong.
- 408: a proxy gave up while it had the request; it may have passed it on.
- 413, 429: over a limit, refused before anything is done.
- 500: Cinder's volume manager may still carry it out: an RPC that timed out is a 500.
- 501: not implemented, so not done.
- 502, 503, 504 and other 5xx: of a proxy that may have passed the request on, or whose backend
  broke off after it had begun. HAProxy's own 503 means that it did not, but nothing in an answer
  proves whose 503 it is. Kubernetes' external-attacher holds UNAVAILABLE to be not final too.
- a success in a form that the service never gives: another program answered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1.adapter import Adapter
from keystoneauth1.discover import Discover
from keystoneauth1.plugin import BaseAuthPlugin
from oslo_utils import strutils

from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.openstack import exchange
from drivers.openstack.place import Place, ambiguity
from drivers.openstack.shapes import NotAdminError, ShapeError

T = TypeVar("T")

# The text becomes a case's reason, and a line of a list.
LONGEST_WORDS = 300
# Cinder answers 400 and not 409 where a volume's status forbids a call; Nova passes these words on.
STATE_FORBIDS = ("Invalid volume", "Invalid input received: Invalid volume")
EXPLAINED: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: ": the credentials are not accepted",
    HTTPStatus.FORBIDDEN: ": the configured user has no role that allows it",
    HTTPStatus.NOT_ACCEPTABLE: ": it does not support the microversion that this needs",
}
SUCCESS, REDIRECT, CLIENT_ERROR = 2, 3, 4


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request as it is meant. ``request_id`` is what makes it a write.

    ``subjects`` are the ids of what it is about: a 404 has to name one of them to be believed.
    ``checked``: Cinder asks Nova before it, unless it carries a service token. ``service_token``
    sends one along, where there is one.
    """

    method: str
    path: str
    microversion: str
    subjects: tuple[str, ...] = ()
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    request_id: str | None = None
    checked: bool = False
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
        # A proxy's page of HTML, or nothing: the status alone has to do then.
        except orjson.JSONDecodeError:
            document = None
        return cls(status, document, retry_after)

    @property
    def fault(self) -> Fault | None:
        """The refusal in the service's own words, None where they are not its own."""
        # One key, with a message in it: a proxy's JSON does not look like this.
        if not isinstance(self.document, dict) or len(self.document) != 1:
            return None
        name, inner = next(iter(self.document.items()))
        message = inner.get("message") if isinstance(inner, dict) else None
        return Fault(name, message) if isinstance(message, str) else None


def refusal(service: str, call: Call, answer: Answer) -> OutsideError | None:
    """Return what the answer's status is for us, None where it is a success. Pure."""
    kind, message = answer.status // 100, _message(service, call, answer)
    if kind == SUCCESS:
        return None
    # First of all: 413 and 429 are 4xx, and would be "refused for good".
    if answer.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.TOO_MANY_REQUESTS):
        return _over_limit(message, answer)
    if kind == REDIRECT:
        return PermanentError(
            f"{message}: it redirects; configure an endpoint that answers without a redirect"
        )
    # 408 is the one 4xx that is no word of the service's.
    final = kind == CLIENT_ERROR and answer.status != HTTPStatus.REQUEST_TIMEOUT
    if final or answer.status == HTTPStatus.NOT_IMPLEMENTED:
        return _refused(message, call, answer)
    return unanswered(message, call)


def unanswered(message: str, call: Call) -> OutsideError:
    """Return the kind of a call that has no answer of the service's own."""
    return IndeterminateError(message) if call.writes else TransientError(message)


def scrubbed(words: str) -> str:
    """Return the text of another program as one short line, passwords and tokens masked."""
    return str(strutils.mask_password(" ".join(words.split())[:LONGEST_WORDS]))


def _message(service: str, call: Call, answer: Answer) -> str:
    words = f": {scrubbed(answer.fault.message)}" if answer.fault else ""
    return f"{service} answered {answer.status} to {call}{words}"


def _refused(message: str, call: Call, answer: Answer) -> OutsideError:
    if answer.status == HTTPStatus.NOT_FOUND:
        return _not_found(message, call, answer.fault)
    if _conflicts(answer):
        return ConflictError(message)
    return PermanentError(message + EXPLAINED.get(answer.status, ""))


def _not_found(message: str, call: Call, fault: Fault | None) -> OutsideError:
    # A 404 of a wrong URL, or of a proxy, names nothing that we have named.
    if fault and any(subject in fault.message for subject in call.subjects):
        return NotFoundError(message)
    # Not the service's own words: perhaps a proxy's, whose next answer may be another.
    if fault is None and not call.writes:
        return TransientError(f"{message}, and not in its own words: perhaps a proxy answered")
    return PermanentError(message)


def _conflicts(answer: Answer) -> bool:
    if answer.status == HTTPStatus.CONFLICT:
        return True
    forbidden = answer.fault is not None and answer.fault.message.startswith(STATE_FORBIDS)
    return answer.status == HTTPStatus.BAD_REQUEST and forbidden


def _over_limit(message: str, answer: Answer) -> TransientError:
    asked = answer.retry_after or ""
    # The header may be a date instead; then our own backoff has to do.
    seconds = float(asked) if asked.isdecimal() else 0.0
    wish = f"; it asks us to wait {seconds:g} s" if seconds else ""
    return TransientError(f"{message}{wish}", retry_after_seconds=seconds)


# keystoneauth reads tokens, catalogs and version documents without checking their shape first.
BROKEN_ANSWERS = (LookupError, TypeError, ValueError, AttributeError)
REPEATABLE = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS,
)
# The catalog or the plugin failed: there was no URL, or no token, to send the call with.
NEVER_SENT = (ksa.AuthorizationFailure, ksa.AuthPluginException, ksa.CatalogException)

VERSIONED = re.compile(r".*?/v\d+(\.\d+)?(?=/|$)")
AUTHENTICATED_BY = "X-Auth-Token"
Microversion = tuple[int | float, ...]


ROOT = Call("GET", "/", "")
"""What errors name where no call of ours is meant, but the catalog or the versions."""


class Endpoint:
    """One API. Thread-safe.

    ``name`` is what errors call it, ``section`` the one that configures it. ``service_auth`` is an
    auth plugin that sends a service token along: with the calls that ask for one, and where
    ``always_sends_token`` with each that Cinder checks.
    """

    def __init__(
        self,
        name: str,
        section: str,
        adapter: Adapter,
        service_auth: BaseAuthPlugin | None = None,
        *,
        always_sends_token: bool = False,
    ) -> None:
        self.name = name
        self.section = section
        self._adapter = adapter
        self._service_auth = service_auth
        self._always_sends_token = always_sends_token
        # Asked once for all threads; two that ask at once get the same answer.
        self._newest: Microversion | None = None
        self._unambiguous: Any = None  # the token whose catalog was found to name one region

    @property
    def has_service_token(self) -> bool:
        """Tell whether a call can carry a service token."""
        return self._service_auth is not None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[Conversation]:
        """Open a conversation that takes no longer than ``seconds`` in all, tokens included."""
        with exchange.within(seconds) as bounded:
            yield Conversation(self, bounded)

    def send(self, call: Call, bounded: exchange.Exchange) -> Answer:
        """Make one request and return its answer, whatever that says.

        Raises TransientError, IndeterminateError and PermanentError where there is none.
        """
        with self._sorting_errors(call, bounded):
            response = self._authenticated(call)
            found = Answer.read(
                response.status_code, response.content, response.headers.get("Retry-After")
            )
        # Answered: a write that follows in the same conversation begins anew.
        bounded.outstanding = False
        if found.status == HTTPStatus.NOT_ACCEPTABLE:
            self._newest = None  # it was replaced by another release: ask it again
        return found

    def newest(self, bounded: exchange.Exchange) -> Microversion:
        """Return the newest microversion that the API supports; it is asked once."""
        if self._newest is None:
            with self._sorting_errors(ROOT, bounded):
                newest = _newest(self._adapter)
            if not newest:
                raise TransientError(f"{self.name} did not say which microversions it supports.")
            self._newest = newest
        return self._newest

    def place(self, seconds: float) -> Place:
        """Return where the endpoint is, by the catalog that came with the token.

        Blocks for Keystone where a new token is due. Raises TransientError and PermanentError.
        """
        with exchange.within(seconds) as bounded, self._sorting_errors(ROOT, bounded):
            return _place(self.section, self._adapter)

    def service_roles(self, seconds: float) -> frozenset[str] | None:
        """Return the roles of the user of the service token; None where none is configured.

        Blocks for Keystone where a token is due. Raises TransientError and PermanentError.
        """
        if self._service_auth is None:
            return None
        # The wrapper sends both tokens; the roles that count are those of its second user.
        own: Any = getattr(self._service_auth, "service_auth", None)
        call = dataclasses.replace(ROOT, service_token=True)
        with exchange.within(seconds) as bounded, self._sorting_errors(call, bounded):
            return _roles(own, self._adapter)

    @contextlib.contextmanager
    def _sorting_errors(self, call: Call, bounded: exchange.Exchange) -> Iterator[None]:
        """Make one of our kinds of what keystoneauth and the transport raise in the block."""
        try:
            yield
        except (ksa.ClientException, OSError, *BROKEN_ANSWERS) as error:
            raise self._unanswered(call, bounded, error) from None

    def _authenticated(self, call: Call) -> requests.Response:
        """Make one request, once more where its token was refused and another thread renewed it.

        Of several threads whose token is refused at once keystoneauth renews it for the first, and
        hands the others their 401 (``invalidate`` in keystoneauth1/identity/base.py). A 401 has
        done nothing.
        """
        response = self._request(call)
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return response
        refused = response.request.headers.get(AUTHENTICATED_BY)
        # The same token: the credentials are wrong. Another one: a thread beside us has renewed it.
        return response if refused == self._adapter.get_token() else self._request(call)

    def _refuse_ambiguous(self) -> None:
        """Raise PermanentError if the catalog has several regions and none is configured.

        Each token brings a catalog, and it may have a region more. Only the catalog is read:
        nothing is asked but for a token that is due anyway.
        """
        auth: Any = self._adapter.session.auth
        access = auth.get_access(self._adapter.session) if hasattr(auth, "get_access") else None
        # By identity: each renewal makes a new object, with the catalog of then.
        if access is None or access is self._unambiguous:
            return
        adapter = self._adapter
        if (why := ambiguity(self.section, adapter.region_name, _regions(adapter))) is not None:
            raise PermanentError(f"{self.name} is not called: {why}")
        self._unambiguous = access

    def _request(self, call: Call) -> requests.Response:
        self._refuse_ambiguous()
        extra: dict[str, Any] = {}
        if call.body is not None:
            extra["json"] = call.body
        if self._sends_token(call):
            extra["auth"] = self._service_auth
        return self._adapter.request(
            call.path,
            call.method,
            params=dict(call.params),
            microversion=call.microversion,
            global_request_id=call.request_id,
            # A redirect that is followed is a second request, and nobody knows what the first one
            # has done.
            redirect=False,
            # keystoneauth would make one exception of all 4xx, and lose what the service said.
            raise_exc=False,
            log=False,  # the bodies hold secrets
            **extra,
        )

    def _sends_token(self, call: Call) -> bool:
        """Tell whether the call carries a service token."""
        wanted = call.service_token or (call.checked and self._always_sends_token)
        return wanted and self._service_auth is not None

    def _unanswered(self, call: Call, bounded: exchange.Exchange, error: Exception) -> OutsideError:
        # Our own answers raise nothing (``raise_exc``): an HTTP error here is Keystone's.
        if isinstance(error, ksa.HttpError):
            return self._refused_by_keystone(error, call)
        if isinstance(error, NEVER_SENT):
            words = scrubbed(str(error))
            return PermanentError(f"{self.name} cannot be called; check [{self.section}]: {words}")
        # Whether bytes of the write have left was noted where they leave (exchange.py), not guessed
        # from the error.
        if bounded.outstanding or not call.writes:
            return unanswered(f"{self.name} gave no answer to {call}: {_why(error)}", call)
        return TransientError(f"{self.name} was not reached for {call}: {_why(error)}")

    def _refused_by_keystone(self, error: ksa.HttpError, call: Call) -> OutsideError:
        """Sort what Keystone answered on the way: the call itself has not gone out."""
        message = f"{self.name} was not called: Keystone answered {error.http_status}"
        if isinstance(error, ksa.HTTPClientError) and error.http_status not in REPEATABLE:
            also = " and [service_user]" if self._sends_token(call) else ""
            return PermanentError(f"{message}; check the credentials in [{self.section}]{also}")
        return TransientError(message)


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """The requests to one API within one time limit."""

    endpoint: Endpoint
    bounded: exchange.Exchange

    def send(self, call: Call) -> Answer:
        """Make one request and return its answer, whatever that says; see ``Endpoint.send``."""
        return self.endpoint.send(call, self.bounded)

    def ask(self, call: Call) -> Answer:
        """Make one request and return its successful answer; raises the kinds of errors."""
        answer = self.send(call)
        if (refused := self.refusal(call, answer)) is not None:
            raise refused
        return answer

    def refusal(self, call: Call, answer: Answer) -> OutsideError | None:
        """Return the error that the answer's status is, None for a success."""
        return refusal(self.endpoint.name, call, answer)

    def pin(self, *microversions: str) -> str:
        """Return the first of these microversions that the API supports.

        Raises PermanentError where it supports none of them.
        """
        newest = self.endpoint.newest(self.bounded)
        for microversion in microversions:
            # As numbers: as texts, 3.9 would be newer than 3.61.
            if tuple(int(part) for part in microversion.split(".")) <= newest:
                return microversion
        spoken = ".".join(str(part) for part in newest)
        raise PermanentError(
            f"{self.endpoint.name} supports microversions up to {spoken}; "
            f"{microversions[-1]} is needed."
        )

    def read(self, call: Call, read: Callable[[Any], T]) -> T:
        """Make one request and return what ``read`` makes of the answer's JSON.

        A ``ShapeError`` of ``read`` becomes one of the kinds: the answer is not the service's own,
        or not one for an admin.
        """
        document = self.ask(call).document
        try:
            return read(document)
        except NotAdminError as error:
            raise PermanentError(
                f"{self.endpoint.name} does not answer {call} as it answers an admin: {error}. The "
                f"user of [{self.endpoint.section}] needs the role admin."
            ) from None
        except ShapeError as error:
            raise self.unusable(call, str(error)) from None

    def unusable(self, call: Call, what: str) -> OutsideError:
        """Return the error for a success that the service cannot have given."""
        message = f"{self.endpoint.name}'s answer to {call} cannot be used: {what}"
        return unanswered(message, call)


def _place(section: str, adapter: Adapter) -> Place:
    auth: Any = adapter.session.auth
    data = adapter.get_endpoint_data()
    return Place(
        section=section,
        # Two sections may write the same Keystone with and without the slash.
        keystone=(getattr(auth, "auth_url", None) or "").rstrip("/") or None,
        region=data.region_name if data is not None else None,
        regions=_regions(adapter),
        configured=adapter.region_name,
        roles=_roles(auth, adapter),
    )


def _roles(auth: Any, adapter: Adapter) -> frozenset[str]:
    """Return the roles that the token gives; none where the plugin has no such token."""
    if not hasattr(auth, "get_access"):
        return frozenset()
    return frozenset(auth.get_access(adapter.session).role_names or ())


def _regions(adapter: Adapter) -> frozenset[str]:
    """Return the regions for which the catalog has the service; none if it is not asked."""
    auth: Any = adapter.session.auth
    # With an endpoint_override the catalog is not asked, so that it says nothing of the region.
    if adapter.endpoint_override is not None or not hasattr(auth, "get_access"):
        return frozenset()
    catalog = auth.get_access(adapter.session).service_catalog
    of_catalog = catalog.get_endpoints_data(
        service_type=adapter.service_type, interface=adapter.interface
    )
    return frozenset(e.region_name for found in of_catalog.values() for e in found if e.region_name)


def _newest(adapter: Adapter) -> Microversion | None:
    """Ask the API's version document, which is at the end of the version in its URL.

    keystoneauth finds it for what is in the catalog, and looks for it at the very URL for what
    ``endpoint_override`` says, where neither Cinder nor Nova has it.
    """
    if adapter.endpoint_override is None:
        data = adapter.get_endpoint_data()
        return data.max_microversion if data else None
    url = adapter.get_endpoint() or ""
    root = VERSIONED.match(url)
    versions = Discover(adapter.session, root.group() if root else url).version_data()
    return max((v["max_microversion"] for v in versions if v["max_microversion"]), default=None)


def _why(error: BaseException) -> str:
    """Return the innermost cause in few words: no URL, no header, no body."""
    # keystoneauth and requests wrap each error twice, with the URL in the text.
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, TimeoutError):
        return "the time limit was reached"
    if isinstance(error, exchange.AnswerTooLongError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
