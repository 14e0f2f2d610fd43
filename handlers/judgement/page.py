"""The rules as people read them: docs/rules.md from its mark on, and one rule as text. Pure.

``python -m handlers.judgement.page docs/rules.md`` writes the page anew (``make docs``). What
stands above the mark is written by hand and kept.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from drivers.base import Connection, Connector, Observation, VolumeRef
from drivers.control_plane import BlockDevice, CinderAttachment, Server, Volume
from handlers.case import Case, CaseState, Trigger
from handlers.judgement.diagnosis import diagnose
from handlers.judgement.evidence import Absent, BackendEvidence, Blind, Evidence, Fact
from handlers.judgement.guards import Guard
from handlers.judgement.rule import Rule
from handlers.judgement.rules import PAGE
from handlers.notification import Operation

MARK = "<!-- From here on the page is made by `make docs`. -->"
STATUSES = ("available", "reserved", "attaching", "in-use", "detaching")
ROWS = (None, "reserved", "attaching", "attached")
BACKENDS = ("access", "clean", "blind")
HOST, SERVER, ROW = "compute-1", "server", "attachment"
CONNECTOR = Connector(host=HOST, initiator="iqn.host")


def page(before: str) -> str:
    """Return the whole page; of the text so far only what stands above the mark is kept."""
    head = before.partition(MARK)[0].rstrip()
    return "\n\n".join([head, MARK, *_contents(), *_matrix(), *_rules(), *_guards()]) + "\n"


def described(rule: Rule) -> str:
    """Return one rule in words: what is seen, meant and done, and where it comes from."""
    lines = [f"Seen: {_seen(rule)}"]
    if rule.unless:
        lines.append(f"Unless: {_unless(rule)}")
    if rule.where_blind:
        lines.append(f"Reason where blind: {rule.where_blind}.")
    rest = (("Meant", rule.meant), ("Done", rule.done), ("From", rule.source))
    return "\n".join([*lines, *(f"{word}: {text}" for word, text in rest)])


def _seen(rule: Rule) -> str:
    return " ".join(fact.sentence for fact in rule.when) or rule.seen or "None of the above."


def _unless(rule: Rule) -> str:
    return " ".join(
        f"`{other}` holds." if isinstance(other, str) else other.sentence for other in rule.unless
    )


def _contents() -> Iterator[str]:
    yield "## Contents"
    yield "\n".join(
        f"- {section.title}: " + ", ".join(f"[{r.rule_id}](#{_anchor(r)})" for r in section.rules)
        for section in PAGE
    )


def _anchor(rule: Rule) -> str:
    return rule.rule_id.lower().replace(".", "")


def _rules() -> Iterator[str]:
    for section in PAGE:
        yield f"## {section.title}"
        for rule in section.rules:
            case = f", {rule.use_case.value}" if rule.use_case else ""
            yield f"### {rule.rule_id}"
            yield f"**{rule.verdict.value}**{case}: {rule.reason}."
            yield described(rule).replace("\n", "\\\n")


def _guards() -> Iterator[str]:
    yield "## Guards"
    yield (
        "A rule says what should be done; a guard is a reason not to do it now. The guards are "
        "asked in this order: first what only a person can lift, then what passes by itself, "
        "then the operator's mode. The first that holds is reported, so that `observe` and "
        "`approve` never hide a deeper reason. Metrics count the guards under the same names in "
        "lower case."
    )
    for guard in Guard:
        yield f"### {guard.name}"
        yield f"**{guard.becomes.value}**: {guard.sentence}."
        yield guard.why


def _matrix() -> Iterator[str]:
    yield "## Which rule decides"
    yield (
        "For an attachment that is the volume's only one, whose server is active on a compute "
        "that is up, and whose host's connector is known; the case is about an attach, of a "
        "volume that is detaching about a detach. *Device*: a block device of Nova's holds the "
        "volume, and names the row where there is one. *Access*: the backend gives the host "
        "access, without a session."
    )
    columns = list(itertools.product((True, False), BACKENDS))
    titles = [f"{'device' if device else 'no device'}, {backend}" for device, backend in columns]
    lines = ["| volume | row | " + " | ".join(titles) + " |", "|---" * (len(columns) + 2) + "|"]
    for status, attachment in itertools.product(STATUSES, ROWS):
        cells = (_decides(status, attachment, device, backend) for device, backend in columns)
        lines.append(f"| {status} | {attachment or 'none'} | " + " | ".join(cells) + " |")
    yield "\n".join(lines)


def _decides(status: str, attachment: str | None, device: bool, backend: str) -> str:
    attachments = (
        ()
        if attachment is None
        else (CinderAttachment(ROW, attachment, SERVER, attachment == "attached", HOST),)
    )
    devices = (BlockDevice(ROW),) if device else ()
    server = Server(SERVER, "active", None, HOST, True, True, devices)
    evidence = Evidence(
        volume=Fact(Volume(VolumeRef("volume", "host@backend"), status, None, attachments, True)),
        servers=((SERVER, Fact(server)),),
        backend=_backend(backend),
        connectors=((HOST, CONNECTOR),),
        hosts_known=backend != "blind",
    )
    return diagnose(_case(status), evidence).rule


def _backend(backend: str) -> BackendEvidence:
    match backend:
        case "access":
            return Fact(Observation((Connection("iqn.host", HOST),), "a control"))
        case "clean":
            return Absent("a control")
        case _:
            return Blind("a driver")


def _case(status: str) -> Case:
    return Case(
        case_id="case",
        cloud="cloud",
        volume_id="volume",
        operation=Operation.DETACH if status == "detaching" else Operation.ATTACH,
        attachment_id=ROW,
        instance_id=SERVER,
        host=HOST,
        backend="host@backend",
        trigger=Trigger.ERROR,
        state=CaseState.DUE,
        opened_at=datetime.fromtimestamp(0, UTC),
        updated_at=datetime.fromtimestamp(0, UTC),
        attempts=1,
        signal_seq=0,
        connector=CONNECTOR,
    )


def main(file: Path) -> None:
    """Write the page anew."""
    file.write_text(page(file.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
