"""What each HTTP status means for a read and for a write."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.openstack.endpoint import Answer, Call, refusal, scrubbed

READ = Call("GET", "/volumes/v", "3.61", ("v",))
WRITE = dataclasses.replace(READ, method="DELETE", request_id="req-1")


def refused(call: Call, status: int, document: object = None) -> OutsideError | None:
    return refusal("Cinder", call, Answer(status, document))


def words(name: str, message: str) -> dict[str, dict[str, str]]:
    return {name: {"message": message}}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 507, 599, 408])
def test_failure_after_which_the_call_may_go_on(status: int) -> None:
    """A 5xx or a proxy's 408 -> a read is asked again, a write may have acted."""
    assert type(refused(READ, status)) is TransientError
    assert type(refused(WRITE, status)) is IndeterminateError


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 415, 422, 451, 501])
def test_refusal_is_final_for_a_write(status: int) -> None:
    """4xx and 501 -> nothing is done, and would not be next time."""
    assert type(refused(WRITE, status)) is PermanentError


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_names_the_endpoint_as_the_cause(status: int) -> None:
    """3xx -> never followed: another address is for the configuration to say."""
    error = refused(WRITE, status)
    assert type(error) is PermanentError
    assert "configure an endpoint" in str(error)


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), (None, 0.0), ("Wed, 21 Oct", 0.0)])
def test_over_limit_is_transient_and_says_how_long(
    status: int, asked: str | None, seconds: float
) -> None:
    """413 and 429 -> turned away at the door, even a write; Retry-After is passed on."""
    error = refusal("Cinder", WRITE, Answer(status, None, asked))
    assert isinstance(error, TransientError)
    assert error.retry_after_seconds == seconds
    assert ("wait 7 s" in str(error)) is (seconds > 0)


def test_404_is_not_found_only_in_the_services_own_words() -> None:
    """A 404 that names what we asked for -> not there; any other proves nothing."""
    named = words("itemNotFound", "VolumeNotFound: Volume v could not be found.")
    other = words("itemNotFound", "The resource could not be found.")
    assert type(refused(READ, 404, named)) is NotFoundError
    assert type(refused(WRITE, 404, named)) is NotFoundError
    assert type(refused(READ, 404, other)) is PermanentError
    assert type(refused(READ, 404)) is TransientError


def test_409_and_a_state_that_forbids_it_are_conflicts() -> None:
    """Cinder's 400 about the volume's state -> look again; any other 400 is our mistake."""
    cinder = "Invalid volume: Volume status must be available to reserve, but the status is in-use."
    nova = "Invalid input received: Invalid volume: Unable to detach volume."
    assert type(refused(WRITE, 409)) is ConflictError
    assert type(refused(WRITE, 400, words("badRequest", cinder))) is ConflictError
    assert type(refused(WRITE, 400, words("badRequest", nova))) is ConflictError
    root = "Cannot detach a root device volume"
    assert type(refused(WRITE, 400, words("badRequest", root))) is PermanentError


@pytest.mark.parametrize("status", [200, 202, 204])
def test_success_is_no_refusal(status: int) -> None:
    """2xx -> None."""
    assert refused(WRITE, status) is None


def test_other_sides_words_are_told_without_their_secrets() -> None:
    """A message with a password in it -> masked, on one line, of bounded length."""
    said = scrubbed("driver\n failed: {'auth_password': 'canary-chap'} " + "x" * 1000)
    assert "canary-chap" not in said
    assert "\n" not in said
    assert len(said) <= 300
    error = refused(WRITE, 409, words("conflictingRequest", "in use, admin_password=canary-2"))
    assert "in use" in str(error)
    assert "canary-2" not in str(error)


@given(st.integers(100, 599), st.binary() | st.text().map(str.encode), st.booleans())
def test_no_answer_is_taken_for_nothing_done_that_may_have_acted(
    status: int, body: bytes, writes: bool
) -> None:
    """Whatever comes back -> one of the kinds; a write's failing server is never transient."""
    call = WRITE if writes else READ
    error = refusal("Cinder", call, Answer.read(status, body, None))
    if error is None:
        assert 200 <= status < 300
    elif writes and status >= 500 and status != 501:
        assert isinstance(error, IndeterminateError)
    else:
        assert isinstance(error, TransientError | PermanentError | IndeterminateError)
