"""Sequences of messages that no recording has, as raw bodies, and what must come of each.

The messages are late, doubled, out of order or lost; operations overlap on one volume; request ids
are shared; releases differ. Each sequence goes through the parser, the correlation and a ledger.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from typing import Any

from tests.recordings import enveloped
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    LEFT,
    LET_GO_IN_USE,
    SHELVED,
    UC1,
)
from tests.unit.handlers.judgement.pictures import (
    H1,
    H2,
    VOLUME,
    A,
    B,
    Picture,
    X,
    Y,
    access,
    attachment,
    server,
)

C, Z = "attachment-c", "instance-z"
ONE, TWO = "req-1", "req-2"
API, BACKEND = "volume.controller-1", "volume.storage-1@tgt"
_NUMBERS = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True)
class Shows:
    """A row as a message of Cinder's shows it."""

    attachment_id: str
    status: str
    instance_id: str | None = X
    host: str | None = None

    def told(self) -> Mapping[str, Any]:
        """Return what the payload has of it."""
        connector = {"host": self.host, "initiator": f"iqn.2026-01.test:{self.host}"}
        return {
            "id": self.attachment_id, "attach_status": self.status, "volume_id": VOLUME,
            "instance_uuid": self.instance_id, "attached_host": self.host,
            "connector": json.dumps(connector) if self.host else None, "connection_info": None,
        }  # fmt: skip


def cinder(
    event: str, *rows: Shows, request: str | None = ONE, by: str = BACKEND, **payload: Any
) -> bytes:
    """Return ``volume.EVENT`` of Cinder's; ``request`` is the id that it shares with Nova."""
    told = {
        "volume_id": VOLUME, "host": "storage-1@tgt#pool", "status": "reserved",
        "volume_attachment": [row.told() for row in rows],
    }  # fmt: skip
    own = f"req-own-{next(_NUMBERS)}"
    context = {"_context_request_id": own, "_context_global_request_id": request}
    return _body(f"volume.{event}", by, told | payload, context)


def nova(event: str, instance_id: str = X, request: str = ONE, host: str = H1) -> bytes:
    """Return ``instance.EVENT`` in Nova's versioned format."""
    data = {"volume_id": VOLUME, "uuid": instance_id, "host": host, "request_id": request}
    payload = {"nova_object.name": "InstanceActionVolumePayload", "nova_object.data": data}
    context = {"_context_request_id": request}
    return _body(f"instance.{event}", f"nova-compute:{host}", payload, context)


def nova_exception(request: str = ONE) -> bytes:
    """Return ``compute.exception``, which names no volume."""
    data = {"exception": "DeviceDetachFailed", "exception_message": "timed out"}
    payload = {"nova_object.name": "ExceptionPayload", "nova_object.data": data}
    context = {"_context_request_id": request}
    return _body("compute.exception", f"nova-compute:{H1}", payload, context)


def legacy_end(operation: str, instance_id: str = X, request: str = ONE) -> bytes:
    """Return Nova's unversioned end of an operation."""
    payload = {"volume_id": VOLUME, "instance_id": instance_id, "host": H1}
    context = {"_context_request_id": request}
    return _body(f"compute.instance.volume.{operation}", f"compute.{H1}", payload, context)


def legacy_error(function: str, attachment_id: str, request: str = ONE) -> bytes:
    """Return Nova's unversioned error, which bears the name of the function that failed."""
    device = {"volume_id": VOLUME, "attachment_id": attachment_id}
    args = {"instance": {"uuid": X, "host": H1}, "bdm": device, **device}
    payload = {"exception": "VolumeIsBusy()", "args": args}
    return _body(function, f"compute.{H1}", payload, {"_context_request_id": request})


def _body(event: str, publisher: str, payload: Any, context: Mapping[str, Any]) -> bytes:
    message = {
        "message_id": f"message-{next(_NUMBERS)}", "publisher_id": publisher, "event_type": event,
        "priority": "INFO", "payload": payload, "timestamp": "2026-11-28 12:00:00.000000",
        **context,
    }  # fmt: skip
    return enveloped(message)


