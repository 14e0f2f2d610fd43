"""The alerts: each fires when it should and only then, and asks for what detachd exports.

What fires when is in ``alerts/*.yaml``, for promtool.
"""

import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from prometheus_client import CollectorRegistry

from consumer.supervision.health import Health, Strangers
from consumer.work.worker import INTERNAL_ERROR_RULE
from handlers.case import CaseState, StepResult
from handlers.judgement import rules as decision_table
from handlers.judgement.diagnosis import rule_ids
from handlers.judgement.rule import Verdict
from metrics.collectors import LedgerCollector, LedgerState, ReadinessCollector
from metrics.instruments import Instruments
from tests.unit.metrics.alerting import (
    ALERTS,
    NAMES,
    RULES_FILE,
    SCENES,
    promtool,
    queries,
    rules,
    title,
)

BASE_URL = "https://docs.example/detachd/metrics/runbooks"
SEVERITIES = {"critical", "warning", "info"}
FROM_PROMETHEUS = {"job", "instance", "pod"}

SELECTOR = re.compile(r"\b(detachd_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
RECORDED = re.compile(r"\bdetachd:[\w:]+")


# -- what fires when -------------------------------------------------------------------------------


@pytest.mark.integration
def test_prometheus_reads_the_rules() -> None:
    """The rules as promtool checks them, duplicates included -> no complaint."""
    promtool("check", "rules", "--lint-fatal", str(RULES_FILE))


@pytest.mark.integration
@pytest.mark.parametrize("scene", SCENES, ids=lambda path: path.stem)
def test_an_alert_fires_when_it_should_and_only_then(scene: Path) -> None:
    """Each situation of the file -> the alerts that it expects, and near-misses none."""
    promtool("test", "rules", str(scene))


def test_a_missing_promtool_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """No promtool, no CI -> skipped, naming the Debian package."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="package prometheus"):
        promtool("--version")


def test_a_missing_promtool_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """No promtool where CI=true -> failed, naming the Debian package."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="package prometheus"):
        promtool("--version")


# -- that nothing is left untested -----------------------------------------------------------------


def scenes_of(path: Path) -> tuple[set[tuple[str, ...]], int]:
    """Return what a file expects to fire, with its texts, and how many situations fire nothing."""
    fired: set[tuple[str, ...]] = set()
    silent = 0
    for test in yaml.safe_load(path.read_text())["tests"]:
        asked = test.get("alert_rule_test", [])
        fired |= {
            identity(question["alertname"], alert["exp_labels"])
            for question in asked
            for alert in question["exp_alerts"]
        }
        sampled = [question["exp_samples"] for question in test.get("promql_expr_test", [])]
        silent += not any([*sampled, *(question["exp_alerts"] for question in asked)])
    return fired, silent


def identity(name: str, labels: dict[str, str]) -> tuple[str, ...]:
    """Return what tells the rules of one alert apart."""
    return name, labels["severity"], labels.get("failing", "")


def test_every_rule_is_seen_firing_with_its_texts() -> None:
    """A rule of the file -> some situation in which it, and its rendered texts, are expected."""
    fired = set[tuple[str, ...]]().union(*(scenes_of(path)[0] for path in SCENES))
    assert {identity(rule["alert"], rule["labels"]) for rule in ALERTS} == fired


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_near_misses(name: str) -> None:
    """An alert -> a file of its own, with situations in which it must not fire."""
    fired, silent = scenes_of(Path(__file__).parent / "alerts" / f"{name}.yaml")
    assert {alert for alert, *_ in fired} == {name}
    assert silent >= 2


# -- the rules themselves --------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ALERTS, ids=title)
def test_an_alert_waits_is_graded_and_says_what_to_do(rule: dict[str, Any]) -> None:
    """Any alert -> a `for`, one of three severities, few labels, three texts."""
    assert re.fullmatch(r"[1-9]\d*[mhd]", rule["for"])
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["labels"]) <= {"severity", "failing"}
    texts = rule["annotations"]
    assert set(texts) == {"summary", "description", "runbook_url"}
    assert len(texts["summary"]) < 80
    assert texts["description"].endswith(".")
    assert texts["runbook_url"] == f"{BASE_URL}/{rule['alert']}.md"


def test_every_alert_has_its_reason_in_a_comment() -> None:
    """An alert in the file -> the line before it is a comment: the threshold's reason."""
    lines = RULES_FILE.read_text().splitlines()
    at = [number for number, line in enumerate(lines) if "- alert:" in line]
    assert len(at) == len(ALERTS)
    assert [lines[n] for n in at if not lines[n - 1].lstrip().startswith("#")] == []


