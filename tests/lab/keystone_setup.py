"""The lab's users, projects and catalogue, put into a fresh Keystone through its API."""

from __future__ import annotations

import dataclasses
from typing import Any

import requests

REGION = "RegionOne"
# The names stand where the ports will be known: the dump is filled in when it is loaded.
CATALOGUE = {
    "identity": "http://keystone.invalid/v3",
    "placement": "http://placement.invalid",
    "compute": "http://nova.invalid/v2.1",
    "block-storage": "http://cinder.invalid/v3/%(project_id)s",
    "network": "http://stub.invalid",
    "image": "http://stub.invalid",
}
SERVICES = ("nova", "cinder", "placement", "neutron")
SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Passwords:
    """Of the bootstrap's admin, of the services among themselves, of everybody else."""

    admin: str = dataclasses.field(repr=False)
    services: str = dataclasses.field(repr=False)
    others: str = dataclasses.field(repr=False)


def fill(url: str, passwords: Passwords) -> None:
    """Make what a cloud has on the day it opens; raises requests' errors.

    Project ``service`` with the services' users (roles admin and service) and two for detachd:
    ``detachd`` (admin) and ``detachd-service`` (admin and service). Project ``demo`` with a
    ``member``.
    """
    setup = _Setup(f"{url}/v3", passwords.admin)
    setup.catalogue()
    service, demo = setup.project("service"), setup.project("demo")
    for name in SERVICES:
        setup.user(name, passwords.services, service, "admin", "service")
    setup.user("detachd", passwords.others, service, "admin")
    setup.user("detachd-service", passwords.others, service, "admin", "service")
    setup.user("member", passwords.others, demo, "member")


class _Setup:
    def __init__(self, url: str, password: str) -> None:
        self._url = url
        self._session = requests.Session()
        domain = {"domain": {"id": "default"}}
        user = {"name": "admin", "password": password} | domain
        auth = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin"} | domain},
        }
        got = self._session.post(f"{url}/auth/tokens", json={"auth": auth}, timeout=SECONDS)
        got.raise_for_status()
        self._session.headers["X-Auth-Token"] = got.headers["X-Subject-Token"]
        listed = self._session.get(f"{url}/roles", timeout=SECONDS).json()["roles"]
        self._roles = {role["name"]: role["id"] for role in listed}

    def catalogue(self) -> None:
        """Register every service with its endpoints."""
        self._make("region", {"id": REGION})
        for kind, url in CATALOGUE.items():
            service = self._make("service", {"type": kind, "name": kind})
            for interface in ("public", "internal"):
                endpoint = {"service_id": service, "interface": interface, "url": url}
                self._make("endpoint", endpoint | {"region_id": REGION})

    def project(self, name: str) -> str:
        """Make a project and return its id."""
        return self._make("project", {"name": name, "domain_id": "default"})

    def user(self, name: str, password: str, project: str, *roles: str) -> None:
        """Make a user with these roles on the project."""
        user = self._make("user", {"name": name, "password": password, "domain_id": "default"})
        for role in roles:
            path = f"projects/{project}/users/{user}/roles/{self._roles[role]}"
            self._session.put(f"{self._url}/{path}", timeout=SECONDS).raise_for_status()

    def _make(self, kind: str, columns: dict[str, Any]) -> str:
        made = self._session.post(f"{self._url}/{kind}s", json={kind: columns}, timeout=SECONDS)
        made.raise_for_status()
        return str(made.json()[kind]["id"])
