"""Every call ends in time, whatever the other side does, and knows whether it may have acted."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.errors import IndeterminateError, OutsideError, PermanentError, TransientError
from drivers.openstack import exchange
from drivers.openstack.cinder import CinderClient
from tests.bus import until
from tests.certificates import authority
from tests.openstack_api import HTML, OpenStackApi, Reply
from tests.unit.drivers.openstack.answers import VOLUME

LIMIT_SECONDS = 1.0
"""Where no answer comes."""
ANSWERED_SECONDS = 30.0
"""Where one comes, on a busy machine too."""
GRACE_SECONDS = 20.0
"""What a busy machine may take on top. Less than whatever hangs here takes."""

HANGING = {"hangs", "drips its headers", "drips its body"}
MISBEHAVIOURS = {
    "hangs": Reply(202, hang_seconds=60),
    "drips its headers": Reply(202, drip_seconds=0.1),
    "drips its body": Reply(202, b"x" * 1000, drip_seconds=0.1, drips_body=True),
    "resets": Reply(reset=True),
    "breaks off in the body": Reply(202, b"x" * 10, cut=3),
}


def read(cinder: CinderClient, seconds: float) -> None:
    cinder.volume(VOLUME, timeout_seconds=seconds)


def write(cinder: CinderClient, seconds: float) -> None:
    cinder.reserve(VOLUME, request_id="req-1", timeout_seconds=seconds)


def failing(
    cinder: CinderClient, call: Callable[[CinderClient, float], None], *, hangs: bool = False
) -> OutsideError:
    seconds = LIMIT_SECONDS if hangs else ANSWERED_SECONDS
    began = time.monotonic()
    with pytest.raises(OutsideError) as caught:
        call(cinder, seconds)
    assert time.monotonic() - began < seconds + GRACE_SECONDS
    return caught.value


@pytest.fixture
def warm(api: OpenStackApi, cinder: CinderClient) -> CinderClient:
    """Return a client that has its token and knows the versions, so that only the call is left."""
    api.script(f"POST /volumes/{VOLUME}/action", Reply(202))
    cinder.reserve(VOLUME, request_id="req-0", timeout_seconds=ANSWERED_SECONDS)
    return cinder


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_read_that_gets_no_answer_is_transient(
    api: OpenStackApi, warm: CinderClient, how: str
) -> None:
    """The server misbehaves in a read -> transient, within the limit."""
    api.script(f"GET /volumes/{VOLUME}", MISBEHAVIOURS[how])
    error = failing(warm, read, hangs=how in HANGING)
    assert type(error) is TransientError
    assert "gave no answer" in str(error)


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_write_that_went_out_and_got_no_answer_may_have_acted(
    api: OpenStackApi, warm: CinderClient, how: str
) -> None:
    """The server misbehaves in a write that it has received -> indeterminate, within the limit."""
    api.script(f"POST /volumes/{VOLUME}/action", MISBEHAVIOURS[how])
    assert type(failing(warm, write, hangs=how in HANGING)) is IndeterminateError
    assert api.asked("POST")[-1:] == [f"POST /volumes/{VOLUME}/action"]


def test_write_is_sent_once(api: OpenStackApi, warm: CinderClient) -> None:
    """No answer -> nobody down there sends the write again."""
    before = len(api.asked("POST"))
    api.script(f"POST /volumes/{VOLUME}/action", Reply(reset=True))
    failing(warm, write)
    api.script(f"POST /volumes/{VOLUME}/action", Reply(503, HTML))
    failing(warm, write)
    assert len(api.asked("POST")) == before + 2


def test_write_to_a_closed_port_surely_did_nothing(tmp_path: Path) -> None:
    """Connection refused -> transient, for a write too."""
    with OpenStackApi() as api:
        api.script(f"POST /volumes/{VOLUME}/action", Reply(202, headers={"Connection": "close"}))
        cinder = api.cinder(tmp_path)
        cinder.reserve(VOLUME, request_id="req-0", timeout_seconds=ANSWERED_SECONDS)
    error = failing(cinder, write)
    assert type(error) is TransientError
    assert "was not reached for POST" in str(error)


def test_keystone_that_hangs_counts_against_the_same_limit(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """The token does not come -> the write has not gone out: transient, within the limit."""
    api.replies["POST /identity/v3/auth/tokens"] = [Reply(201, hang_seconds=60)]
    assert type(failing(cinder, write, hangs=True)) is TransientError
    assert api.asked() == []


@pytest.mark.slow
def test_token_that_another_thread_waits_for_counts_against_the_limit(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """A call of a longer limit hangs in Keystone -> one that needs the same token ends in time."""
    api.replies["POST /identity/v3/auth/tokens"] = [Reply(201, hang_seconds=60)]

    def waits() -> None:
        with pytest.raises(OutsideError):
            cinder.volume(VOLUME, timeout_seconds=8.0)

    patient = threading.Thread(target=waits)
    patient.start()
    until(lambda: api.tokens == 1)
    error = failing(cinder, write, hangs=True)
    assert type(error) is TransientError
    assert "the time limit was reached" in str(error)
    assert patient.is_alive(), "it waited until the other one gave up"
    patient.join()


@pytest.mark.parametrize(("status", "kind"), [(401, PermanentError), (503, TransientError)])
def test_keystone_that_refuses(
    api: OpenStackApi, cinder: CinderClient, status: int, kind: type[OutsideError]
) -> None:
    """Keystone says 401 -> the credentials, for a person; 503 -> try again."""
    api.replies["POST /identity/v3/auth/tokens"] = [Reply(status, b"{}")]
    error = failing(cinder, write)
    assert type(error) is kind
    assert f"Keystone answered {status}" in str(error)


@pytest.mark.parametrize("body", [b"<html>", b'{"token": 5}', b'{"token": {"catalog": 7}}', b"[]"])
def test_nonsense_of_keystone_is_one_of_the_kinds(
    api: OpenStackApi, cinder: CinderClient, body: bytes
) -> None:
    """A token of the wrong shape -> an error of ours, not one of the library's parser."""
    api.replies["POST /identity/v3/auth/tokens"] = [Reply(201, body, {"X-Subject-Token": "t"})]
    failing(cinder, read)