def test_what_is_recorded_is_used_and_what_is_used_is_recorded() -> None:
    """A recording rule -> asked for by an alert; a recorded name in an alert -> recorded."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for rule in ALERTS for name in RECORDED.findall(rule["expr"])}
    assert recorded == used


# -- that they ask for what detachd exports --------------------------------------------------------


def exported() -> dict[str, frozenset[str]]:
    """Return every series name that detachd exports, with its labels."""
    found: dict[str, frozenset[str]] = {}
    for collector in Instruments().registry._collector_to_names:
        labels = frozenset(getattr(collector, "_labelnames", ()))
        for family in collector.describe():
            match family.type:
                case "counter":
                    found[family.name + "_total"] = labels
                case "histogram":
                    found[family.name + "_bucket"] = labels | {"le"}
                    found |= dict.fromkeys([family.name + "_sum", family.name + "_count"], labels)
                case _:
                    found[family.name] = labels
    return found | read_at_scrape()


def read_at_scrape() -> dict[str, frozenset[str]]:
    """Return the same of what is asked for at each scrape only."""
    registry = CollectorRegistry()
    state = LedgerState(
        {"parked": (1, 1.0)}, 1, 1.0, paused=True, acknowledged={"parked": 1},
        open_breakers=("b",), paused_backends=("b",), fences={"b": (1, 1.0)},
    )  # fmt: skip
    registry.register(LedgerCollector(lambda: state))
    registry.register(ReadinessCollector(lambda: {"ledger": (True, False)}))
    return {s.name: frozenset(s.labels) for family in registry.collect() for s in family.samples}


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_metric_asked_for_is_exported_with_those_labels(where: str, query: str) -> None:
    """A name or label that no instrument has -> a rule that would never fire."""
    metrics = exported()
    asked = SELECTOR.findall(query)
    assert [name for name, _ in asked if name not in metrics] == [], where
    for name, matchers in asked:
        labels = {label for label, _, _ in MATCHER.findall(matchers)}
        assert labels <= metrics[name] | FROM_PROMETHEUS, where
    if asked:
        grouped = {g.strip() for gs in GROUPING.findall(query) for g in gs.split(",")}
        known = frozenset[str]().union(*(metrics[name] for name, _ in asked))
        assert grouped <= known | FROM_PROMETHEUS, where


def matched(label: str) -> list[tuple[str, str]]:
    """Return operator and value of every matcher on this label, in rules and runbooks."""
    return [
        (operator, value)
        for _, query in queries()
        for matchers in re.findall(r"[\w:]+\{([^}]*)\}", query)
        for found, operator, value in MATCHER.findall(matchers)
        if found == label
    ]


def test_each_component_is_graded_once() -> None:
    """What /readyz names, on a bus of its own too -> either critical or a warning.

    Cinder and Nova can be degraded too. Nova is never unready.
    """
    well = SimpleNamespace(bus="cell1", problems=(), connected=True, caught_up=True)
    part, ledger = Mock(status=lambda: well), Mock(pauses=lambda: ())
    health = Health(ledger, [part], part, part, strangers=Strangers(), stopping=threading.Event())
    components = set(health.ready())
    assert health.ready()["nova"] == (True, False)
    graded = {
        frozenset(n for n in components if bool(re.fullmatch(value, n)) is (operator != "!~"))
        for operator, value in matched("component")
    }
    assert graded == {
        frozenset({"service", "broker:cell1", "ledger"}),
        frozenset({"listener:cell1", "publisher", "replay"}),
        frozenset({"cinder"}),
        frozenset({"cinder", "nova"}),
    }


def test_every_state_asked_for_is_a_state_of_a_case() -> None:
    """`state` in a query -> values that cases have."""
    states = {state.value for state in CaseState}
    asked = {part for _, value in matched("state") for part in value.split("|")}
    assert {"parked", "awaiting-approval"} <= asked
    assert asked <= states


def test_writes_that_failed_are_all_that_were_made_and_not_done() -> None:
    """`result` in a query -> every way in which a made step can end, sorted rightly."""
    made = {result.value for result in set(StepResult) - {StepResult.INTENDED, StepResult.WITHHELD}}
    asked = {frozenset(value.split("|")) for _, value in matched("result")}
    assert asked == {frozenset(made), frozenset(made - {StepResult.DONE.value})}


DANGER = (
    "P6.guest-holds|P18.open-to-others|P19.given-away|P25.guest-not-ended|P27.let-in-beside-a-row"
)


def test_blind_attempts_are_those_of_the_rules_that_say_unknown() -> None:
    """`rule` in a query -> exactly the rules whose verdict is unknown, and internal errors."""
    unknown = {rule.rule_id for rule in decision_table.RULES if rule.verdict is Verdict.UNKNOWN}
    denied = {decision_table.CINDER_UNKNOWN, decision_table.UNKNOWN_TO_CINDER}
    blind = {*unknown, *denied, INTERNAL_ERROR_RULE}
    patterns = {value for operator, value in matched("rule") if operator == "=~"} - {DANGER}
    assert patterns
    for pattern in patterns:
        every_rule = {*rule_ids(), INTERNAL_ERROR_RULE}
        assert {name for name in every_rule if re.fullmatch(pattern, name)} == blind


def test_a_rule_that_has_an_alert_of_its_own_is_there() -> None:
    """`rule` equal to a name, or the alternatives of the danger -> rules that there are."""
    named = {value for operator, value in matched("rule") if operator == "="}
    assert named == {"P15.two-writers"}
    assert ("=~", DANGER) in matched("rule")
    assert {*named, *DANGER.split("|")} <= set(rule_ids())
