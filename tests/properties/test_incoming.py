"""Whatever bytes a sender sets as properties and names: its message and its neighbours arrive."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from amqp import serialization, spec
from amqp.basic_message import Message
from amqp.exceptions import UnexpectedFrame
from hypothesis import given
from hypothesis import strategies as st

from consumer.bus.incoming import Incoming, RawChannel, frame_handler, with_readable_names
from consumer.bus.properties import parse_properties
from consumer.bus.subscription import delivery_of
from tests.raw_amqp import DEEP, GZIP, LATE, entry, text, with_headers

DELIVER, GET_OK, RETURN = spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return
CHANNEL = 1

tags = st.binary(min_size=1, max_size=1) | st.sampled_from(
    [bytes([b]) for b in b"SxAFtbBsUuIiLlfdDTV"]
)
names = st.binary(max_size=40)
lengths = st.integers(0, 2**32 - 1).map(lambda n: struct.pack(">I", n))
entries = st.builds(entry, names, tags, st.binary(max_size=40)) | st.builds(text, names, names)
headers = st.lists(entries, max_size=5).map(lambda all_: with_headers(*all_))
lies = st.builds(lambda flags, rest: flags + rest, st.binary(min_size=2, max_size=2), st.binary())
raw = st.sampled_from([LATE, DEEP, GZIP]) | headers | lies | st.binary(max_size=80)


def short(value: bytes) -> bytes:
    """Return a text with its length in one byte."""
    return bytes([len(value)]) + value


def deliver(number: int, exchange: bytes, routing_key: bytes) -> bytes:
    """Return the broker's word of a delivery."""
    return struct.pack(">HH", *DELIVER) + b"".join(
        (short(b"tag"), struct.pack(">QB", number, 0), short(exchange), short(routing_key))
    )


def frames(number: int, properties: bytes, names_: tuple[bytes, bytes], body: bytes) -> list[Any]:
    """Return the frames of one message, its body in two of them."""
    head = struct.pack(">HHQ", 60, 0, len(body)) + properties
    half = len(body) // 2
    pieces = [(3, CHANNEL, piece) for piece in (body[:half], body[half:]) if piece]
    return [(1, CHANNEL, deliver(number, *names_)), (2, CHANNEL, head), *pieces]


class Wire:
    """A connection with one channel of ours, which is told what the broker sends."""

    def __init__(self) -> None:
        self.bytes_recv = 0
        self.heard: list[Incoming] = []
        self.channel = RawChannel.__new__(RawChannel)
        self.channel.is_closing, self.channel.auto_decode = False, False
        self.channel._pending = {}
        self.channel.callbacks = {"tag": self.heard.append}
        self.channel._callbacks = {DELIVER: self.channel._on_basic_deliver}
        self.handle = frame_handler(self, self.dispatch)

    def dispatch(self, channel: int, *method: Any) -> None:
        """Do what py-amqp's connection does."""
        assert channel == CHANNEL
        self.channel.dispatch_method(*method)


@given(st.lists(st.tuples(raw, st.tuples(names, names), names), min_size=1, max_size=6))
def test_any_properties_and_names(messages: list[tuple[bytes, tuple[bytes, bytes], bytes]]) -> None:
    """Any bytes as properties, exchange and routing key -> each message arrives, its body whole."""
    wire = Wire()
    for number, (properties, odd, body) in enumerate(messages):
        *others, last = frames(number, properties, odd, body)
        assert [wire.handle(frame) for frame in others] == [False] * len(others)
        assert wire.handle(last)
    assert [m.delivery_tag for m in wire.heard] == list(range(len(messages)))
    for message, (_, (exchange, routing_key), body) in zip(wire.heard, messages, strict=True):
        delivery = delivery_of(message, message.body)
        assert delivery.body == body
        assert delivery.exchange == readable(exchange)
        assert delivery.routing_key == readable(routing_key)
        for said in (delivery.content_type, delivery.content_encoding, delivery.exchange):
            assert len(said.encode()) <= 255, "it has to fit into a property again"


