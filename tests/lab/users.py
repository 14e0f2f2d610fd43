"""The lab's users, as Keystone's administrator has them in hand."""

from __future__ import annotations

import requests

from tests.lab.openstack import OpenStack
from tests.lab.rest import Rest

SECONDS = 30.0


class Users:
    """Keystone, asked by its administrator."""

    def __init__(self, lab: OpenStack) -> None:
        self._lab = lab
        self._admin: Rest = lab.rest("admin")

    def enable(self, name: str, *, yes: bool) -> None:
        """Let a user in, or lock it out; to lock it out also revokes every token that it has."""
        (user,) = self._admin.do("identity", "GET", f"/users?name={name}")["users"]
        self._admin.do("identity", "PATCH", f"/users/{user['id']}", {"user": {"enabled": yes}})

    def revoke_tokens(self, name: str) -> None:
        """Revoke every token that a user has."""
        self.enable(name, yes=False)
        self.enable(name, yes=True)

    def forgotten_by_the_apis(self) -> None:
        """Have the APIs ask Keystone again: each keeps for minutes what it was told of a token."""
        for name in ("cinder-api", "nova-api"):
            self._lab.daemons[name].restart()

    def token_of(self, name: str) -> str:
        """Log a user in and return the token."""
        return self._lab.rest(name).token

    def is_valid(self, token: str) -> bool:
        """Ask Keystone whether a token is good."""
        headers = {"X-Auth-Token": self._admin.token, "X-Subject-Token": token}
        url = f"{self._lab.auth_url}/auth/tokens"
        return requests.get(url, headers=headers, timeout=SECONDS).ok
