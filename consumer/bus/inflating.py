"""Decompressing bodies that kombu compressed (``kombu_compression``), up to a maximum size.

Kombu itself decompresses without a limit: one megabyte on the wire can become a thousand.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Protocol

# 32: zlib finds out by the header which of the two it is.
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_LZMA_BYTES = 32 * 1024 * 1024
"""Three times what kombu's preset needs. A body's header could ask for 4 GiB."""
_ZSTD_WINDOW_LOG = 23
"""8 MiB: every decoder of zstd must support it (RFC 8878, 3.1.1.1.2)."""

_BROKEN = (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError)
"""The errors of the standard library's decompressors; bz2 raises the last three."""


class NotInflatedError(Exception):
    """The body is not what its header says, is too large, or cannot be inflated here."""


class _Stream(Protocol):
    """A decompressor, as those of bz2, lzma, zlib and zstd are."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Brotli:
    """The same for brotli."""

    def __init__(self, module: ModuleType) -> None:
        self._stream = module.Decompressor()
        self._error: type[Exception] = module.error
        self.unused_data = b""  # brotli raises where something follows

    @property
    def eof(self) -> bool:
        return bool(self._stream.is_finished())

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        try:
            return bytes(self._stream.process(data, output_buffer_limit=max_length))
        except TypeError as error:
            raise NotInflatedError(
                "the installed brotli cannot limit the size (version 1.2 can)"
            ) from error
        except self._error as error:
            raise _broken(error) from error


class _Zstd:
    """The same for zstd, which has its own error class."""

    def __init__(self, module: ModuleType) -> None:
        bound = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._stream: _Stream = module.ZstdDecompressor(options=bound)
        self._error: type[Exception] = module.ZstdError

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        try:
            return self._stream.decompress(data, max_length)
        except self._error as error:
            raise _broken(error) from error


def _installed(*names: str) -> ModuleType:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise NotInflatedError(f"the body is compressed, but {names[-1]} is not installed")


_OPENERS: tuple[tuple[Callable[[], _Stream], tuple[str, ...]], ...] = (
    (lambda: zlib.decompressobj(_ZLIB_OR_GZIP), ("application/x-gzip", "gzip", "zlib")),
    (bz2.BZ2Decompressor, ("application/x-bz2", "bzip2", "bzip")),
    (lambda: lzma.LZMADecompressor(memlimit=_LZMA_BYTES), ("application/x-lzma", "lzma", "xz")),
    (lambda: _Brotli(_installed("brotli", "brotlicffi")), ("application/x-brotli", "brotli")),
    (
        lambda: _Zstd(_installed("compression.zstd", "backports.zstd")),
        ("application/zstd", "zstd", "zstandard"),
    ),
)
METHODS: Mapping[str, Callable[[], _Stream]] = {
    name: opener for opener, names in _OPENERS for name in names
}
"""The decompressor of each method, by kombu's names (``kombu.compression``)."""


def inflate(body: bytes, method: str | None, most: int) -> bytes:
    """Return the decompressed body. At most ``most`` bytes and the decoder's window are in memory.

    Raises NotInflatedError if the result would be larger, or if the body is incomplete, is broken,
    or has bytes after its end. It raises nothing else, for any bytes.
    """
    opener = METHODS.get(method or "")
    if opener is None:
        raise NotInflatedError("the header compression has an unknown method")
    try:
        stream = opener()
        # One byte more than permitted: with exactly "most" it could not be told from one that goes
        # on.
        inflated = stream.decompress(body, most + 1)
        whole = stream.eof and not stream.unused_data
    except _BROKEN as error:
        raise _broken(error) from error
    if len(inflated) > most:
        raise NotInflatedError(f"the decompressed body has more than max_body_bytes = {most}")
    # Bytes after the end: another reader would see another message in them.
    if not whole:
        raise NotInflatedError(
            "the body cannot be decompressed: it is incomplete or has extra bytes"
        )
    return inflated


def _broken(error: Exception) -> NotInflatedError:
    text = " ".join(str(error).split()) or type(error).__name__
    return NotInflatedError(f"the body cannot be decompressed: {text}")
