"""A way to a server that is cut at a word: what was sent arrives, the answer never does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

MOST_READ = 65_536


class CuttingProxy:
    """Forwards connections to a port of 127.0.0.1 until somebody says the word.

    ``cut_at(word)``: the next time a client sends it, the server gets it, and when it has answered
    the client's connection is cut in place of the answer. ``cuts`` counts.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._word: bytes | None = None
        self.cuts = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # wakes the thread that accepts, which close() does not
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def cut_at(self, word: bytes) -> None:
        """Cut once, at the next of these."""
        self._word = word

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            answered = _Answers()
            self._start(lambda c=client, s=server, a=answered: self._forward(c, s, a))  # type: ignore[misc] # bound now
            self._start(lambda c=client, s=server, a=answered: a.carry(s, c))  # type: ignore[misc] # bound now

    def _forward(self, client: socket.socket, server: socket.socket, answers: _Answers) -> None:
        while data := _received(client):
            cut = self._word is not None and self._word in data
            if cut:
                self._word = None
                # Before the client can hear of it, and go on.
                self.cuts += 1
                answers.swallow()
            try:
                server.sendall(data)
            except OSError:
                break
            if cut:
                answers.swallowed.wait(60)
                break
        _end(client, server)

    @staticmethod
    def _start(run: Callable[[], None]) -> None:
        threading.Thread(target=run, daemon=True).start()


class _Answers:
    """What comes back of one connection, until it is to be swallowed."""

    def __init__(self) -> None:
        self._swallows = False
        self.swallowed = threading.Event()

    def swallow(self) -> None:
        self._swallows = True

    def carry(self, server: socket.socket, client: socket.socket) -> None:
        while data := _received(server):
            if self._swallows:
                self.swallowed.set()
                break
            try:
                client.sendall(data)
            except OSError:
                break
        _end(client, server)


def _received(of: socket.socket) -> bytes:
    try:
        return of.recv(MOST_READ)
    except OSError:
        return b""


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):  # the other direction was faster
            end.shutdown(socket.SHUT_RDWR)
        end.close()