def at(body: bytes, timestamp: object) -> bytes:
    """Return the message with another time of its publisher's clock."""
    inner = json.loads(json.loads(body)["oslo.message"])
    return enveloped(inner | {"timestamp": timestamp})


Comes = tuple[str, str | None, str]
"""A case: its operation, the attachment that it knows of, and what becomes of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """A sequence, the cases that must come of it, and the verdicts on the open one of them.

    ``world`` is how the sides stand when it is looked at; ``seeing`` and ``blind`` the rules that
    decide, where the driver sees and where not. ``suspected``: whether an access may be left.
    """

    name: str
    messages: tuple[bytes, ...]
    comes: tuple[Comes, ...]
    world: Picture | None = None
    seeing: str = ""
    blind: str = ""
    suspected: bool = False


ATTACHING = Shows(A, "attaching", host=H1)
RESERVED, ATTACHED_ROW = Shows(A, "reserved"), Shows(A, "attached", host=H1)
SECOND, SECOND_ATTACHED = Shows(B, "reserved", Y), Shows(B, "attached", Y, H2)
MOVED, MOVED_ATTACHED = Shows(B, "reserved"), Shows(B, "attached", host=H2)
FOR_SHELVED = Shows(C, "reserved", Z)
OFFLOADED = server(Z, C, vm_state="shelved_offloaded", host=None, compute_up=None)
WAITS_ATTACH = ("attach", A, "waits")
ENDED_ATTACH, ENDED_DETACH = ("attach", A, "ended"), ("detach", A, "ended")

GIVEN_UP_BESIDE = Picture(
    status="reserved", multiattach=True, attachments=(attachment(C, "reserved", Z),),
    servers=(server(X), OFFLOADED), backend=(access(H1),),
)  # fmt: skip
"""An attach was given up; the volume is reserved for another server, which is shelved."""
_TRIES = (
    nova("volume_attach.start"),
    cinder("attach.start", FOR_SHELVED, RESERVED),
    cinder("attach.start", FOR_SHELVED, RESERVED),
)
_RELEASE = (
    cinder("detach.start", FOR_SHELVED, RESERVED, by=API),
    cinder("detach.end", FOR_SHELVED, by=API),
)
_ASKED = (
    cinder("detach.start", FOR_SHELVED, ATTACHING),
    cinder("detach.end", FOR_SHELVED, by=API),
)
_FIRST, _LAST = (
    cinder("attach.start", RESERVED), cinder("attach.end", ATTACHED_ROW, by=API),
)  # fmt: skip

SEQUENCES: tuple[Told, ...] = (
    # -- one request id for many operations, as an orchestrator hands it on
    Told(
        "Nova alone, one request id: attached, detached, and attached anew without an end",
        (
            nova("volume_attach.start"), nova("volume_attach.end"), nova("volume_detach.start"),
            nova("volume_detach.end"), nova("volume_attach.start"),
        ),
        (("attach", None, "ended"), ("detach", None, "ended"), ("attach", None, "waits")),
        UC1, "UC1.unfinished", "UC1.unfinished",
    ),
    Told(
        "the same with Cinder's messages: the second attach is of another row",
        (
            nova("volume_attach.start"), _FIRST, _LAST, nova("volume_attach.end"),
            nova("volume_attach.start"), cinder("attach.start", MOVED),
        ),
        (ENDED_ATTACH, ("attach", B, "waits")),
    ),
    Told(
        "the start and the end of one attach, and nothing of it twice",
        (nova("volume_attach.end"), nova("volume_attach.start")),
        (("attach", None, "ended"),),
    ),
    Told(
        "two servers of one request get a volume, and the second one's attach hangs",
        (
            cinder("attach.start", RESERVED, SECOND),
            cinder("attach.start", ATTACHING, SECOND),
            cinder("attach.end", ATTACHED_ROW, Shows(B, "attaching", Y, H2), by=API),
        ),
        (("attach", None, "settles"),),
        ATTACHED.but(
            multiattach=True, status="attaching",
            attachments=(attachment(A, host=H1), attachment(B, "attaching", Y, host=H2)),
            servers=(server(X, A), server(Y, B, host=H2, vm_state="building", launched=False,
                                          task_state="spawning")),
        ),
        "B2.server-busy", "B2.server-busy",
    ),
    Told(
        "an error of another operation comes first, with a request id of its own",
        (nova_exception("req-9"), _FIRST), (WAITS_ATTACH,),
    ),
    # -- a row is given up beside one that is only reserved: the message does not say which
    Told(
        "an attach beside a shelved server's row is given up by Cinder's API",
        (*_TRIES, *_RELEASE), (("attach", A, "due"), ("detach", A, "ended")),
        GIVEN_UP_BESIDE, "UC5.leaked-beside-others", "UC5.leaked-beside-others", suspected=True,
    ),
    Told(
        "the same, and the end overtakes its start",
        (*_TRIES, *reversed(_RELEASE)), (("attach", A, "due"), ("detach", A, "ended")),
        GIVEN_UP_BESIDE, "UC5.leaked-beside-others", "UC5.leaked-beside-others", suspected=True,
    ),
    Told(
        "the same, but the backend itself was asked to let the host go",
        (*_TRIES, *_ASKED), (("attach", None, "waits"), ("detach", A, "ended")),
        GIVEN_UP_BESIDE, "UC5.leaked-beside-others", "C2.nothing-left-blind",
    ),
    Told(
        "the shelved server's volume is detached beside an attach that goes on",
        (
            *_TRIES, cinder("detach.start", FOR_SHELVED, RESERVED, by=API, request=TWO),
            cinder("detach.end", RESERVED, by=API, request=TWO),
        ),
        (("attach", None, "waits"), ("detach", C, "ended")),
    ),
    # -- late, doubled, lost
    Told(
        "an unshelving uses the row anew, soon after its attach, and hangs",
        (_FIRST, _LAST, cinder("attach.start", RESERVED, request=TWO)),
        (("attach", A, "settles"),),
        SHELVED.but(status="attaching", attachments=(attachment(A, "attaching", host=H2),),
                    servers=(server(X, A, vm_state="shelved_offloaded", task_state="spawning",
                                    host=H2),), backend=(access(H2),)),
        "B2.server-busy", "B2.server-busy",
    ),
    Told(
        "the end is told twice, then Cinder's start once more",
        (_FIRST, _LAST, cinder("attach.end", ATTACHED_ROW, by=API), cinder("attach.start",
            ATTACHED_ROW)),
        (("attach", A, "settles"),), ATTACHED, "H2.attached", "H2.attached",
    ),
    Told("one message twice", (_FIRST, _FIRST, _LAST), (ENDED_ATTACH,)),
    Told(
        "the backend comes to a try after all are over and the row is gone",
        (
            _FIRST, _FIRST, cinder("attach.start", RESERVED),
            cinder("detach.start", RESERVED, by=API), cinder("detach.end", by=API),
            cinder("attach.start"),
        ),
        (("attach", A, "due"),),
        Picture(backend=(access(H1),)), "UC5.leaked", "UC5.leaked", suspected=True,
    ),
    Told(
        "the end is lost, and another server gets the volume",
        (_FIRST, cinder("attach.start", ATTACHED_ROW, SECOND, request=TWO),
         cinder("attach.end", ATTACHED_ROW, SECOND_ATTACHED, by=API, request=TWO)),
        (WAITS_ATTACH, ("attach", B, "ended")),
        ATTACHED.but(
            multiattach=True, attachments=(attachment(A), attachment(B, instance_id=Y, host=H2)),
            servers=(server(X, A), server(Y, B, host=H2)),
            backend=(access(H1, sessions=1), access(H2, sessions=1)),
        ),
        "H2.attached", "H2.attached",
    ),
    Told("an end alone, of whatever", (legacy_end("attach"), _LAST), ()),
    Told(
        "every end comes before its start",
        (legacy_end("attach"), nova("volume_attach.end"), _LAST, _FIRST,
         nova("volume_attach.start")),
        (ENDED_ATTACH,),
    ),
    Told(
        "clocks that are wrong by decades, or say nothing",
        (at(_FIRST, "2099-01-01 00:00:00"), at(nova("volume_attach.start"), None),
         at(_LAST, "1970-01-01 00:00:00"), at(nova("volume_attach.end"), "tomorrow")),
        (ENDED_ATTACH,),
    ),
    Told(
        "a guest refuses a detach, and gives up the disk at the next one",
        (
            nova("volume_detach.start"), nova_exception(),
            nova("volume_detach.start", request=TWO),
            cinder("detach.start", ATTACHED_ROW, request=TWO),
            cinder("detach.end", by=API, request=TWO), nova("volume_detach.end", request=TWO),
        ),
        (("detach", A, "due"),), Picture(), "C1.nothing-left", "C2.nothing-left-blind",
    ),
    # -- both of Nova's formats, and other releases
    Told(
        "one error in both of Nova's formats, and its exception",
        (
            nova("volume_attach.start"), _FIRST, legacy_error("attach_volume", A),
            nova("volume_attach.error"), nova_exception(),
        ),
        (("attach", A, "due"),), UC1, "UC1.unfinished", "UC1.unfinished",
    ),
    Told(
        "one end in both of Nova's formats, the other way round",
        (_FIRST, nova("volume_attach.start"), legacy_end("attach"), _LAST,
         nova("volume_attach.end")),
        (ENDED_ATTACH,),
    ),
    Told(
        "an old Cinder shows no rows and shares no request id",
        (cinder("attach.start", request=None), cinder("attach.end", request=None)),
        (("attach", None, "waits"),), ATTACHED, "H2.attached", "H2.attached",
    ),
    Told(
        "Cinder of Queens tells an end when the backend has let the host in",
        (_FIRST, cinder("attach.end", ATTACHING)), (WAITS_ATTACH,), UC1, "UC1.unfinished",
        "UC1.unfinished",
    ),
    Told(
        "the same, and Nova tells its own end",
        (_FIRST, cinder("attach.end", ATTACHING), legacy_end("attach")),
        (("attach", A, "settles"),),
    ),
    Told(
        "ids that are numbers are no ids",
        (cinder("attach.start", RESERVED, volume_id=42),
         cinder("attach.start", volume_attachment=[{"id": 7, "attach_status": "reserved"}])),
        (),
    ),
    # -- moves of a server
    Told(
        "a cold migration exchanges the row",
        (
            cinder("detach.start", ATTACHED_ROW, MOVED), cinder("detach.end", MOVED, by=API),
            cinder("attach.start", MOVED), cinder("attach.end", MOVED_ATTACHED, by=API),
        ),
        (ENDED_DETACH, ("attach", B, "ended")),
    ),
    Told(
        "the same as an evacuation, which Nova calls a detach",
        (
            nova("volume_detach.start", host=H2), cinder("detach.start", ATTACHED_ROW, MOVED),
            cinder("detach.end", MOVED, by=API), nova("volume_detach.end", host=H2),
            cinder("attach.start", MOVED), cinder("attach.end", MOVED_ATTACHED, by=API),
        ),
        (ENDED_DETACH, ("attach", B, "ended")),
    ),
    Told(
        "a cold migration, and the source's row could not be deleted",
        (
            cinder("detach.start", ATTACHED_ROW, MOVED),
            cinder("attach.start", ATTACHED_ROW, MOVED),
            cinder("attach.end", ATTACHED_ROW, MOVED_ATTACHED, by=API),
        ),
        (("detach", None, "waits"), ("attach", B, "ended")), LEFT, "S2.left-on-source",
        "S2.left-on-source",
    ),
    Told(
        "a live migration is rolled back before the destination was let in",
        (
            cinder("attach.start", ATTACHED_ROW, MOVED),
            cinder("detach.start", ATTACHED_ROW, MOVED, by=API),
            cinder("detach.end", ATTACHED_ROW, by=API),
        ),
        (("attach", B, "due"),), ATTACHED, "C1.nothing-left", "P31.leak-unseen",
        suspected=True,
    ),
    # -- in the midst of it
    Told(
        "two detaches of a multiattach volume overlap",
        (
            cinder("detach.start", ATTACHED_ROW, SECOND_ATTACHED),
            cinder("detach.start", ATTACHED_ROW, SECOND_ATTACHED, request=TWO),
            cinder("detach.end", SECOND_ATTACHED, by=API),
            cinder("detach.end", by=API, request=TWO),
        ),
        (ENDED_DETACH, ("detach", None, "ended")),
    ),
    Told(
        "the volume is deleted in the midst of an attach",
        (_FIRST, cinder("delete.end")), (("attach", A, "due"),),
    ),
    Told(
        "a volume is detached from a shelved server, and its backend fails",
        (cinder("detach.start", Shows(A, "attached")),), (("detach", A, "waits"),),
        LET_GO_IN_USE.but(
            attachments=(attachment(A, info=False),),
            servers=(server(X, vm_state="shelved_offloaded", host=None, compute_up=None),),
        ),
        "UC3.let-go-in-use", "P23.no-device",
    ),
    Told(
        "the volume is unmanaged in the midst of an attach",
        (_FIRST, cinder("unmanage.end")), (("attach", A, "due"),),
    ),
    Told("a volume that nobody ever attached is unmanaged", (cinder("unmanage.end"),), ()),
    Told(
        "the volume is put up for transfer in the midst of a detach",
        (cinder("detach.start", ATTACHED_ROW), cinder("transfer.create.end")),
        (("detach", A, "due"),),
        Picture(status="awaiting-transfer", backend=(access(H1),)), "P19.given-away",
        "C2.nothing-left-blind",
    ),
    Told(
        "a person resets the status in the midst of a detach, and the guest writes on",
        (
            cinder("detach.start", ATTACHED_ROW), cinder("reset_status.start", ATTACHED_ROW),
            cinder("reset_status.end"),
        ),
        (("detach", A, "due"),),
        Picture(servers=(server(X, A),), backend=(access(H1, sessions=1),)),
        "P6.guest-holds", "P6.guest-holds",
    ),
    Told(
        "the same in the midst of an attach, and the next server gets the volume",
        (
            _FIRST, cinder("reset_status.start", ATTACHING), cinder("reset_status.end"),
            cinder("attach.start", SECOND, request=TWO),
            cinder("attach.end", SECOND_ATTACHED, by=API, request=TWO),
        ),
        (("attach", A, "due"), ("attach", B, "ended")),
        ATTACHED.but(
            attachments=(attachment(B, instance_id=Y, host=H2),),
            servers=(server(X, A), server(Y, B, host=H2)),
            backend=(access(H1, sessions=1), access(H2, sessions=1)),
        ),
        "P15.two-writers", "P6.guest-holds",
    ),
    Told(
        "a row in error stands beside the one that is being made",
        (cinder("attach.start", Shows(C, "error_attaching", Z), RESERVED),),
        (("attach", None, "waits"),),
        UC1.but(attachments=(attachment(C, "error_attaching", Z), attachment(A, "attaching")),
                servers=(server(X), server(Z))),
        "P3.ambiguous", "P3.ambiguous",
    ),
)  # fmt: skip
HEALTHY = (
    nova("volume_attach.start"), _FIRST, _LAST, nova("volume_attach.end"), legacy_end("attach"),
)  # fmt: skip
"""An attach that goes well, with every message that there is of it."""
