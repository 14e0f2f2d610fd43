"""Every bus that is listened to: ``[bus:NAME]``, or the one of transport_url."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from oslo_config import cfg

from consumer.bus import settings as bus
from consumer.bus import transport_url
from consumer.bus.broker import options_of_one_broker, unset
from consumer.bus.settings import ListenerSettings
from consumer.intake.replay_queue import ReplaySettings
from consumer.settings.files import ConfigurationError
from consumer.settings.queue_uses import queue_problems

PREFIX = "bus:"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_BROKER = "rabbit://"
"""What transport_url is when nobody sets it (oslo.messaging, transport.py)."""


def is_own(section: str) -> bool:
    """Tell whether a section of the configuration files is one of these."""
    return section.lower().startswith(PREFIX)


def options() -> list[cfg.Opt]:
    """Return the options of such a section; what it does not set is None."""
    where = cfg.StrOpt(
        "transport_url",
        secret=True,
        help="This bus's broker, written as transport_url in [DEFAULT] is.",
    )
    return [where, *map(unset, bus.OPTS), *options_of_one_broker()]


def read(conf: cfg.ConfigOpts) -> tuple[ListenerSettings, ...]:
    """Return the settings of every bus. Raises ConfigurationError with every problem."""
    sections = [section for section in conf.list_all_sections() if is_own(section)]
    found = tuple(_read_one(conf, section) for section in sections) or (_the_only_one(conf),)
    with transport_url.explained():
        replay = ReplaySettings.from_conf(conf)
    own, queues = _own_broker_problems(conf, sections), queue_problems(found, replay)
    problems = [*own, *(list(_case_problems(found)) or queues)]
    if problems:
        raise ConfigurationError(problems)
    return found


def _the_only_one(conf: cfg.ConfigOpts) -> ListenerSettings:
    with transport_url.explained():
        return ListenerSettings.from_conf(conf)


def _read_one(conf: cfg.ConfigOpts, section: str) -> ListenerSettings:
    conf.register_opts(options(), group=section)
    own, name = conf[section], section[len(PREFIX) :]
    if not _NAME.fullmatch(name):
        problem = f"[{section}]: a bus is named with letters, digits and . _ - (at most 64)"
        raise ConfigurationError([problem])
    if not own.transport_url:
        raise ConfigurationError([f"[{section}] has no transport_url: say where its broker is"])
    try:
        with transport_url.explained():
            return ListenerSettings.from_conf(conf, name, dict(own))
    except ConfigurationError as error:
        raise ConfigurationError([f"[{section}] {p}" for p in error.problems]) from error


def _own_broker_problems(conf: cfg.ConfigOpts, sections: Sequence[str]) -> Iterator[str]:
    announcing = conf.oslo_messaging_notifications.transport_url or conf.transport_url
    if sections and announcing == _NO_BROKER:
        yield (
            f"[{sections[0]}] says what is listened to, and [DEFAULT] has no transport_url: "
            "announcements and replays need one, which may be that of a bus"
        )


def _case_problems(settings: Sequence[ListenerSettings]) -> Iterator[str]:
    for one, other in itertools.combinations(settings, 2):
        if one.bus.lower() == other.bus.lower():
            yield f"the buses {one.bus} and {other.bus} differ by case only; rename one of them"
