"""The backend: serves volumes from a directory to the hosts that have access.

    python -m detachd_shelf.daemon DIRECTORY PASSWORD

Hosts talk to ``DIRECTORY/data``: one line ``{"volume": ..., "initiator": ...}`` opens a session,
each further line reads or writes bytes of the volume's file. Whoever administers it talks to
``DIRECTORY/control``, one request a connection; ``Shelf.answer`` has the requests.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any


@dataclasses.dataclass(slots=True)
class Volume:
    """One volume: its file, its access list, and the sessions that are open."""

    file: Path
    allowed: set[str] = dataclasses.field(default_factory=set)
    sessions: list[tuple[str, asyncio.StreamWriter]] = dataclasses.field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """Return the access list, and how many sessions each initiator has."""
        holders = [initiator for initiator, _ in self.sessions]
        return {
            "allowed": sorted(self.allowed),
            "sessions": {initiator: holders.count(initiator) for initiator in holders},
        }


class Shelf:
    """All volumes, and what can be asked of them."""

    def __init__(self, directory: Path, password: str) -> None:
        self.directory = directory
        self._password = password
        self._volumes: dict[str, Volume] = {}
        self._hang_up_in: tuple[int, bool] | None = None

    def answered(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Carry out one request; None where a test wants this one to get no answer.

        ``{"op": "hang_up", "after": 2, "acts": true}`` asks for that: two requests are answered,
        the third is carried out, or not, and then the connection is closed.
        """
        if request.get("op") == "hang_up":
            self._hang_up_in = (request["after"], request["acts"])
            return {}
        if self._hang_up_in is None or request.get("op") == "trouble":
            return self.answer(request)
        after, acts = self._hang_up_in
        self._hang_up_in = (after - 1, acts) if after else None
        answer = self.answer(request) if after or acts else {}
        return answer if after else None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request of an administrator: create, show, list, allow, revoke or kick."""
        if request.get("password") != self._password:
            return {"error": "wrong password"}
        name = request.get("volume", "")
        match request.get("op"):
            case "create":
                self._create(name)
                return {}
            case "trouble":
                self._hang_up_in, left = None, self._hang_up_in
                return {"left": left is not None}
            case "list":
                return {"volumes": {n: v.shown() for n, v in self._volumes.items()}}
        if (volume := self._volumes.get(name)) is None:
            return {"error": "no such volume"}
        return self._about(volume, request)

    def _about(self, volume: Volume, request: dict[str, Any]) -> dict[str, Any]:
        initiator = request.get("initiator", "")
        match request["op"]:
            case "show":
                return volume.shown()
            case "allow":
                volume.allowed.add(initiator)
            case "revoke":
                volume.allowed.discard(initiator)
            case "kick":
                for holder, writer in list(volume.sessions):
                    if holder == initiator:
                        writer.transport.abort()
            case unknown:
                return {"error": f"no such request: {unknown}"}
        return {}

    def _create(self, name: str) -> None:
        file = self.directory / "volumes" / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        self._volumes[name] = Volume(file)

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, even one whose asker has gone meanwhile."""
        line = await reader.readline()
        if line and (answer := self.answered(json.loads(line))) is not None:
            writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    async def data(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold one session of a host until either side ends it."""
        hello = json.loads(await reader.readline() or b"{}")
        volume = self._volumes.get(hello.get("volume", ""))
        initiator = hello.get("initiator", "")
        if volume is None or initiator not in volume.allowed:
            writer.write(b'{"error": "not let in"}\n')
            writer.close()
            return
        session = (initiator, writer)
        volume.sessions.append(session)
        writer.write(b"{}\n")
        try:
            while line := await reader.readline():
                writer.write(json.dumps(_carry_out(volume.file, json.loads(line))).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            volume.sessions.remove(session)
            writer.close()


def _carry_out(file: Path, request: dict[str, Any]) -> dict[str, Any]:
    with file.open("r+b") as volume:
        volume.seek(request["offset"])
        if "write" in request:
            volume.write(bytes.fromhex(request["write"]))
            return {}
        return {"read": volume.read(request["read"]).hex()}


async def serve(directory: Path, password: str) -> None:
    """Serve until the process is ended."""
    shelf = Shelf(directory, password)
    control = await asyncio.start_unix_server(shelf.control, directory / "control")
    data = await asyncio.start_unix_server(shelf.data, directory / "data")
    async with control, data:
        await asyncio.gather(control.serve_forever(), data.serve_forever())


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
