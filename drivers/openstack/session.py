"""How Cinder and Nova are reached: the sections ``[cinder]``, ``[nova]`` and ``[service_user]``.

1. They are written as in nova.conf, with any auth plugin of keystoneauth.
2. What bounds and repeats a call is ours (``[backend_defaults]``), so that keystoneauth's options
   for it are not taken.
3. Nothing here connects: that a section is wrong shows at the start, that Keystone is away does not
   keep the service from starting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keystoneauth1 import exceptions as ksa
from keystoneauth1 import loading
from keystoneauth1.adapter import Adapter
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.service_token import ServiceTokenAuthWrapper
from keystoneauth1.session import Session
from oslo_config import cfg

from drivers.openstack.endpoint import Endpoint
from drivers.openstack.exchange import BoundedLock, BoundedTransport

CINDER, NOVA, SERVICE_USER = "cinder", "nova", "service_user"
SECTIONS = (CINDER, NOVA, SERVICE_USER)
SERVICE_TYPES = {CINDER: "block-storage", NOVA: "compute"}
SAMPLE_PLUGIN = "password"
# A try that keystoneauth makes by itself is one that the ledger knows nothing of.
OURS = frozenset({
    "timeout", "collect_timing", "split_loggers", "connect_retries", "connect_retry_delay",
    "status_code_retries", "status_code_retry_delay", "retriable_status_codes",
})  # fmt: skip
BETTER_HELP = {
    "insecure": "Do not verify the certificate of an HTTPS endpoint.",
    "endpoint_override": (
        "The URL to use instead of the one from the service catalog. It must end with the version: "
        "for Cinder http://HOST:8776/v3/%(project_id)s, for Nova http://HOST:8774/v2.1."
    ),
}
TLS_OPTIONS = ("tls_ciphers", "tls_min_version")

GROUPS: Mapping[str, cfg.OptGroup] = {
    CINDER: cfg.OptGroup(
        CINDER,
        title="The connection to Cinder",
        help=(
            "The options are those of nova.conf, with any auth plugin of keystoneauth. The options "
            "below are those of auth_type = password. The user needs the admin role: without it, "
            "Cinder shows the volumes of one project only, and all other volumes would seem to be "
            "deleted. This section cannot be combined with [simulator]."
        ),
    ),
    NOVA: cfg.OptGroup(
        NOVA,
        title="The connection to Nova",
        help=(
            "The options are those of [cinder]. With auth_section = cinder, the credentials of "
            "[cinder] are used."
        ),
    ),
    SERVICE_USER: cfg.OptGroup(
        SERVICE_USER,
        title="A service token, which disables a check in Cinder",
        help=(
            "Cinder refuses to delete an attachment that Nova uses (CVE-2023-2088), unless the "
            "request carries a service token. detachd usually needs no service token: it deletes "
            "an attachment only when Nova does not use it any more, and then Cinder agrees. With "
            "auth_type and its options set, a person can order one for a single case whose call "
            "Cinder refused: `detachd case approve --action service-token`. The user needs a role "
            "that Cinder's service_token_roles names (service)."
        ),
    ),
}
SEND_TOKEN = cfg.BoolOpt(
    "send_service_user_token",
    default=False,
    help=(
        "Send a service token with the three calls that Cinder checks: the DELETE of an "
        "attachment, os-terminate_connection and os-force_detach. detachd makes these calls only "
        "when Nova does not use the attachment any more. If false, the token is sent only for a "
        "case for which a person orders it."
    ),
)


class SessionError(Exception):
    """The section for an API cannot be used; the text says which section and why."""


def options(section: str, plugin: str | None = SAMPLE_PLUGIN) -> list[cfg.Opt]:
    """Return what may stand in the section, with the options of one auth plugin.

    Raises SessionError where there is no such plugin.
    """
    own = [*loading.get_auth_common_conf_options(), *_plugin_options(section, plugin)]
    if section == SERVICE_USER:
        return [SEND_TOKEN, *own, *_session_options()]
    adapter = _without_ours(loading.get_adapter_conf_options(include_deprecated=False))
    # As in nova.conf. keystoneauth's own default is the public endpoint alone.
    cfg.set_defaults(
        adapter, service_type=SERVICE_TYPES.get(section), valid_interfaces=["internal", "public"]
    )
    return [*own, *_session_options(), *adapter]


def auth_options(section: str, plugin: str | None) -> list[cfg.Opt]:
    """Return what may stand in a section that another one names as its ``auth_section``."""
    return [*loading.get_auth_common_conf_options(), *_plugin_options(section, plugin)]


def configured(conf: cfg.ConfigOpts, section: str) -> bool:
    """Tell whether the section says how to authenticate."""
    return bool(conf[section].auth_type or conf[section].auth_section)


def cinder_endpoint(conf: cfg.ConfigOpts) -> Endpoint:
    """Build the endpoint of Cinder; connects to nothing. Raises SessionError."""
    auth, service_auth = _auth(conf, CINDER), None
    always = conf[SERVICE_USER].send_service_user_token
    if always or configured(conf, SERVICE_USER):
        # Made also where it is not sent always: a person may order it for one case.
        service_auth = ServiceTokenAuthWrapper(auth, _auth(conf, SERVICE_USER))
    adapter = _adapter(conf, CINDER, auth)
    return Endpoint("Cinder", CINDER, adapter, service_auth, always_sends_token=always)


def nova_endpoint(conf: cfg.ConfigOpts) -> Endpoint:
    """Build the endpoint of Nova; connects to nothing. Raises SessionError."""
    return Endpoint("Nova", NOVA, _adapter(conf, NOVA, _auth(conf, NOVA)))


def _plugin_options(section: str, plugin: str | None) -> list[cfg.Opt]:
    if not plugin:
        return []
    try:
        return list(loading.get_auth_plugin_conf_options(plugin))
    except ksa.NoMatchingPlugin:
        names = ", ".join(sorted(loading.get_available_plugin_names()))
        raise SessionError(
            f"[{section}] auth_type = {plugin}: there is no such auth plugin; there are: {names}"
        ) from None


def _session_options() -> list[cfg.Opt]:
    return _without_ours(loading.get_session_conf_options())


def _without_ours(opts: Sequence[cfg.Opt]) -> list[cfg.Opt]:
    kept = [opt for opt in opts if opt.dest not in OURS]
    for opt in kept:
        opt.help = BETTER_HELP.get(opt.dest, opt.help)
    return kept


def _auth(conf: cfg.ConfigOpts, section: str) -> BaseAuthPlugin:
    loading.register_auth_conf_options(conf, section)  # in its auth_section too
    try:
        auth = loading.load_auth_from_conf_options(conf, section)
    except ksa.MissingRequiredOptions as error:
        missing = ", ".join(opt.dest for opt in error.options)
        raise SessionError(f"[{section}] lacks {missing}") from None
    except ksa.AuthPluginException as error:
        raise SessionError(f"[{section}]: {error}") from None
    if auth is None:
        raise SessionError(
            f"[{section}] has no auth_type, so detachd does not know how to authenticate"
        )
    if hasattr(auth, "_lock"):
        auth._lock = BoundedLock()  # noqa: SLF001 - keystoneauth offers no other place for it
    return auth


def _adapter(conf: cfg.ConfigOpts, section: str, auth: BaseAuthPlugin) -> Adapter:
    group = conf[section]
    wrong = set(group.valid_interfaces) - {"public", "internal", "admin"}
    # keystoneauth takes any word for an interface, and then finds no endpoint.
    if wrong:
        raise SessionError(
            f"[{section}] valid_interfaces: {', '.join(sorted(wrong))} is none of public, "
            "internal, admin"
        )
    # keystoneauth would raise a TypeError, without the name of the section.
    if group.version and (group.min_version or group.max_version):
        raise SessionError(f"[{section}] has version beside min_version or max_version")
    return Adapter(
        _session(conf, section, auth),
        service_type=group.service_type,
        service_name=group.service_name,
        interface=group.valid_interfaces,
        region_name=group.region_name,
        endpoint_override=group.endpoint_override,
        version=group.version,
        min_version=group.min_version,
        max_version=group.max_version,
    )


def _session(conf: cfg.ConfigOpts, section: str, auth: BaseAuthPlugin) -> Session:
    group = conf[section]
    session = loading.session.Session().load_from_options(
        insecure=group.insecure,
        cacert=group.cafile,
        cert=group.certfile,
        key=group.keyfile,
        auth=auth,
        app_name="detachd",
    )
    transport = BoundedTransport(**dict(_tls(group)))
    # After keystoneauth's own adapters, which it mounts when the session is made.
    for scheme in ("http://", "https://"):
        session.session.mount(scheme, transport)
    return session


def _tls(group: cfg.ConfigOpts.GroupAttr) -> Iterator[tuple[str, Any]]:
    """Yield the TLS options that are set; older keystoneauths do not know them."""
    for name in TLS_OPTIONS:
        if value := getattr(group, name, None):
            yield name, value
