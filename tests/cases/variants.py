"""Near relatives of the reported situations: one thing is otherwise, and the kind is the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

Told = dict[str, Any]
"""A report as its file has it."""


def _let_in(*links: tuple[str, bool, int]) -> Callable[[Told], None]:
    """Have the backend hold these: host, access, sessions."""

    def change(told: Told) -> None:
        told["states before"]["backend"] = [
            {"host": host, "access": access, "sessions": sessions}
            for host, access, sessions in links
        ]

    return change


def _server(**columns: object) -> Callable[[Told], None]:
    def change(told: Told) -> None:
        (server,) = told["states before"]["nova"]
        server.update(columns)

    return change


def _row_in(status: str) -> Callable[[Told], None]:
    def change(told: Told) -> None:
        (row,) = told["states before"]["cinder"]["rows"]
        row["status"] = status

    return change


def _without_sweep(told: Told) -> None:
    told["config"]["sweep"] = False


def _ended_on_the_bus(told: Told) -> None:
    """Have both Cinder and Nova say that the attach ended, as they do."""
    nova, cinder = copy.deepcopy(told["notifications"][-2:])
    cinder["message"] |= {"event_type": "volume.attach.end", "publisher_id": "volume.controller-1"}
    nova["message"] |= {"event_type": "instance.volume_attach.end"}
    (row,) = cinder["message"]["payload"]["volume_attachment"]
    row |= {"attach_status": "attached", "attached_host": "compute-2-other"}
    cinder["message"]["payload"]["status"] = "in-use"
    cinder["message"]["message_id"] = "5d2f0c1c-3f0e-4b55-8d2b-9a1f6f3f7e01"
    nova["message"]["message_id"] = "5d2f0c1c-3f0e-4b55-8d2b-9a1f6f3f7e02"
    told["notifications"] += [cinder, nova]


VARIANTS: Mapping[str, tuple[str, Callable[[Told], None]]] = MappingProxyType(
    {
        "available_error_attaching": ("available_error_detaching", _row_in("error_attaching")),
        "deleted_while_cinder_down_let_in": (
            "deleted_while_cinder_down_clean", _let_in(("compute-2", True, 0)),
        ),
        "error_server_detach": ("suspended_detach", _server(vm_state="error")),
        "ironic_node_let_in": ("ironic_node_session", _let_in(("compute-15-other", True, 0))),
        "local_delete_compute_back": ("local_delete_guest_runs", _server(compute_up=True)),
        "migration_aborted_dest_session_left": (
            "migration_aborted_dest_access_left",
            _let_in(("compute-23", True, 1), ("compute-23-destination", True, 1)),
        ),
        "other_region_opened_session": (
            "other_region_opened_no_session", _let_in(("compute-3", True, 1)),
        ),
        "reset_available_detached_told": ("reset_available_detached", _without_sweep),
        "shelved_server_detach": ("stopped_server_detach", _server(vm_state="shelved")),
        "soft_deleted_server_detach": ("stopped_server_detach", _server(vm_state="soft-delete")),
        "source_row_deleted_access_gone": ("source_row_deleted_access_kept", _let_in()),
        "two_writers_ended": ("two_writers_looked_at", _ended_on_the_bus),
    }
)  # fmt: skip
"""By name: the report that it is like, and what is otherwise."""
