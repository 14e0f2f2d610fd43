"""What is taken for a credential, in the forms in which services print them."""

from __future__ import annotations

import time

import pytest

from handlers.notification.redaction import excerpt, scrub

S = "s3cr3t-Canary"


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        (f"mysql+pymysql://cinder:{S}@db/cinder lost", "mysql+pymysql://***@db/cinder lost"),
        (f"rabbit://u:{S}@h1:5672,u2:{S}@h2:5672//", "rabbit://***@h2:5672//"),
        (f"http://u:a/{S}@h/v3", "http://***@h/v3"),
        (f"https://h:8776/v3?token={S}&limit=1", "https://h:8776/v3?token=***"),
        (f"{{'auth_password': '{S}', 'a': 1}}", "{'auth_password': ***, 'a': 1}"),
        (f'{{"auth_password": "{S}", "a": 1}}', '{"auth_password": ***, "a": 1}'),
        (f'\\"auth_password\\": \\"{S}\\", \\"a\\": 1', '"auth_password": ***, "a": 1'),
        (f'\\\\\\"secret\\\\\\":\\\\\\"{S}\\\\\\"', '"secret":***'),
        (f'"password": "a\\"{S}", "b": 1', '"password": ***, "b": 1'),
        (f"[('auth_password', '{S}'), ('a', 'b')]", "[('auth_password', ***), ('a', 'b')]"),
        (f"[{{'name': 'password', 'value': '{S}'}}]", "[{'name': 'password', 'value': ***}]"),
        (f"adminPass={S} x", "adminPass=*** x"),
        (f"user_data={S} x", "user_data=*** x"),
        (f"key = {S}== caps", "key = *** caps"),
        (f"auth_token=u'{S}' x", "auth_token=*** x"),
        (f"password:\n\t'{S}'", "password: ***"),
        (f"X-Auth-Token: {S}", "X-Auth-Token: ***"),
        (f"Authorization: Bearer {S}", "Authorization: ***"),
        (f'"secret": ["{S}", "{S}"]', '"secret": ***'),
        (f"connection_info: {{'data': {{'x': '{S}'}}}}", "connection_info: ***"),
        (f'"connection_info": "{{\\"x\\": \\"{S}\\"}}"', '"connection_info": ***'),
        (f"'provider_auth': 'CHAP user {S}'", "'provider_auth': ***"),
        (f"got CHAP user {S} from it", "got CHAP *** from it"),
        (f"incominguser user {S}", "incominguser ***"),
        (f"-n node.session.auth.password -v {S} x", "-n node.session.auth.password -v *** x"),
        (f"cmd --os-password {S} --x", "cmd --os-password *** --x"),
        (f"('cmd', '--password', '{S}')", "('cmd', '--password', ***"),
        (f"<adminPass>{S}</adminPass>", "<adminPass>***</adminPass>"),
        ("token gAAAAABnX-y_z== refused", "token *** refused"),
        ("a eyJhbGciOi.eyJzdWIiOi.c2ln b", "a *** b"),
        (f"-----BEGIN RSA PRIVATE KEY-----\n{S}\n-----END RSA PRIVATE KEY----- x", "*** x"),
        (f"-----BEGIN PRIVATE KEY-----\n{S}", "***"),
        (f'"password": "{S}', '"password": ***'),
    ],
)
def test_a_credential_is_taken_out(text: str, scrubbed: str) -> None:
    """A credential in a form that services print -> gone, what stands around it left."""
    assert scrub(text) == scrubbed
    assert S not in scrub(scrubbed)


@pytest.mark.parametrize(
    "text",
    [
        "Device detach failed for vdb: x",
        "Unable to update the attachment. (HTTP 500) (Request-ID: req-30ec9f04-086b)",
        "{'kwargs': {'device': 'vdb', 'code': 500}, 'message': 'x', 'class': 'DeviceDetachFailed'}",
        "Timed out waiting for a reply to message ID 3f2a",
        "http://127.0.0.1:8776/v3/volumes",
        "monkey: business as usual, author: somebody",
        "iqn.2010-10.org.openstack:volume-3489e9cf",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    """An error as operators need to read it -> unchanged."""
    assert scrub(text) == text


def test_the_result_is_one_printable_line() -> None:
    """Line breaks, escapes of terminals and halves of surrogates -> blanks."""
    assert scrub("a\r\n b\x1b[2J\0c\ud800d") == "a b [2J c d"


@pytest.mark.parametrize(
    "pattern",
    [
        "x",
        '"password',
        "://a:",
        "-",
        "--a-",
        'key "',
        "eyJabcd",
        "eyJabcd.",
        "token='a",
        "\\",
        "-----BEGIN PRIVATE KEY",
        '"token":"a ',
        "password --",
        "CHAP a ",
    ],
)
def test_no_text_takes_more_than_linear_time(pattern: str) -> None:
    """A text made to confuse, ten times as long -> not a hundred times the time."""
    text = pattern * (100_000 // len(pattern))
    # Of this thread's own time: the machine may have other work.
    started = time.thread_time()
    scrub(text)
    # Linear takes up to 0.15 s; quadratic took 3 s and more.
    assert time.thread_time() - started < 2


@pytest.mark.parametrize("length", [0, 1, 500])
def test_an_excerpt_is_short(length: int) -> None:
    """A long text -> so many characters, whatever it holds."""
    assert len(excerpt("word " * 100_000, length)) == length


def test_an_excerpt_is_scrubbed_before_it_is_cut() -> None:
    """A credential across the end of the excerpt -> no half of it shows."""
    assert excerpt("x" * 480 + f" password={S} y", 500) == "x" * 480 + " password=*** y"
    assert S[:4] not in excerpt("x" * 485 + f" rabbit://u:{S}@h", 500)


def test_half_a_credential_at_the_end_of_what_is_read_does_not_show() -> None:
    """Nearly all of a long text is taken out -> the word that the cut went through goes too."""
    text = f'secret="{"y" * 7900}" rabbit://u:{S * 20}@h'
    assert excerpt(text, 500) == "secret=***"
