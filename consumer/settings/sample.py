"""Configurations to begin with: the sample with every option, and the least that works.

The sample is made from the options themselves when it is asked for, so it also has those of storage
drivers that others have installed. ``etc/detachd.conf.sample`` is the same text, for readers.
"""

from __future__ import annotations

import configparser
import functools
import io
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from oslo_config import cfg, generator

NAMESPACES = ("detachd", "oslo.log")
WIDTH = 99
SIMULATED_ADDRESS = "127.0.0.1:10714"
A_BROKER_HERE = "rabbit://guest:guest@127.0.0.1:5672/"
"""RabbitMQ as it is after its installation: this user may connect from its own machine only."""

MINIMAL = """\
# The least that detachd needs. Replace the words in capitals. All options: detachd config sample
[DEFAULT]
transport_url = rabbit://detachd:PASSWORD@RABBIT-HOST:5672/

[ledger]
connection = sqlite:////var/lib/detachd/ledger.sqlite

[cinder]
auth_type = password
auth_url = http://KEYSTONE-HOST:5000/v3
username = detachd
password = PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne

[nova]
auth_section = cinder
region_name = RegionOne

[backend_defaults]
mode = observe
"""

SIMULATED = """\
# A trial on the simulated cloud of `detachd simulate`, with times of seconds instead of minutes.
[DEFAULT]
transport_url = {transport_url}

[cloud]
rpc_response_timeout_seconds = 1

[ledger]
connection = sqlite:///{ledger}
attach_deadline_seconds = 5
detach_deadline_seconds = 5
error_settle_seconds = 2

[simulator]
address = {address}
authkey = {authkey}

[backend_defaults]
driver = simulator
mode = auto
late_horizon_seconds = 5
"""


WORD = re.compile(r"\b(?:RABBIT-HOST|KEYSTONE-HOST|PASSWORD)\b")
"""The words in capitals."""


def words_left(text: str, section: str, option: str) -> list[str]:
    """Return the words of MINIMAL that this option still has, where MINIMAL has them. Pure.

    A word is looked for where it was printed, and nowhere else: there it is hardly meant.
    """
    return [
        word for word in WORD.findall(text) if word in _words_printed().get((section, option), ())
    ]


@functools.cache
def _words_printed() -> Mapping[tuple[str, str], Sequence[str]]:
    # [DEFAULT] is a section like the others here; configparser would hand its values on to all.
    printed = configparser.RawConfigParser(default_section="")
    printed.read_string(MINIMAL)
    return {
        (section, option): WORD.findall(value)
        for section in printed.sections()
        for option, value in printed.items(section)
    }


def sample() -> str:
    """Return the sample configuration: every option with its help and its default, commented."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    words = [word for name in NAMESPACES for word in ("--namespace", name)]
    conf([*words, "--wrap-width", str(WIDTH)], default_config_files=[], default_config_dirs=[])
    shown = io.StringIO()
    generator.generate(conf, shown)
    return shown.getvalue()


def simulated(directory: Path, transport_url: str = A_BROKER_HERE) -> str:
    """Return a configuration for a trial, with a new authkey and a ledger in ``directory``."""
    return SIMULATED.format(
        transport_url=transport_url.replace("$", "$$"),  # oslo.config replaces $NAME
        ledger=directory.absolute() / "detachd-trial.sqlite",
        address=SIMULATED_ADDRESS,
        # A new one each time: whoever knows it can send the simulator a pickle.
        authkey=secrets.token_urlsafe(24),
    )
