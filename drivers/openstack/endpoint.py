"""One OpenStack API: asked through keystoneauth, within bounds, answered in our own kinds.

keystoneauth does what is easy to do wrong: every auth plugin, the catalog, one renewal of a token
that was refused. It repeats nothing here and follows no redirect: what may be repeated is decided
where it is known what a call may have done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1.adapter import Adapter
from keystoneauth1.discover import Discover
from keystoneauth1.plugin import BaseAuthPlugin

from drivers.errors import OutsideError, PermanentError, TransientError
from drivers.openstack import answers, exchange
from drivers.openstack.answers import Answer, Call
from drivers.openstack.shapes import NotAdminError, ShapeError

# keystoneauth reads tokens, catalogs and version documents without checking their shape first.
BROKEN_ANSWERS = (LookupError, TypeError, ValueError, AttributeError)
NEVER_SENT = (ksa.AuthorizationFailure, ksa.AuthPluginException, ksa.CatalogException)

VERSIONED = re.compile(r".*?/v\d+(\.\d+)?(?=/|$)")
LET_IN_BY = "X-Auth-Token"
Microversion = tuple[int | float, ...]
T = TypeVar("T")


class Endpoint:
    """One API. Thread-safe.

    ``name`` is what errors call it, ``section`` the one that configures it. ``vouching`` is an auth
    plugin that sends a service token along, for the calls that ask for one.
    """

    def __init__(
        self, name: str, section: str, adapter: Adapter, vouching: BaseAuthPlugin | None = None
    ) -> None:
        self.name = name
        self.section = section
        self._adapter = adapter
        self._vouching = vouching
        self._newest: Microversion | None = None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[Conversation]:
        """Open a conversation that takes no longer than ``seconds`` in all, tokens included."""
        with exchange.within(seconds) as bounded:
            yield Conversation(self, bounded)

    def send(self, call: Call, bounded: exchange.Exchange) -> Answer:
        """Make one request and return its answer, whatever that says.

        Raises TransientError, IndeterminateError and PermanentError where there is none.
        """
        try:
            response = self._let_in(call)
            found = Answer.read(
                response.status_code, response.content, response.headers.get("Retry-After")
            )
        except (ksa.ClientException, OSError, *BROKEN_ANSWERS) as error:
            raise self._unanswered(call, bounded, error) from None
        bounded.outstanding = False
        if found.status == HTTPStatus.NOT_ACCEPTABLE:
            self._newest = None  # it was replaced by another release: ask it again
        return found

    def newest(self, bounded: exchange.Exchange) -> Microversion:
        """Return the newest microversion that the API speaks; it is asked once."""
        if self._newest is None:
            question = Call("GET", "/", "")
            try:
                newest = _newest(self._adapter)
            except (ksa.ClientException, OSError, *BROKEN_ANSWERS) as error:
                raise self._unanswered(question, bounded, error) from None
            if not newest:
                raise TransientError(f"{self.name} did not tell which microversions it speaks.")
            self._newest = newest
        return self._newest

    def _let_in(self, call: Call) -> requests.Response:
        """Make one request, once more where its token was refused and another thread renewed it.

        Of several threads whose token is refused at once keystoneauth renews it for the first, and
        hands the others their 401 (``invalidate`` in keystoneauth1/identity/base.py). A 401 has
        done nothing.
        """
        response = self._request(call)
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return response
        refused = response.request.headers.get(LET_IN_BY)
        return response if refused == self._adapter.get_token() else self._request(call)

    def _request(self, call: Call) -> requests.Response:
        extra: dict[str, Any] = {}
        if call.body is not None:
            extra["json"] = call.body
        if call.service_token and self._vouching is not None:
            extra["auth"] = self._vouching
        return self._adapter.request(
            call.path,
            call.method,
            params=dict(call.params),
            microversion=call.microversion,
            global_request_id=call.request_id,
            redirect=False,
            raise_exc=False,
            log=False,  # the bodies hold secrets
            **extra,
        )

    def _unanswered(self, call: Call, bounded: exchange.Exchange, error: Exception) -> OutsideError:
        if isinstance(error, ksa.HttpError):
            return self._not_let_in(error)
        if isinstance(error, NEVER_SENT):
            words = answers.scrubbed(str(error))
            return PermanentError(f"{self.name} cannot be asked, see [{self.section}]: {words}")
        if bounded.outstanding or not call.writes:
            return answers.unanswered(f"{self.name} gave no answer to {call}: {_why(error)}", call)
        return TransientError(f"{self.name} was not reached for {call}: {_why(error)}")

    def _not_let_in(self, error: ksa.HttpError) -> OutsideError:
        """Sort what Keystone answered on the way: the call itself has not gone out."""
        said = f"{self.name} was not asked: Keystone answered {error.http_status}"
        if isinstance(error, ksa.HTTPClientError) and not isinstance(
            error, ksa.RequestEntityTooLarge | ksa.TooManyRequests | ksa.RequestTimeout
        ):
            return PermanentError(f"{said}; see the credentials in [{self.section}]")
        return TransientError(said)


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """What is asked of one API within one time limit."""

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
        return answers.refusal(self.endpoint.name, call, answer)

    def pin(self, *wanted: str) -> str:
        """Return the first of these microversions that the API speaks.

        Raises PermanentError where it speaks none of them.
        """
        newest = self.endpoint.newest(self.bounded)
        for microversion in wanted:
            if tuple(int(part) for part in microversion.split(".")) <= newest:
                return microversion
        spoken = ".".join(str(part) for part in newest)
        raise PermanentError(
            f"{self.endpoint.name} speaks microversions up to {spoken}; {wanted[-1]} is needed."
        )

    def read(self, call: Call, read: Callable[[Any], T]) -> T:
        """Make one request and return what ``read`` makes of the answer's JSON.

        A ``ShapeError`` of ``read`` becomes one of the kinds: the answer is nobody's, or not one
        for an admin.
        """
        document = self.ask(call).document
        try:
            return read(document)
        except NotAdminError as error:
            raise PermanentError(
                f"{self.endpoint.name} answers {call} not as it answers an admin: {error}. The "
                f"user of [{self.endpoint.section}] needs the role admin."
            ) from None
        except ShapeError as error:
            raise self.nonsense(call, str(error)) from None

    def nonsense(self, call: Call, what: str) -> OutsideError:
        """Return the error for a success that the service cannot have given."""
        return answers.nonsense(self.endpoint.name, call, what)


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
    known = Discover(adapter.session, root.group() if root else url).version_data()
    return max((v["max_microversion"] for v in known if v["max_microversion"]), default=None)


def _why(error: BaseException) -> str:
    """Return the innermost cause in few words: no URL, no header, no body."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, TimeoutError):
        return "the time for it was up"
    if isinstance(error, exchange.AnswerTooLongError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
