"""An iSCSI login taken in two halves, message by message (RFC 7143, sections 11.12 and 11.13)."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

HEADER_BYTES = 48
LOGIN_REQUEST = 0x43  # immediate
TRANSIT = 0x80
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3


class HalfLogin:
    """One connection to a target, as a context manager; a normal session's login, without CHAP."""

    def __init__(self, port: int, target: str, initiator: str) -> None:
        self._address = ("127.0.0.1", port)
        self._keys = {
            "InitiatorName": initiator,
            "TargetName": target,
            "SessionType": "Normal",
            "AuthMethod": "None",
        }

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address, 10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def first_half(self) -> None:
        """Say who we are and what we want, and have it accepted."""
        self._ask(SECURITY, OPERATIONAL, self._keys)

    def second_half(self) -> None:
        """Negotiate nothing more: the session begins."""
        self._ask(OPERATIONAL, FULL_FEATURE, {})

    def _ask(self, stage: int, following: int, keys: dict[str, str]) -> None:
        text = b"".join(f"{key}={value}\0".encode() for key, value in keys.items())
        flags = TRANSIT | stage << 2 | following
        header = struct.pack(
            ">BBBBI6sHIHHII16x",
            *(LOGIN_REQUEST, flags, 0, 0, len(text)),
            *(b"\x80\0\0\0\0\1", 0, 1, 0, 0, 1, 0),
        )
        self._socket.sendall(header + text + bytes(-len(text) % 4))
        answer = self._socket.recv(HEADER_BYTES, socket.MSG_WAITALL)
        length = int.from_bytes(answer[5:8], "big")
        self._socket.recv(length + -length % 4, socket.MSG_WAITALL)
        status = struct.unpack_from(">BB", answer, 36)
        assert status == (0, 0), f"the login was refused: {status}"
