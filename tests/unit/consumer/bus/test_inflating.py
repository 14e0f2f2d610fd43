"""Compressed bodies: read by every method that kombu has, and never larger than is allowed."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import VERSION, compression

from consumer.bus.inflating import METHODS, NotInflatedError, inflate

KNOWN = {*compression._decoders, *compression._aliases}
ZSTD_BY_BACKPORTS = (5, 7)
"""Before, kombu takes another package for it, which is not here."""
BODY = b'{"event_type": "volume.attach.start"}' * 100
MOST = 64 * 1024
LARGE = 64 * 1024 * 1024


def test_every_method_of_kombu_is_known() -> None:
    """What kombu can undo, by whatever name -> we can, or say that something is not installed."""
    known = KNOWN
    assert known <= set(METHODS)
    expected = {"brotli", "zstd"} if VERSION >= ZSTD_BY_BACKPORTS else {"brotli"}
    assert expected <= known, "brotli and backports.zstd belong to the tests"


@pytest.mark.parametrize("method", sorted(set(METHODS) & KNOWN))
def test_as_kombu_writes_it(method: str) -> None:
    """A body that kombu compressed -> the body; cut off, or with more behind it -> refused."""
    packed, _ = compression.compress(BODY, method)
    assert inflate(packed, method, len(BODY)) == BODY
    for broken in (b"", packed[:-3], packed + packed, b"x" + packed, b"\xff" * 40):
        with pytest.raises(NotInflatedError):
            inflate(broken, method, MOST)


@pytest.mark.slow
@pytest.mark.parametrize("method", compression.encoders())
def test_bomb(method: str) -> None:
    """64 MiB in a few bytes -> refused, with a window of 8 MiB at most and no more in memory."""
    packed, _ = compression.compress(b"A" * LARGE, method)
    tracemalloc.start()
    try:
        with pytest.raises(NotInflatedError, match="more than max_body_bytes = 65536"):
            inflate(packed, method, MOST)
        assert tracemalloc.get_traced_memory()[1] < LARGE / 4
    finally:
        tracemalloc.stop()


def test_bound_is_a_bound() -> None:
    """As large as is allowed -> read; a byte more -> not."""
    packed, _ = compression.compress(BODY, "zlib")
    assert inflate(packed, "zlib", len(BODY)) == BODY
    with pytest.raises(NotInflatedError):
        inflate(packed, "zlib", len(BODY) - 1)


def test_window_of_gibibytes() -> None:
    """A stream that asks for a dictionary larger than is allowed -> refused, not allocated."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 64 * 1024 * 1024}]
    packed = lzma.compress(BODY, filters=filters)
    with pytest.raises(NotInflatedError, match=r"(?i)memory"):
        inflate(packed, "xz", MOST)


def test_gzip_of_other_clients() -> None:
    """Gzip's own format, not zlib's -> read too."""
    assert inflate(gzip.compress(BODY), "application/x-gzip", MOST) == BODY


@pytest.mark.parametrize("method", [None, "", "rot13", "gzip, bzip2", "GZIP", "\0"])
def test_method_that_nobody_knows(method: str | None) -> None:
    """No method of kombu's -> refused in words that show nothing of the header."""
    with pytest.raises(NotInflatedError, match=r"an unknown method$"):
        inflate(BODY, method, MOST)


def test_method_whose_library_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zstd without its package -> said so."""

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("consumer.bus.inflating.importlib.import_module", absent)
    with pytest.raises(NotInflatedError, match=r"backports\.zstd is not installed"):
        inflate(BODY, "zstd", MOST)


@given(st.sampled_from(sorted(METHODS)), st.binary(max_size=300), st.integers(0, 100))
def test_any_bytes(method: str, body: bytes, most: int) -> None:
    """Any bytes under any method -> at most so many bytes, or refused."""
    with contextlib.suppress(NotInflatedError):
        assert len(inflate(body, method, most)) <= most
