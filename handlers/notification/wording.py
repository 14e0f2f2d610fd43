"""What is kept of a text that a publisher wrote: the words that say nothing of their own.

An error that Nova tells may hold whatever a command printed or was called with, in any form. No
list of forms is complete, so the list is the other way round.

1. A word is kept if it is in the vocabulary, or joined of such words (``DeviceDetachFailed``,
   ``volume_id``). So is an id with the form of a UUID, and a number of at most three digits.
2. Everything else is left out, and ``...`` stands for it. Then the length of the whole text and the
   beginning of its SHA-256 are told, by which it is found again where it was written.
3. What looks like a credential goes first (``redaction``): its value may be a word like any other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from handlers.notification.redaction import LONGEST_READ, scrub

LEFT_OUT, MASKED = "...", "***"
MARK_CHARACTERS = 8
LONGEST_WORD = 64
MOST_DIGITS = 3
UUID = re.compile(r"(?:req-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PIECES = re.compile(r"\s+|[\"'()\[\]{}<>,;:=]|[^\s\"'()\[\]{}<>,;:=]+")
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[._/\-]|.")
_GAPS = re.compile(r"(?:\.{3}[\s\"'()\[\]{}<>,;:=]*)+\.{3}")

WORDS = frozenset(
    """
    a able abort aborted aborting about accept accepted access action active address admin after
    again against agent all allocate allowed already also an and another answer answering any
    api args argument arguments array as at attach attached attaching attachment attachments
    attempt attempts attribute auth authentication authorization availability available away az
    back backend backends bad bdm be because been before being below between block body boot
    broken bus busy but by call called caller can cannot capacity cause caused ceph change
    changed channel check cinder class clean cleanup client close closed cluster code command
    commit complete completed compute condition config configuration configured conflict connect
    connected connecting connection connections connector contact content context control copy
    corrupt could create created creating credentials critical current data database db deadlock
    default delete deleted deleting denied deny detach detached detaching detail details
    detected device devices did didn different directory disabled disconnect disconnected disk
    does doesn domain done down driver due during each either empty enabled encountered end
    endpoint enough entity entry err erred error errors event exceeded exception exchange
    executing execution exist existing exists exit expected expired export exporter extend
    fabric fail failed failing failover fails failure false fault fc fetch fibre file filesystem
    flavor flush for forbidden force format found from function gateway get give given go gone
    got group guest had halted has have header held host hosts http https hung hypervisor id ids
    if image in inactive incapable info information initialize initialized initiator initiators
    input instance instances instead interface internal interrupted into invalid invocation io
    is iscsi iscsiadm issue it its job keystone kvm kwargs later lease level libvirt limit list
    live local lock locked log logged login logout long longer lost lun luns maintenance make
    many map mapped mapping max maximum may memory message messages messaging metadata method
    migrate migrated migrating migration min minimum mirror missing mode module more most mount
    mountpoint multi multiattach multipath multiple must name named names namespace need needed
    network never new nfs no node nodes none not notfound notification nova null number nvme
    object of off ok old on one online only open operation option or original os osd oslo other
    out over packet parameter params parse path paths paused payload pending perform permission
    permitted persistent ping please policy pool pools port portal ports possible power present
    previous problem process processing program project property protocol provided provider
    publisher python qemu query queue quota rados raise raised ran rbd reach reached read
    reading ready reason rebuild receive received reconnect record recover refresh refused
    reject rejected release remote removal remove removed rename reply report request requested
    requests required rescan reserve reserved reset resize resource response result results
    resume retries retry retrying return returned returns revert rights role rollback rolling
    row rpc run running same save scan schedule scheduler scsi sda sdb sdc search see segment
    send sent server servers service services session sessions set several shared shelved shut
    shutdown single size snapshot snapshots so socket some source space specified stack start
    started starting stat state status step still stop stopped storage string stuck success
    successful successfully such suspended swap system table take taken target targets task
    tasks temporarily temporary tenant terminate terminated terminating than that the their them
    then there these they this thread tier time timed timeout timeouts timestamp to too took
    traceback transaction transport tried tries trigger true try trying type types unable
    unattached unauthorized unavailable undefined under unexpected unit unknown unmap unmount
    unmounted unprocessable unreachable unsupported until up update updated url use used user
    using uuid valid validation value values vda vdb vdc vdd version versioned virt virtual vm
    volume volumes wait waited waiting was wasn way we were what when where which while who will
    with within without worker would write writing wrong xml yet zone
    """.split()  # noqa: SIM905 - a list of five hundred literals is no easier to read
)
"""Words of the errors of Cinder, Nova, os-brick, oslo.messaging, iscsiadm, libvirt and Ceph."""


def wording(text: str, length: int) -> str:
    """Return at most so many characters of what may be kept of a text; raises nothing.

    Takes linear time. Of a text that is longer than what is read, the rest is left out.
    """
    # A value that looks like a word ("password: volume") would pass the vocabulary.
    read = scrub(text[:LONGEST_READ])
    kept = _GAPS.sub(LEFT_OUT, "".join(_kept(read)))
    whole = kept == read and len(text) <= LONGEST_READ
    mark = "" if whole else f" [{len(text)} characters, SHA-256 {_mark(text)}]"
    return kept[: max(length - len(mark), 0)] + mark[:length]


def _kept(text: str) -> Iterator[str]:
    for piece in _PIECES.findall(text):
        harmless = len(piece) == 1 and not piece.isalnum()
        known = harmless or piece.isspace() or piece.strip(".") in {"", MASKED} or _is_known(piece)
        yield piece if known else LEFT_OUT


def _is_known(piece: str) -> bool:
    bare = piece.strip(".-/")
    if UUID.fullmatch(bare):
        return True
    return len(piece) <= LONGEST_WORD and all(map(_is_word, _PARTS.findall(bare)))


def _is_word(part: str) -> bool:
    if part.isdigit():
        return len(part) <= MOST_DIGITS
    return part in "._/-" or part.lower() in WORDS


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:MARK_CHARACTERS]
