"""Cinder's long lists, a page at a time.

Cinder cuts a page at its own ``osapi_max_limit`` without a word, and the list of attachments has no
links to a next one: only an empty page says that there is no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from drivers.control_plane import ListedRow, ListedVolume
from drivers.openstack.answers import Call
from drivers.openstack.cinder_shapes import listed_rows, listed_volumes
from drivers.openstack.endpoint import Conversation

MICROVERSION = "3.27"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One kind of list: where it is, by what it is filtered, how one of it is read and named."""

    path: str
    status_filter: str
    read: Callable[[Any], Sequence[T]]
    key: Callable[[T], str]
    status: Callable[[T], str]


VOLUMES: Listing[ListedVolume] = Listing(
    "/volumes/detail", "status", listed_volumes, lambda v: v.volume_id, lambda v: v.status
)
# ``status`` is taken as a filter of attachments too, and finds nothing: there is no such column.
ROWS: Listing[ListedRow] = Listing(
    "/attachments", "attach_status", listed_rows, lambda r: r.attachment_id, lambda r: r.status
)


def page(
    asking: Conversation, listing: Listing[T], status: str, after: str | None, limit: int
) -> tuple[T, ...]:
    """Return the next ``limit`` of all projects in this status, ordered by id; fewer at the end.

    Raises NotFoundError where ``after`` does not exist any more.
    """
    found: list[T] = []
    microversion = asking.pin(MICROVERSION)
    while len(found) < limit:
        params = _params(listing.status_filter, status, after, limit - len(found))
        subjects = (after,) if after is not None else ()
        call = Call("GET", listing.path, microversion, subjects, params)
        part = _part(asking, listing, call)
        if not part:
            break
        found += part
        after = listing.key(part[-1])
    return tuple(found)


def _params(name: str, status: str, after: str | None, limit: int) -> Mapping[str, str]:
    params = {"all_tenants": "1", name: status, "sort": "id:asc", "limit": str(limit)}
    return params | ({"marker": after} if after is not None else {})


def _part(asking: Conversation, listing: Listing[T], call: Call) -> Sequence[T]:
    """Ask for what there is after the marker, and check that it is that."""
    part = asking.read(call, listing.read)
    asked = call.params[listing.status_filter]
    keys = [listing.key(one) for one in part]
    if any(listing.status(one) != asked for one in part):
        raise asking.nonsense(call, f"not all of the list are {asked}")
    if keys != sorted({*keys}) or (keys and keys[0] <= call.params.get("marker", "")):
        raise asking.nonsense(call, "the list is not ordered by id, or begins before its marker")
    return part
