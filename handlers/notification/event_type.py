"""The event types that concern an attachment, and the filter that spots them in raw bytes."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from types import MappingProxyType


class Source(enum.Enum):
    """Who published the notification, and in which of Nova's two formats.

    ``SWEEP`` is no publisher: it is what our own sweep of Cinder's lists found.
    """

    CINDER = "cinder"
    NOVA_VERSIONED = "nova-versioned"
    NOVA_LEGACY = "nova-legacy"
    SWEEP = "sweep"


ON_THE_BUS = (Source.CINDER, Source.NOVA_VERSIONED, Source.NOVA_LEGACY)


class Operation(enum.Enum):
    """What was being done to the attachment."""

    ATTACH = "attach"
    DETACH = "detach"


class Phase(enum.Enum):
    """How far it had come. ``SIGNAL``: something else happened, which may concern attachments."""

    START = "start"
    END = "end"
    ERROR = "error"
    SIGNAL = "signal"


@dataclasses.dataclass(frozen=True, slots=True)
class EventType:
    """What an event type says by its name alone."""

    source: Source
    operation: Operation | None
    phase: Phase


def _event_types(
    source: Source, names: Mapping[str, tuple[Operation | None, Phase]]
) -> dict[str, EventType]:
    return {name: EventType(source, *meaning) for name, meaning in names.items()}


VOLUME_DELETED, VOLUME_UNMANAGED = "volume.delete.end", "volume.unmanage.end"
VOLUME_GONE = (VOLUME_DELETED, VOLUME_UNMANAGED)
"""After these Cinder has the volume no more; what was unmanaged is left on the backend (Cinder,
cinder/volume/manager.py ``delete_volume``)."""
_CINDER = {
    "volume.attach.start": (Operation.ATTACH, Phase.START),
    "volume.attach.end": (Operation.ATTACH, Phase.END),
    "volume.detach.start": (Operation.DETACH, Phase.START),
    "volume.detach.end": (Operation.DETACH, Phase.END),
    # Somebody wrote the status by hand, whatever the backend holds: the usage of the volume, before
    # and after (Cinder, cinder/api/contrib/admin_actions.py _reset_status). It ends no operation.
    "volume.reset_status.start": (Operation.ATTACH, Phase.ERROR),
    "volume.reset_status.end": (Operation.ATTACH, Phase.ERROR),
    VOLUME_DELETED: (None, Phase.SIGNAL),
    VOLUME_UNMANAGED: (None, Phase.SIGNAL),
    # Whatever is still let in stays so for the next owner (Cinder, cinder/transfer/api.py).
    "volume.transfer.create.end": (None, Phase.SIGNAL),
    "volume.transfer.accept.end": (None, Phase.SIGNAL),
    "volume.transfer.delete.end": (None, Phase.SIGNAL),
}
# Nova has no instance.volume_detach.error (Nova, nova/compute/manager.py _detach_volume).
_NOVA_VERSIONED = {
    "instance.volume_attach.start": (Operation.ATTACH, Phase.START),
    "instance.volume_attach.end": (Operation.ATTACH, Phase.END),
    "instance.volume_attach.error": (Operation.ATTACH, Phase.ERROR),
    "instance.volume_detach.start": (Operation.DETACH, Phase.START),
    "instance.volume_detach.end": (Operation.DETACH, Phase.END),
    "compute.exception": (None, Phase.ERROR),
    # What a server leaves behind: Nova swallows what Cinder refuses meanwhile (Nova,
    # nova/compute/manager.py _shutdown_instance, _post_live_migration, nova/compute/api.py
    # _local_cleanup_bdm_volumes). At the start nothing is left behind yet.
    "instance.delete.end": (None, Phase.SIGNAL),
    "instance.shutdown.end": (None, Phase.SIGNAL),
    "instance.live_migration_post.end": (None, Phase.SIGNAL),
    "instance.live_migration_post_dest.end": (None, Phase.SIGNAL),
    "instance.live_migration_rollback.end": (None, Phase.SIGNAL),
    "instance.live_migration_rollback_dest.end": (None, Phase.SIGNAL),
    "instance.evacuate": (None, Phase.SIGNAL),
}
# Errors bear the bare name of the method that failed (Nova, nova/exception_wrapper.py); the other
# two report success only, and have no start.
_NOVA_LEGACY = {
    "attach_volume": (Operation.ATTACH, Phase.ERROR),
    "detach_volume": (Operation.DETACH, Phase.ERROR),
    "reserve_block_device_name": (Operation.ATTACH, Phase.ERROR),
    "compute.instance.volume.attach": (Operation.ATTACH, Phase.END),
    "compute.instance.volume.detach": (Operation.DETACH, Phase.END),
    "compute.instance.delete.end": (None, Phase.SIGNAL),
    "compute.instance.shutdown.end": (None, Phase.SIGNAL),
    "compute.instance.live_migration._post.end": (None, Phase.SIGNAL),
    "compute.instance.live_migration.post.dest.end": (None, Phase.SIGNAL),
    "compute.instance.live_migration._rollback.end": (None, Phase.SIGNAL),
    "compute.instance.live_migration.rollback.dest.end": (None, Phase.SIGNAL),
    "compute.instance.evacuate": (None, Phase.SIGNAL),
}
EVENT_TYPES: Mapping[str, EventType] = MappingProxyType(
    _event_types(Source.CINDER, _CINDER)
    | _event_types(Source.NOVA_VERSIONED, _NOVA_VERSIONED)
    | _event_types(Source.NOVA_LEGACY, _NOVA_LEGACY)
)

RESET_STATUS = "volume.reset_status."
_KNOWN_BUT_UNUSED = ("volume.delete.", "volume.unmanage.", "instance.volume_swap.")
_OUR_OWN = "volume.force_detach."
_NOVA_USAGE = "volume.usage"
_CINDER_PREFIXES = ("volume.", "snapshot.", "backup.", "group.", "group_snapshot.")


def why_ignored(event_type: str) -> str:
    """Return in words why a message of this type is not used."""
    if event_type.startswith(_OUR_OWN):
        return f"{event_type} is an announcement of detachd's own"
    if event_type.startswith(_KNOWN_BUT_UNUSED):
        return f"{event_type} is known but not used yet"
    return f"{event_type} does not concern an attachment"


def source_of(event_type: str, payload: object) -> Source | None:
    """Recognise who published a message that is not used, None if it does not show."""
    if isinstance(payload, dict) and "nova_object.name" in payload:
        return Source.NOVA_VERSIONED
    if event_type.startswith("compute.instance.") or _is_legacy_error(payload):
        return Source.NOVA_LEGACY
    if event_type.startswith((_OUR_OWN, _NOVA_USAGE)):
        return None
    return Source.CINDER if event_type.startswith(_CINDER_PREFIXES) else None


def _is_legacy_error(payload: object) -> bool:
    return isinstance(payload, dict) and payload.keys() == {"exception", "args"}


# The value stays uncaptured unless it is plain text: what is escaped is left to the parser. Runs of
# backslashes are how often the JSON text was itself put into JSON text.
_KEY = b'"event_type'
_BLANK = rb"(?:\s|\\+[nrt])*"
_KEY_AND_VALUE = re.compile(_KEY + rb'\\*"' + _BLANK + rb":" + _BLANK + rb'(?:\\*"([^"\\]*)\\*")?')
_WANTED = frozenset(event_type.encode() for event_type in EVENT_TYPES)


def may_concern(body: bytes) -> bool:
    """Tell cheaply whether ``parse`` has to see this body; False only where it surely need not.

    Reads the bytes for every ``event_type``, at whatever depth of JSON inside JSON. True if one is
    ours or is not plain text, and if there is none at all: the body is then no notification, or a
    broken one, and the parser says which. Never raises.
    """
    seen = False
    # bytes.find leaps where the regular expression alone would stop at every quotation mark.
    at = body.find(_KEY)
    while at >= 0:
        if (match := _KEY_AND_VALUE.match(body, at)) is not None:
            # A value that is escaped may be ours in other letters ("\u0076olume..."): the parser
            # decides.
            if match[1] is None or match[1] in _WANTED:
                return True
            seen = True
        at = body.find(_KEY, at + len(_KEY))
    return not seen
