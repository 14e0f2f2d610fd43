"""What tgtadm shows is read as it is or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.tgt.listing import (
    Disk,
    Nexus,
    OpenConnection,
    Target,
    UnreadableError,
    read_connections,
    read_targets,
)
from tests.recordings import SAMPLES

TARGETS = (SAMPLES / "tgt" / "targets.txt").read_text()
CONNECTIONS = (SAMPLES / "tgt" / "connections.txt").read_text()

HOST = "iqn.1994-05.com.redhat:compute-"
TELLING = (
    "Target ", "    System", "    I_T nexus", "    LUN", "    ACL", "        I_T nexus: ",
    "            Initiator: ", "            Connection: ", "                IP Address: ",
    "        LUN: ", "            Type: ", "            Backing store path: ",
)  # fmt: skip

# Of what tgtd puts into a line, none ends one; a carriage return does not either.
words = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"iqn\.[a-z0-9:.\-]{1,20}", fullmatch=True)
nexuses = st.builds(Nexus, st.integers(1, 65535), names, words)
disks = st.builds(Disk, st.integers(1, 255), words.filter(bool))
targets = st.builds(
    Target,
    tid=st.integers(1, 65535),
    name=words.filter(bool),
    nexuses=st.lists(nexuses, max_size=3).map(tuple),
    disks=st.lists(disks, max_size=3).map(tuple),
    rules=st.lists(words, max_size=3).map(tuple),
)
listings = st.lists(targets, max_size=4, unique_by=(lambda t: t.tid, lambda t: t.name)).map(tuple)


def shown(target: Target) -> str:
    """Write a target as tgtd does (usr/target.c, tgt_target_show_all)."""
    lines = [f"Target {target.tid}: {target.name}", "    System information:"]
    lines += ["        Driver: iscsi", "        State: ready", "    I_T nexus information:"]
    for nexus in target.nexuses:
        lines += [f"        I_T nexus: {nexus.session}"]
        lines += [f"            Initiator: {nexus.initiator} alias: none"]
        lines += ["            Connection: 0", f"                IP Address: {nexus.address}"]
    lines += ["    LUN information:", *unit(0, "controller", "None")]
    for disk in target.disks:
        lines += unit(disk.lun, "disk", disk.path)
    lines += ["    Account information:", "    ACL information:"]
    lines += [f"        {rule}" for rule in target.rules]
    return "".join(f"{line}\n" for line in lines)


def unit(lun: int, kind: str, path: str) -> list[str]:
    """Write a logical unit."""
    inner = [f"Type: {kind}", "SCSI ID: IET     00010001", "Size: 17 MB, Block size: 512"]
    inner += ["Backing store type: rdwr", f"Backing store path: {path}", "Backing store flags: "]
    return [f"        LUN: {lun}", *(f"            {line}" for line in inner)]


def test_recorded_listing_is_read() -> None:
    """Two sessions of one host, rules of every kind, two disks -> all of it is told."""
    control, used, opened, shared = read_targets(TARGETS)
    assert (control.name, control.disks, control.rules) == (
        "iqn.2026-01.org.example:storage-1", (), (),
    )  # fmt: skip
    assert used.nexuses == (
        Nexus(1, f"{HOST}1", "127.0.0.1"),
        Nexus(2, f"{HOST}1", "127.0.0.1"),
        Nexus(3, f"{HOST}2", "127.0.0.1"),
    )
    assert used.rules == (f"{HOST}1", f"{HOST}2")
    assert opened.rules == ("ALL", "192.0.2.0/24", "", f"{HOST}3")
    assert [disk.lun for disk in shared.disks] == [1, 2]


def test_recorded_connections_are_read() -> None:
    """The newest session comes first, as tgtd lists them."""
    assert read_connections(CONNECTIONS) == (
        OpenConnection(3, 0, f"{HOST}2"),
        OpenConnection(2, 0, f"{HOST}1"),
        OpenConnection(1, 0, f"{HOST}1"),
    )


def test_nothing_is_no_target() -> None:
    """An empty answer -> no target; that the answer was whole is for the command to prove."""
    assert read_targets("") == ()
    assert read_connections("") == ()


@given(listings)
def test_what_was_written_is_read(listing: tuple[Target, ...]) -> None:
    """Any names, addresses, rules and paths -> the same come out."""
    assert read_targets("".join(map(shown, listing))) == listing


@given(listings, st.data())
def test_cut_listing_is_unreadable_or_a_true_beginning(
    listing: tuple[Target, ...], data: st.DataObject
) -> None:
    """Cut anywhere -> refused, or what is left says nothing that is not so."""
    text = "".join(map(shown, listing))
    is_true_beginning(text, data.draw(st.integers(0, len(text))), listing)


def test_recorded_listing_cut_anywhere() -> None:
    """Each of the places where it can be cut -> the same."""
    listing = read_targets(TARGETS)
    refused = [cut for cut in range(len(TARGETS)) if not is_true_beginning(TARGETS, cut, listing)]
    assert len(refused) > len(TARGETS) * 0.98, "all but the ends of whole lines of access lists"


def is_true_beginning(text: str, cut: int, listing: tuple[Target, ...]) -> bool:
    """Read a cut text; False where it is refused, fail where something false is read."""
    try:
        *whole, last = read_targets(text[:cut]) or (None,)
    except UnreadableError:
        return False
    if last is not None:
        assert tuple(whole) == listing[: len(whole)]
        truth = listing[len(whole)]
        assert (last.tid, last.name, last.nexuses, last.disks) == (
            truth.tid, truth.name, truth.nexuses, truth.disks,
        )  # fmt: skip
        assert last.rules == truth.rules[: len(last.rules)]
    return True


@given(listings.filter(bool), st.data())
def test_lost_line_is_unreadable(listing: tuple[Target, ...], data: st.DataObject) -> None:
    """A line that says what belongs where is lost -> refused."""
    lines = "".join(map(shown, listing)).splitlines(keepends=True)
    telling = [n for n, line in enumerate(lines) if line.startswith(TELLING)]
    del lines[data.draw(st.sampled_from(telling))]
    with pytest.raises(UnreadableError):
        read_targets("".join(lines))


@pytest.mark.parametrize(
    "spoilt",
    [
        TARGETS.replace("I_T nexus: 2", "I_T nexus: two"),
        TARGETS.replace(" alias: none", "", 1),
        TARGETS.replace("    ACL information:", "    Access information:", 1),
        TARGETS.replace("Target 3:", "Target 2:"),
        TARGETS.replace(
            "volume-1b2c3d4e-0000-4000-8000-000000000003",
            "volume-1b2c3d4e-0000-4000-8000-000000000002",
        ),
        TARGETS + "tgtadm: something went wrong\n",
        TARGETS.replace("Target 1", "\tTarget 1"),
    ],
    ids=["number", "no alias", "section", "same number", "same name", "more", "indented"],
)
def test_other_forms_are_refused_and_shown(spoilt: str) -> None:
    """Anything that is not of the form -> UnreadableError, which shows where."""
    assert spoilt != TARGETS
    with pytest.raises(UnreadableError, match="tgtadm showed"):
        read_targets(spoilt)


def test_alias_cannot_make_up_a_session_unseen() -> None:
    """A host whose alias has line ends in it -> unreadable, not read as if tgtd had said it."""
    forged = "x\n            Connection: 0\n                IP Address: 192.0.2.1"
    with pytest.raises(UnreadableError):
        read_targets(TARGETS.replace("alias: none", f"alias: {forged}", 1))
