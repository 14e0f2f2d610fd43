"""What is kept of a text that a publisher wrote: words that are known, and nothing else."""

from __future__ import annotations

import hashlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.notification.wording import UUID, WORDS, wording

S = "ArrayS3cretInClear"
FORMS = (
    "password is {}", "the password for user admin was {} before", "pwd={}", "db_pw: {}", "pw {}",
    "PASSWD={}", "MYSQL_PWD={} mysql", "--password={}", "--password {}", "-p{}", "-p {}",
    "curl -u admin:{} https://array/api", "curl --user admin:{} x", "sshpass -p {} ssh array",
    "HTTPBasicAuth('admin', '{}')", "auth=('admin', '{}')", "(u'admin', u'{}')",
    "['node.session.auth.password', '-v', '{}']", "-n node.session.auth.password -v {}",
    "['iscsiadm', '-m', 'node', '-n', 'node.session.auth.password', '-v', '{}']",
    "DHHC-1:00:{}:", "nvme connect -S DHHC-1:00:{}: -n nqn.x", "--dhchap-secret={}",
    "Login failed for user admin with password {}", "login admin/{} failed", "admin@{}",
    "mysql+pymysql://cinder:{}@db/cinder", "rabbit://u:{}@h1:5672//", "https://h/v3?token={}&x=1",
    "ssh://root:{}@array", "//array/share -o username=a,password={}", "cifs pass={}",
    '{{"auth_password": "{}"}}', "{{'secret': '{}'}}", "<adminPass>{}</adminPass>", "<p>{}</p>",
    '{{"name": "password", "value": "{}"}}', '{{"a": ["password", "{}"]}}', "key: {}", "key {}",
    "AQD{}==", "[client.cinder]\n\tkey = {}", "CHAP user {}", "incominguser user {}",
    "x-api-key {}",
    "X-Auth-Token: {}", "Authorization: Bearer {}", "Authorization: Basic {}", "Cookie: session={}",
    "Set-Cookie: sid={}; path=/", "PGPASSWORD={} psql", "export OS_PASSWORD={}", "token {}",
    "credentials ({}, expired)", "passphrase '{}'", "PIN {}", "community string {}", "snmp {}",
    "openssl enc -k {}", "cryptsetup luksOpen --key-file {}", "echo {} | cryptsetup", "echo '{}'",
    "user_data: {}", "userdata={}", "ansible_become_pass: {}", "vault_token={}", "s.{}", "hvs.{}",
    "wwn {} denied", "secret{}", "{}secret", "my {} is secret", "<{}>", "`{}`", "\u201c{}\u201d",
    "{}",
    "base64 {}==", "sha {}", "challenge {} response", "\\\"secret\\\":\\\"{}\\\"", "u'{}'", "b'{}'",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_in_any_form_is_left_out(form: str) -> None:
    """A secret, whatever stands around it -> no part of it is kept."""
    kept = wording(f"iscsiadm failed: {form.format(S)}, giving up", 500)
    assert kept.startswith("iscsiadm failed: ")
    assert not [part for part in ("Array", "S3cret", "Clear", S) if part in kept]


@given(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
    | st.text("aA1 ._-'x,", max_size=60)
)
def test_nothing_but_known_words_is_kept(text: str) -> None:
    """Any text -> each word of what is kept is in the vocabulary, a short number, or an id."""
    kept = UUID.sub("", wording(text, 500).partition(" [")[0])
    for word in re.findall(r"[^\W_]+", kept):
        parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|.", word)
        assert all(p.lower() in WORDS or (p.isdigit() and len(p) <= 3) for p in parts), kept


@pytest.mark.parametrize(
    "text",
    [
        "Device detach failed for vdb: the device is busy",
        "Unable to update it (HTTP 500) (Request-ID: req-30ec9f04-086b-4a11-9d11-1234567890ab)",
        "DeviceDetachFailed",
        "VolumeBackendAPIException: Bad or unexpected response from the storage volume backend API",
        "Timed out waiting for a reply to message ID 12",
        "Volume 5f1c0a52-98f4-4f2e-9d63-0a5b1c7de911 could not be found.",
        '{"event_type": "volume.attach.start", "payload":',
    ],
)
def test_an_error_of_known_words_stays(text: str) -> None:
    """An error as Cinder and Nova word it -> unchanged."""
    assert wording(text, 500) == text


def test_what_was_left_out_can_be_found_again() -> None:
    """A name that nobody knows -> dots, how long the text is, and the beginning of its hash."""
    text = "Connection to array-17.example.org refused"
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    assert wording(text, 500) == f"Connection to ... refused [42 characters, SHA-256 {mark}]"


@pytest.mark.parametrize("length", [0, 5, 60, 500])
def test_it_is_no_longer_than_asked_for(length: int) -> None:
    """A long text, any limit -> at most so much, and where there is room the mark at its end."""
    kept = wording("failed " * 900 + S, length)
    assert len(kept) <= length
    assert length < 60 or kept.endswith("]")


@pytest.mark.parametrize("pattern", ["a" * 9000, ". " * 4500, "'" * 9000, "A1" * 4500, "-/" * 4500])
def test_no_text_takes_long(pattern: str) -> None:
    """A text made to be slow -> done in a moment."""
    # Of this thread's own time: the machine may have other work.
    began = time.thread_time()
    wording(pattern, 500)
    assert time.thread_time() - began < 1.0
