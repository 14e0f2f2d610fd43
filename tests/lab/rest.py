"""The APIs of the lab as they are: for the tests' own users, and to see what is really answered."""

from __future__ import annotations

import dataclasses
from typing import Any

import requests

SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What a user logs in with; the domain is ``default``."""

    auth_url: str
    username: str
    password: str = dataclasses.field(repr=False)
    project: str
    region: str


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What an API answered."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Tell whether it was a success."""
        return self.status < 400


class RefusedError(Exception):
    """An API answered with an error where the test needed a success."""

    def __init__(self, what: str, answer: Answer) -> None:
        super().__init__(f"{what}: {answer.status} {answer.body}")
        self.answer = answer


class Rest:
    """One user's calls, with a token that is renewed when it is refused."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._session = requests.Session()
        self._catalogue: dict[str, str] = {}

    @property
    def token(self) -> str:
        """A token of this user; blocks for a login the first time."""
        if not self._catalogue:
            self._log_in()
        return str(self._session.headers["X-Auth-Token"])

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        body: object = None,
        *,
        version: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Make one call, at a microversion, to a service by its type in the catalogue."""
        _ = self.token
        given = (headers or {}) | _microversion(service, version)
        got = self._session.request(
            method, f"{self._catalogue[service]}{path}", json=body, headers=given, timeout=SECONDS
        )
        if got.status_code == 401 and "X-Service-Token" not in given:
            self._catalogue = {}
            return self.ask(service, method, path, body, version=version, headers=headers)
        return Answer(got.status_code, _body(got))

    def do(self, service: str, method: str, path: str, body: object = None, **how: Any) -> Any:
        """Make one call that must succeed and return its body; RefusedError where it does not."""
        answer = self.ask(service, method, path, body, **how)
        if not answer.ok:
            raise RefusedError(f"{method} {path}", answer)
        return answer.body

    def _log_in(self) -> None:
        mine = self._credentials
        domain = {"domain": {"id": "default"}}
        user = {"name": mine.username, "password": mine.password} | domain
        auth = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": mine.project} | domain},
        }
        got = requests.post(f"{mine.auth_url}/auth/tokens", json={"auth": auth}, timeout=SECONDS)
        got.raise_for_status()
        self._session.headers["X-Auth-Token"] = got.headers["X-Subject-Token"]
        self._catalogue = {
            entry["type"]: endpoint["url"]
            for entry in got.json()["token"]["catalog"]
            for endpoint in entry["endpoints"]
            if endpoint["region"] == mine.region
        }


def _microversion(service: str, version: str | None) -> dict[str, str]:
    name = "volume" if service == "block-storage" else service
    return {"OpenStack-API-Version": f"{name} {version}"} if version else {}


def _body(got: requests.Response) -> Any:
    try:
        return got.json()
    except ValueError:
        return got.text
