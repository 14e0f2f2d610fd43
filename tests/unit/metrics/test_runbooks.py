"""The runbooks: a page for each alert, whose queries and commands are real."""

import argparse
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from consumer.cli.commands import every
from tests.unit.metrics.alerting import (
    ALERTS,
    NAMES,
    PAGES,
    RUNBOOKS,
    promtool,
    queries_of,
    title,
)

SECTIONS = ["Meaning", "Impact", "First look", "What to do", "When it is harmless"]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Alerts and pages -> the same names."""
    assert [page.stem for page in PAGES] == NAMES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_runbook_answers_the_five_questions(page: Path) -> None:
    """A page -> its alert's name, the five parts in order, queries and commands to paste."""
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^\*\*([^*]+)\.\*\*", text, re.MULTILINE) == SECTIONS
    assert queries_of(page)
    assert re.search(r"^    \S", text, re.MULTILINE)


@pytest.mark.integration
def test_the_queries_of_every_runbook_are_promql(tmp_path: Path) -> None:
    """A query to paste -> Prometheus parses it."""
    recorded = [
        {"record": f"{page.stem}:{number}", "expr": query}
        for page in PAGES
        for number, query in enumerate(queries_of(page))
    ]
    assert len(recorded) > len(PAGES)
    as_rules = tmp_path / "queries.yaml"
    as_rules.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": recorded}]}))
    promtool("check", "rules", str(as_rules))


def test_links_between_runbooks_lead_somewhere() -> None:
    """A link to another file -> that file exists."""
    for page in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^):]+)\)", page.read_text()):
            assert (RUNBOOKS / target).resolve().exists(), f"{page.name}: {target}"


def commands() -> list[tuple[str, str]]:
    """Return every detachd command that a page or an alert tells people to type."""
    texts = {page.name: page.read_text() for page in PAGES}
    texts |= {title(rule): rule["annotations"]["description"] for rule in ALERTS}
    found: list[tuple[str, str]] = []
    for where, text in texts.items():
        spans = re.findall(r"`(detachd\s[^`]+)`", text)
        lines = re.findall(r"^    (detachd [^#\n]+)", text, re.MULTILINE)
        found += [(where, " ".join(command.split())) for command in (*spans, *lines)]
    return found


def parsers() -> Mapping[str, argparse.ArgumentParser]:
    """Return the parser of each command, by its words."""
    return {
        listed.name: listed.load()(None, None).get_parser(f"detachd {listed.name}")
        for listed in every()
    }


def test_every_command_told_to_people_is_one_that_detachd_understands() -> None:
    """A command in a page or an alert -> its own parser takes it, options and all."""
    known, told = parsers(), commands()
    assert len(told) > len(PAGES)
    for where, command in told:
        words = shlex.split(command)[1:]
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
        assert name is not None, f"{where}: there is no command {command!r}"
        try:
            known[name].parse_args(words[len(name.split()) :])
        except SystemExit:
            pytest.fail(f"{where}: detachd does not understand {command!r}")


def test_a_runbook_promises_only_what_its_command_prints() -> None:
    """`case show` for writes, history, messages or announcements -> with --all, which has them."""
    lines = [
        line
        for page in PAGES
        for line in re.findall(r"^    detachd case show .*#.*$", page.read_text(), re.MULTILINE)
        if re.search("write|history|notification|announcement", line.partition("#")[2])
    ]
    assert lines
    assert [line for line in lines if "--all" not in line] == []
