"""detachd's own clients of the lab's Cinder and Nova, and the sections that configure them."""

from __future__ import annotations

import tempfile

from oslo_config import cfg

from drivers.openstack import session
from drivers.openstack.cinder import CinderClient
from drivers.openstack.nova import NovaClient
from tests.lab.rest import Credentials


def accounts(
    user: Credentials, vouching: Credentials | None = None, *, always: bool = True
) -> dict[str, dict[str, object]]:
    """Return ``[cinder]`` and ``[nova]`` for a user as they stand in detachd.conf.

    With ``vouching``, the user of the service token, ``[service_user]`` too; it is sent only with
    the calls that ask for it where not ``always``.
    """
    region = {"region_name": user.region}
    own = {name: _account(user) | region for name in ("cinder", "nova")}
    if vouching is not None:
        own["service_user"] = {"send_service_user_token": str(always)} | _account(vouching)
    return own


def sections(user: Credentials, vouching: Credentials | None = None, *, always: bool = True) -> str:
    """Return the same as text."""
    return "".join(
        f"[{name}]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())
        for name, options in accounts(user, vouching, always=always).items()
    )


def cinder(
    user: Credentials, vouching: Credentials | None = None, *, always: bool = True
) -> CinderClient:
    """Return a client of Cinder for a user."""
    conf = _conf(sections(user, vouching, always=always))
    return CinderClient(session.cinder_endpoint(conf))


def nova(user: Credentials) -> NovaClient:
    """Return a client of Nova for a user."""
    return NovaClient(session.nova_endpoint(_conf(sections(user))))


def _account(user: Credentials) -> dict[str, object]:
    return {
        "auth_type": "password",
        "auth_url": user.auth_url,
        "username": user.username,
        "password": user.password,
        "project_name": user.project,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


def _conf(text: str) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    for section in session.SECTIONS:
        conf.register_opts(session.options(section, None), group=section)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        conf(["--config-file", file.name], project="detachd", default_config_files=[])
    return conf
