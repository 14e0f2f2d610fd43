"""The recipes of docs/notifications.md: what they set, and Nova and Cinder that publish by it."""

from __future__ import annotations

import configparser
import dataclasses
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import oslo_messaging
import yaml
from oslo_config import cfg
from oslo_context.context import RequestContext

from tests.recorded import Recorded

PAGE = Path(__file__).parents[1] / "docs" / "notifications.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_URL = re.compile(r"rabbit://\S+?:\d+/(\S*)$", re.MULTILINE)

Options = Mapping[str, Mapping[str, object]]


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """What a way to deploy OpenStack has written before a recipe: options, and virtual hosts."""

    vhosts: Mapping[str, str]
    notifications: Mapping[str, str]
    rabbit: Mapping[str, str]


_QUORUM = {"rabbit_quorum_queue": "true"}
_OF_EACH = {"nova": "nova", "cinder": "cinder"}
_SHARED = {"nova": "/", "cinder": "/"}

# kolla-ansible: roles/nova/templates/nova.conf.j2. OpenStack-Ansible: os_nova's defaults/main.yml
# and templates/nova.conf.j2. genestack: base-helm-configs/nova, and openstack-helm's values.yaml.
DEPLOYMENTS = {
    "Plain nova.conf and cinder.conf": Deployment(_SHARED, {}, {}),
    "kolla-ansible": Deployment(_SHARED, {"driver": "noop"}, _QUORUM),
    "OpenStack-Ansible": Deployment(_OF_EACH, {"driver": "noop", "topics": ""}, _QUORUM),
    "genestack": Deployment(_OF_EACH, {"driver": "messagingv2"}, _QUORUM),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """What one section sets: for nova.conf and cinder.conf, in detachd.conf, on the broker."""

    publishers: Mapping[str, Options]
    detachd: str
    policies: tuple[tuple[str, ...], ...]

    def at(self, url_of: Callable[[str], str]) -> str:
        """Return detachd.conf with the URL of each virtual host instead of the recipe's."""
        return _URL.sub(lambda found: url_of(found[1]), self.detachd)


def recipe(name: str) -> Recipe:
    """Read a section of the page."""
    (text,) = (s for s in PAGE.read_text().split("\n## ") if s.startswith(f"{name}\n"))
    blocks = _BLOCK.findall(text)
    publishers: dict[str, Options] = {}
    for kind, block in blocks:
        publishers |= _publishers(kind, block)
    (detachd,) = (block for _, block in blocks if block.startswith("# detachd.conf\n"))
    commands = [line for kind, block in blocks if kind == "sh" for line in block.splitlines()]
    words = (tuple(shlex.split(line.partition("rabbitmqctl ")[2])) for line in commands)
    return Recipe(publishers, detachd, tuple(words))


def _publishers(kind: str, block: str) -> dict[str, Options]:
    """Return what a block sets, by the service that it is for; nothing for the other blocks."""
    file = Path(block.partition("\n")[0].removeprefix("# ")).name
    service = re.split(r"[.-]", file)[0]
    match kind:
        case "ini" if service in _SHARED:
            return {service: _read_ini(block)}
        case "yaml":
            variables = yaml.safe_load(block)
            if "conf" in variables:
                return dict(variables["conf"])
            return {name: variables[f"{name}_{name}_conf_overrides"] for name in _SHARED}
        case _:
            return {}


def _read_ini(text: str) -> Options:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(text)
    return {section: dict(parsed[section]) for section in parsed.sections()}


class Publisher:
    """Nova or Cinder, as far as notifications go; as a context manager.

    Nova's exchange is ``nova``, Cinder's oslo.messaging's default (nova/rpc.py, cinder/rpc.py).
    """

    def __init__(self, service: str, url: str, directory: Path, *layers: Options) -> None:
        base = {"DEFAULT": {"transport_url": url.replace("amqp://", "rabbit://")}}
        own = {"DEFAULT": {"control_exchange": "nova"}} if service == "nova" else {}
        self._conf = _conf(directory / f"{service}.conf", [base, own, *layers])
        self._transport = oslo_messaging.get_notification_transport(self._conf)
        self._plain = oslo_messaging.Notifier(self._transport, service)
        group = self._conf.notifications
        self._versioned = (
            oslo_messaging.Notifier(self._transport, service, driver="noop")
            if group.notification_format == "unversioned"
            else oslo_messaging.Notifier(
                self._transport,
                service,
                topics=group.versioned_notifications_topics,
            )
        )

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.cleanup()

    def tell(self, message: Recorded) -> None:
        """Publish what was recorded, by this configuration; a failure is logged, as theirs is."""
        topic, _, priority = message.routing_key.rpartition(".")
        notifier = self._versioned if topic.startswith("versioned") else self._plain
        inner = message.message
        context = {
            name.removeprefix("_context_"): value
            for name, value in inner.items()
            if name.startswith("_context_")
        }
        told_by = RequestContext.from_dict(context)
        getattr(notifier, priority)(told_by, message.event_type, inner["payload"])


def _conf(path: Path, layers: Iterable[Options]) -> cfg.ConfigOpts:
    merged = configparser.ConfigParser(interpolation=None)
    for layer in layers:
        merged.read_dict(_texts(layer))
    with path.open("w") as file:
        merged.write(file)
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)], default_config_dirs=[])
    # nova/conf/notifications.py
    conf.register_opts(
        [
            cfg.StrOpt("notification_format", default="unversioned"),
            cfg.ListOpt("versioned_notifications_topics", default=["versioned_notifications"]),
        ],
        group="notifications",
    )
    return conf


def _texts(options: Options) -> Mapping[str, Mapping[str, Any]]:
    return {
        section: {name: str(value) for name, value in values.items()}
        for section, values in options.items()
    }
