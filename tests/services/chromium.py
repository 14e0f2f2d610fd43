"""A private headless Chromium, spoken to over two pipes: what it loads, shows and looks like."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import os
import select
import subprocess
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from tests.services.leash import Leash
from tests.services.service import ServiceFailedError, executable

SECONDS = 60.0
STOP_SECONDS = 10.0
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
"""No sandbox, as root has none; no name is resolved, so that nothing can come from elsewhere."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """What came of opening a page: every address that was asked for, and what was complained of."""

    status: int
    asked: tuple[str, ...]
    complaints: tuple[str, ...]


class Chromium:
    """One browser with one tab, as a context manager. Its methods block, SECONDS at most.

    Raises ServiceMissingError when made on a machine that lacks it.
    """

    def __init__(self) -> None:
        self._program = executable(
            "chromium", "chromium-headless-shell", "chromium-headless-shell", "chromium"
        )
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            leash = undo.enter_context(Leash("chromium", ":"))
            self._log = leash.directory / "log"
            self._start(leash, undo)
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
            self._session: str = attached["sessionId"]
            for domain in ("Page", "Network", "Log", "Runtime"):
                self._tab(f"{domain}.enable")
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def _start(self, leash: Leash, undo: ExitStack) -> None:
        """Spawn it: it reads what we ask from its descriptor 3, and answers on its 4."""
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        for ours in (self._out, self._in):
            undo.callback(os.close, ours)
        command = [str(self._program), *OPTIONS, f"--user-data-dir={leash.directory}/data"]
        # The shell puts the pipes where Chromium looks for them, and becomes it.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                ["/bin/bash", "-c", script, "-", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=leash.directory,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        undo.callback(self._stop)

    def _stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def look(self, width: int, height: int, *, dark: bool) -> None:
        """Give the window this size, and the person this taste."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._tab("Emulation.setDeviceMetricsOverride", **size)
        taste = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._tab("Emulation.setEmulatedMedia", features=[taste])

    def open(self, url: str) -> Loaded:
        """Load a page and wait until nothing of it is missing."""
        self._events.clear()
        self._tab("Page.navigate", url=url)
        self._wait_for("Page.loadEventFired")
        asked = [e["params"]["request"]["url"] for e in self._of("Network.requestWillBeSent")]
        answers = [e["params"]["response"] for e in self._of("Network.responseReceived")]
        logged = [e["params"]["entry"]["text"] for e in self._of("Log.entryAdded")]
        status = next((a["status"] for a in answers if a["url"] == url), 0)
        return Loaded(status, tuple(asked), tuple(logged))

    def ask(self, expression: str) -> Any:
        """Return what an expression of JavaScript is in the page, as plain JSON values."""
        answer = self._tab("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """Return what the whole page looks like, as PNG."""
        shot = self._tab("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _of(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event["method"] == method]

    def _tab(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._call(method, self._session, **parameters)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": parameters}
        asked |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while (message := self._next(deadline)).get("id") != number:
            self._events.append(message)
        if "error" in message:
            raise AssertionError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    def _wait_for(self, method: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not self._of(method):
            self._events.append(self._next(deadline))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            read = os.read(self._in, 1 << 16) if ready else b""
            if not read:
                raise ServiceFailedError("chromium ended or does not answer", self._log)
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found