def test_answer_without_end_is_cut_off(
    api: OpenStackApi, warm: CinderClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body longer than anything that OpenStack says -> refused, memory is not filled with it."""
    monkeypatch.setattr(exchange, "MAX_BYTES", 10_000)
    api.script(f"GET /volumes/{VOLUME}", Reply(200, b"x" * 100_000))
    assert "longer than 10000 bytes" in str(failing(warm, read))


def test_time_that_is_up_sends_nothing(api: OpenStackApi, warm: CinderClient) -> None:
    """The limit is over before the request goes out -> it never does."""
    before = len(api.requests)
    with pytest.raises(TransientError):
        warm.reserve(VOLUME, request_id="req-1", timeout_seconds=0.0)
    assert len(api.requests) == before


def test_connection_left_over_by_a_call_that_timed_out_is_not_used_again(
    api: OpenStackApi, warm: CinderClient
) -> None:
    """A late answer is never taken for the next call's."""
    late = Reply(409, {"conflictingRequest": {"message": "late"}}, hang_seconds=LIMIT_SECONDS * 1.5)
    api.script(f"POST /volumes/{VOLUME}/action", late)
    failing(warm, write, hangs=True)
    api.script(f"POST /volumes/{VOLUME}/action", Reply(202))
    time.sleep(LIMIT_SECONDS)
    warm.reserve(VOLUME, request_id="req-2", timeout_seconds=ANSWERED_SECONDS)


@pytest.fixture
def silent() -> Iterator[int]:
    """Give the port of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def hold() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in held:
            one.close()


def test_tls_handshake_that_never_ends_is_bounded(tmp_path: Path, silent: int) -> None:
    """Nobody answers the handshake -> transient, within the limit."""
    with OpenStackApi() as api:
        extra = f"[cinder]\nendpoint_override = https://127.0.0.1:{silent}/v3\ninsecure = true\n"
        assert type(failing(api.cinder(tmp_path, extra), write, hangs=True)) is TransientError


def test_tls_with_the_configured_authority(tmp_path: Path) -> None:
    """[cinder] cafile -> the call goes through TLS; without it the certificate is not believed."""
    made = authority(tmp_path).issue("api", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    with OpenStackApi(context) as api:
        api.script(f"POST /volumes/{VOLUME}/action", Reply(202))
        cafile = f"[cinder]\ncafile = {made.ca}\n"
        api.cinder(tmp_path, cafile).reserve(
            VOLUME, request_id="r", timeout_seconds=ANSWERED_SECONDS
        )
        error = failing(api.cinder(tmp_path), write)
    assert type(error) is TransientError
    assert "certificate" in str(error).lower()