def readable(name: bytes) -> str:
    """Return a name as it is, or with ? where it is not UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode(errors="replace").replace("\ufffd", "?")


@given(raw)
def test_any_bytes_are_read(data: bytes) -> None:
    """Any bytes where properties are -> an answer; what is read can be encoded and stored."""
    said = parse_properties(data)
    words = (said.content_type, said.content_encoding, said.message_id, said.user_id)
    for word in (*words, *said.headers, *said.headers.values(), said.problem):
        assert word is None or word.encode().decode() == word


sound_values = st.recursive(
    st.text(max_size=20) | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=9), inside),
    max_leaves=8,
)
sound_texts = st.text(max_size=60)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "content_type": sound_texts,
            "content_encoding": sound_texts,
            "application_headers": st.dictionaries(st.text(max_size=9), sound_values, max_size=5),
            "delivery_mode": st.integers(0, 255),
            "priority": st.integers(0, 255),
            "correlation_id": sound_texts,
            "reply_to": sound_texts,
            "expiration": sound_texts,
            "message_id": sound_texts,
            "timestamp": st.integers(0, 2**64 - 1),
            "type": sound_texts,
            "user_id": sound_texts,
            "app_id": sound_texts,
            "cluster_id": sound_texts,
        },
    )
)
def test_sound_ones_are_read_as_py_amqp_reads_them(properties: dict[str, Any]) -> None:
    """Properties that py-amqp writes -> what it reads of them, as far as we use them."""
    written = Message(**properties)._serialize_properties()
    theirs, _ = serialization.decode_properties_basic(written, 0)
    ours = parse_properties(written)
    assert ours.problem is None
    for name in ("content_type", "content_encoding", "message_id", "user_id"):
        assert getattr(ours, name) == theirs.get(name)
    known = theirs.get("application_headers", {})
    assert ours.headers == {n: v if isinstance(v, str) else None for n, v in known.items()}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"", "are incomplete", id="nothing at all"),
        pytest.param(LATE[:-1], "are incomplete", id="a table that is cut off"),
        pytest.param(with_headers(entry(b"a", b"Z", b"")), "a type that", id="an unknown type"),
        pytest.param(b"\x80\x00\x02\xff\xfe", "not UTF-8", id="a text that is not UTF-8"),
        pytest.param(
            with_headers(entry(b"a", b"S", b"\xff" * 4)), "are incomplete", id="a long length"
        ),
        pytest.param(LATE, None, id="a time that no datetime can be"),
        pytest.param(DEEP, None, id="tables in tables"),
        pytest.param(with_headers(entry(b"a", b"D", b"\xff\x7f\xff\xff\xff")), None, id="decimal"),
        pytest.param(b"\x00\x01\xff\xff\x00\x00", None, id="flags that go on"),
    ],
)
def test_what_is_said_of_odd_ones(data: bytes, problem: str | None) -> None:
    """Odd properties -> what could not be read of them, in words, nothing where all could be."""
    said = parse_properties(data).problem
    assert (said is None) is (problem is None)
    assert (problem or "") in (said or "")


def test_broken_headers_keep_the_rest() -> None:
    """A table that breaks off -> the properties behind it are read, and the headers before that."""
    table = text(b"a", b"1") + entry(b"b", b"Z", b"")
    data = b"\x20\x80" + struct.pack(">I", len(table)) + table + short(b"the id")
    said = parse_properties(data)
    assert (said.message_id, dict(said.headers)) == ("the id", {"a": "1"})
    assert said.problem is not None


@pytest.mark.parametrize(
    ("signature", "before", "after"),
    [
        (DELIVER, short(b"tag") + b"\0" * 9, b""),
        (GET_OK, b"\0" * 9, b"\0\0\0\xff"),
        (RETURN, b"\1\x38" + short(b"NO_ROUTE"), b""),
    ],
)
def test_names_that_are_not_utf8(signature: tuple[int, int], before: bytes, after: bytes) -> None:
    """Each method that brings a message, names not UTF-8 -> a ? for it; py-amqp reads the rest."""
    head = struct.pack(">HH", *signature) + before
    odd = with_readable_names(signature, head + short(b"a\xff") + short(b"\xfe.b") + after)
    assert odd == head + short(b"a?") + short(b"?.b") + after
    sound = head + short("\u00e4".encode()) + short(b"notifications.info") + after
    assert with_readable_names(signature, sound) == sound


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.binary(max_size=30)), max_size=9)
)
def test_broker_that_keeps_no_order(sent: list[tuple[int, int, bytes]]) -> None:
    """Frames of any type in any order -> taken, or refused as an error of the connection."""
    handle = frame_handler(Wire(), lambda *_: None)
    try:
        for frame in sent:
            handle(frame)
    except UnexpectedFrame:
        pass


def test_heartbeat_and_other_channels_amid_a_message() -> None:
    """A heartbeat, and another channel's answer, between the frames of a message -> no matter."""
    told: list[tuple[int, tuple[int, int]]] = []
    handle = frame_handler(Wire(), lambda channel, method, *_: told.append((channel, method)))
    one, two, *rest = frames(1, GZIP, (b"nova", b"k"), b"body")
    answer = (1, 2, struct.pack(">HH", *spec.Basic.QosOk))
    done = [handle(frame) for frame in (one, (8, 0, b""), two, answer, *rest)]
    assert done == [False, False, False, True, False, True]
    assert told == [(2, spec.Basic.QosOk), (CHANNEL, DELIVER)]
