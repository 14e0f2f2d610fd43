"""The policies of docs/install.md, looked up in an installed Cinder and Nova."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import wheel
from tests.lab import environment
from tests.lab.environment import LabMissingError

PAGE = (wheel.ROOT / "docs" / "install.md").read_text()
JUDGE = """
import importlib, json, sys
from oslo_config import cfg
from oslo_policy import policy

service, changed, asked = json.load(sys.stdin)
rules = list(importlib.import_module(service + ".policies").list_rules())
conf = cfg.ConfigOpts()
conf([], default_config_files=[], default_config_dirs=[])


def allowed(changed):
    judge = policy.Enforcer(conf, use_conf=False)
    judge.set_rules(policy.Rules.from_dict({r.name: r.check_str for r in rules} | changed))
    who = {"roles": ["detachd"], "project_id": "service", "user_id": "d", "is_admin_project": True}
    who["is_admin"] = judge.enforce("context_is_admin", {}, who)
    of_another = {"project_id": "another", "user_id": "another"}
    return [name for name in asked if judge.enforce(name, of_another, who)]


names = {rule.name for rule in rules}
answer = {"unknown": [name for name in [*asked, *changed] if name not in names]}
print(json.dumps(answer | {"before": allowed({}), "with": allowed(changed)}))
"""


def asked_of(service: str) -> list[str]:
    """Return the policies that the table has of a service."""
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {service.capitalize()} `")]
    return sorted({name for row in rows for name in re.findall("`([^`]+)`", row.split("|")[2])})


def changed_in(service: str) -> dict[str, str]:
    """Return the rules of the page's policy.yaml of a service."""
    block = PAGE.split(f"# policy.yaml of {service.capitalize()}\n")[1].split("```")[0]
    return dict(re.findall(r'^(\w+): "(.*)"$', block, re.MULTILINE))


@pytest.fixture
def installed() -> Path:
    """Give the environment of the lab, which does not have to run; skip, or fail where CI=true."""
    try:
        return environment.require()
    except LabMissingError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.mark.lab
@pytest.mark.parametrize("service", ["cinder", "nova"])
def test_a_role_of_its_own_may_make_each_call(service: str, installed: Path) -> None:
    """The policy.yaml of the page -> every policy is known and lets the role; without it, none."""
    asked = asked_of(service)
    given = json.dumps([service, changed_in(service), asked])
    python = installed / "bin" / "python"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", JUDGE], input=given, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer == {"unknown": [], "before": [], "with": asked}
