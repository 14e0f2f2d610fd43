"""Cinder over its REST API: ``drivers.control_plane.Cinder`` for a real cloud.

A look is three requests, or two where the volume is gone; each write is one. Facts about the API
are from Cinder 29 (cinder/api/v3, cinder/api/contrib, cinder/volume/api.py).

1. An answer counts only if it has what Cinder shows to an admin alone: to others another project's
   volumes do not exist.
2. A list is what was asked for: each item is compared with the filter, and the order is checked.
3. Cinder cuts a page at its own ``osapi_max_limit`` silently, and the list of attachments has no
   links to a next one: only an empty page says that there is no more.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from drivers.base import Connector
from drivers.control_plane import CinderAttachment, ListedAttachment, ListedVolume, Volume
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
)
from drivers.openstack import cinder_shapes
from drivers.openstack.cinder_shapes import listed_attachments, listed_volumes
from drivers.openstack.endpoint import Answer, Call, Conversation, Endpoint
from drivers.openstack.shapes import items

T = TypeVar("T")

VOLUME = ("3.61", "3.48")
"""3.48 shared_targets, 3.61 cluster_name. From 3.69 on shared_targets may be null."""
ATTACHMENTS, COMPLETE, SUMMARY, ACTION, POOLS = "3.27", "3.44", "3.12", "3.0", "3.0"
SERVICES = "3.7"
"""The cluster's name. From 3.49 on the list asks the scheduler for every pool first."""

EMPTY_INSTANCE = "from instance  using the Compute API"
"""Cinder's guard names an empty instance where it found no single row to ask Nova about."""
REFUSED_BY_SCHEMA = "Invalid input for field"


@dataclasses.dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One kind of list: its path, its filter, how one item of it is read and named."""

    path: str
    status_filter: str
    read: Callable[[Any], Sequence[T]]
    key: Callable[[T], str]
    status: Callable[[T], str]


VOLUMES: Listing[ListedVolume] = Listing(
    "/volumes/detail", "status", listed_volumes, lambda v: v.volume_id, lambda v: v.status
)
# ``status`` is taken as a filter of attachments too, and finds nothing: there is no such column.
ROWS: Listing[ListedAttachment] = Listing(
    "/attachments",
    "attach_status",
    listed_attachments,
    lambda r: r.attachment_id,
    lambda r: r.status,
)


def page(
    asking: Conversation, listing: Listing[T], status: str, after: str | None, limit: int
) -> tuple[T, ...]:
    """Return the next ``limit`` of all projects in this status, ordered by id; fewer at the end.

    Raises NotFoundError where ``after`` does not exist any more.
    """
    found: list[T] = []
    microversion = asking.pin(ATTACHMENTS)
    # Page by page although one page was asked for: Cinder cuts it at its own ``osapi_max_limit``.
    while len(found) < limit:
        params = _params(listing.status_filter, status, after, limit - len(found))
        # A marker that was deleted meanwhile is a 404 that names it.
        subjects = (after,) if after is not None else ()
        call = Call("GET", listing.path, microversion, subjects, params)
        part = _part(asking, listing, call)
        # Only an empty page says that there is no more: the list of attachments has no links to a
        # next one.
        if not part:
            break
        found += part
        after = listing.key(part[-1])
    return tuple(found)


def _params(name: str, status: str, after: str | None, limit: int) -> Mapping[str, str]:
    # By id, which never changes: by time, a volume that moves during the sweep would be passed over
    # or come twice.
    params = {"all_tenants": "1", name: status, "sort": "id:asc", "limit": str(limit)}
    return params | ({"marker": after} if after is not None else {})


def _part(asking: Conversation, listing: Listing[T], call: Call) -> Sequence[T]:
    """Ask for what there is after the marker, and check that it is that."""
    part = asking.read(call, listing.read)
    status = call.params[listing.status_filter]
    keys = [listing.key(one) for one in part]
    # Cinder drops a filter that it does not know, or that the user may not use, without a word.
    if any(listing.status(one) != status for one in part):
        raise asking.unusable(call, f"not all of the list are {status}")
    # A list out of order would never end, or end too early, as the next page begins after the last
    # id.
    if keys != sorted({*keys}) or (keys and keys[0] <= call.params.get("marker", "")):
        raise asking.unusable(call, "the list is not ordered by id, or begins before its marker")
    return part


class CinderClient:
    """Meets ``drivers.control_plane.Cinder``. Thread-safe; connects to nothing until called."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Volume | None:
        """Return the volume with its rows in every attach_status.

        None only where Cinder's 404 names the volume and Cinder shows us some volume as it shows
        it to an admin: to other users another project's volume does not exist either.
        """
        with self._endpoint.within(timeout_seconds) as asking:
            try:
                record = _record(asking, volume_id)
            except NotFoundError:
                _prove_admin(asking)
                return None
            return cinder_shapes.assembled(
                record, _attachments(asking, record), up=_service_up(asking, record)
            )

    def count_volumes(self, *, timeout_seconds: float) -> int:
        """Return how many volumes all projects have."""
        with self._endpoint.within(timeout_seconds) as asking:
            every_project = {"all_tenants": "1"}
            call = Call("GET", "/volumes/summary", asking.pin(SUMMARY), params=every_project)
            return asking.read(call, cinder_shapes.total)

    def volumes_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedVolume, ...]:
        """Return one page of all projects' volumes in this status, ordered by id."""
        with self._endpoint.within(timeout_seconds) as asking:
            return page(asking, VOLUMES, status, after, limit)

    def attachments_in(
        self, status: str, *, after: str | None, limit: int, timeout_seconds: float
    ) -> tuple[ListedAttachment, ...]:
        """Return one page of all projects' rows of this attach_status, ordered by id."""
        with self._endpoint.within(timeout_seconds) as asking:
            return page(asking, ROWS, status, after, limit)

    def attachments_of(
        self, instance_id: str, *, timeout_seconds: float
    ) -> tuple[ListedAttachment, ...]:
        """Return the rows of one server; one request. A filter that was dropped raises."""
        params = {"all_tenants": "1", "instance_id": instance_id}
        with self._endpoint.within(timeout_seconds) as asking:
            call = Call("GET", "/attachments", asking.pin(ATTACHMENTS), params=params)
            rows = asking.read(call, listed_attachments)
            # As above: without the filter these are the rows of all servers, and each would be
            # looked at.
            if any(row.instance_id != instance_id for row in rows):
                raise asking.unusable(call, "it was not filtered as asked")
            return tuple(rows)

    def protocol_of(self, volume: Volume, *, timeout_seconds: float) -> str | None:
        """Return the protocol of the backend's pools, as the scheduler knows them; one request.

        Cinder's policy for it (``scheduler_extension:scheduler_stats:get_pools``) wants an admin.
        """
        with self._endpoint.within(timeout_seconds) as asking:
            # Without ``detail`` only the names of the pools are shown.
            pin, params = asking.pin(POOLS), {"detail": "true"}
            call = Call("GET", "/scheduler-stats/get_pools", pin, params=params)
            return asking.read(call, lambda document: cinder_shapes.protocol_of(document, volume))

    def reserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-reserve``: a compare-and-swap that answers 400 where the status is another."""
        with self._endpoint.within(timeout_seconds) as asking:
            _act(asking, volume_id, {"os-reserve": {}}, request_id)

    def unreserve(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-unreserve``: a compare-and-swap that answers 202 whether it found anything."""
        with self._endpoint.within(timeout_seconds) as asking:
            _act(asking, volume_id, {"os-unreserve": {}}, request_id)

    def roll_detaching(self, volume_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-roll_detaching``: a compare-and-swap that answers 202 whether it found anything."""
        with self._endpoint.within(timeout_seconds) as asking:
            _act(asking, volume_id, {"os-roll_detaching": {}}, request_id)

    def complete(self, attachment_id: str, *, request_id: str, timeout_seconds: float) -> None:
        """``os-complete``, which is conditional on nothing but the row."""
        with self._endpoint.within(timeout_seconds) as asking:
            call = Call(
                "POST",
                f"/attachments/{attachment_id}/action",
                asking.pin(COMPLETE),
                subjects=(attachment_id,),
                body={"os-complete": {}},
                request_id=request_id,
            )
            _check(asking, call, asking.ask(call), HTTPStatus.NO_CONTENT)

    def has_service_token(self) -> bool:
        """Tell whether ``[service_user]`` says how to get a service token; asks nobody."""
        return self._endpoint.has_service_token

    def delete_attachment(
        self,
        attachment_id: str,
        *,
        request_id: str,
        timeout_seconds: float,
        service_token: bool = False,
    ) -> None:
        """``DELETE /attachments/{id}``; a 404 that names the row is success."""
        with self._endpoint.within(timeout_seconds) as asking:
            call = Call(
                "DELETE",
                f"/attachments/{attachment_id}",
                asking.pin(ATTACHMENTS),
                subjects=(attachment_id,),
                request_id=request_id,
                checked=True,
                service_token=service_token,
            )
            # Only a 404 that names the row is one; a proxy's is another error.
            with contextlib.suppress(NotFoundError):
                asking.read(call, lambda document: items(document, "attachments"))

    def terminate_connection(
        self, volume_id: str, connector: Connector, *, request_id: str, timeout_seconds: float
    ) -> None:
        """``os-terminate_connection``; a refusal comes before anything is done."""
        body = {"os-terminate_connection": {"connector": connector.to_mapping()}}
        with self._endpoint.within(timeout_seconds) as asking:
            _act(asking, volume_id, body, request_id, checked=True)

    def force_detach(
        self,
        volume_id: str,
        attachment_id: str | None,
        connector: Connector,
        *,
        request_id: str,
        timeout_seconds: float,
        service_token: bool = False,
    ) -> None:
        """``os-force_detach``: terminate, unreserve and detach, one after the other.

        Most of what it refuses it refuses after it has ended the connection; then it is
        IndeterminateError.
        """
        argument: dict[str, Any] = {"connector": connector.to_mapping()}
        if attachment_id is not None:
            argument["attachment_id"] = attachment_id
        with self._endpoint.within(timeout_seconds) as asking:
            body = {"os-force_detach": argument}
            call = dataclasses.replace(
                _action(asking, volume_id, body, request_id, checked=True),
                service_token=service_token,
            )
            # ``send`` and not ``ask``: what a refusal means is told by its words, below.
            answer = asking.send(call)
            if (refused := asking.refusal(call, answer)) is not None:
                raise _half_done(asking, volume_id, answer, refused)
            _check(asking, call, answer, HTTPStatus.ACCEPTED)


def _act(
    asking: Conversation,
    volume_id: str,
    body: Mapping[str, Any],
    request_id: str,
    *,
    checked: bool = False,
) -> None:
    """Make one action on a volume; all of them answer 202 without a body."""
    call = _action(asking, volume_id, body, request_id, checked=checked)
    _check(asking, call, asking.ask(call), HTTPStatus.ACCEPTED)


def _action(
    asking: Conversation,
    volume_id: str,
    body: Mapping[str, Any],
    request_id: str,
    *,
    checked: bool,
) -> Call:
    return Call(
        "POST",
        f"/volumes/{volume_id}/action",
        asking.pin(ACTION),
        subjects=(volume_id,),
        body=body,
        request_id=request_id,
        checked=checked,
    )


def _check(asking: Conversation, call: Call, answer: Answer, status: HTTPStatus) -> None:
    # Cinder gives this action exactly this success; another one is a proxy's, and then the call may
    # not have arrived.
    if answer.status != status:
        raise asking.unusable(call, f"it is {answer.status}, not {status.value}")


def _record(asking: Conversation, volume_id: str) -> cinder_shapes.Record:
    call = Call("GET", f"/volumes/{volume_id}", asking.pin(*VOLUME), subjects=(volume_id,))
    return asking.read(call, lambda document: cinder_shapes.volume_record(document, volume_id))


def _attachments(
    asking: Conversation, record: cinder_shapes.Record
) -> tuple[CinderAttachment, ...]:
    """Ask for every row of the volume, whatever its attach_status."""
    params = {"all_tenants": "1", "volume_id": str(record["id"])}
    call = Call("GET", "/attachments/detail", asking.pin(ATTACHMENTS), params=params)
    return asking.read(call, lambda document: cinder_shapes.attachments(document, record))


def _service_up(asking: Conversation, record: cinder_shapes.Record) -> bool:
    params = {"binary": cinder_shapes.VOLUME_SERVICE}
    call = Call("GET", "/os-services", asking.pin(SERVICES), params=params)
    return asking.read(call, lambda document: cinder_shapes.service_up(document, record))


def _prove_admin(asking: Conversation) -> None:
    """Look at any one volume as only an admin sees it; where there is none, at the services."""
    params = {"all_tenants": "1", "limit": "1"}
    call = Call("GET", "/volumes/detail", asking.pin(ATTACHMENTS), params=params)
    # Reading the list proves it: each volume has to have what only an admin is shown. An empty one
    # proves nothing.
    if not asking.read(call, cinder_shapes.listed_volumes):
        call = Call("GET", "/os-services", asking.pin(SERVICES))
        asking.read(call, lambda document: items(document, "services"))


def _half_done(
    asking: Conversation, volume_id: str, answer: Answer, refused: OutsideError
) -> OutsideError:
    """Distinguish Cinder's refusals of os-force_detach by what was done before.

    The schema, the policy and the volume's existence are checked first, and Nova is asked about the
    one row there is. A 409 that names no instance has one form for two cases: the volume has
    several rows, and nothing is done; or the row that was named is not there, and the connection is
    gone already. Other 400s come from the second half.
    """
    message = answer.fault.message if answer.fault else ""
    # Cinder ends the connection first and asks its own conditions of a detach after that.
    if answer.status == HTTPStatus.BAD_REQUEST and not message.startswith(REFUSED_BY_SCHEMA):
        return IndeterminateError(f"{refused}; the connection may be gone already")
    # What is left was refused by the check before: nothing is done.
    if answer.status != HTTPStatus.CONFLICT or not message.endswith(EMPTY_INSTANCE):
        return refused
    # The same words for two cases; the rows tell them apart. None at all, or no answer, is the
    # worse case.
    if _attachment_count(asking, volume_id) > 1:
        return ConflictError(f"{refused}; nothing is done: the volume has several attachments")
    return IndeterminateError(f"{refused}; the row is gone, and perhaps its connection too")


def _attachment_count(asking: Conversation, volume_id: str) -> int:
    """Return how many rows the volume has, 0 where Cinder does not say."""
    params = {"all_tenants": "1", "volume_id": volume_id}
    call = Call("GET", "/attachments", asking.pin(ATTACHMENTS), params=params)
    try:
        return len(asking.read(call, cinder_shapes.listed_attachments))
    except OutsideError:
        return 0
