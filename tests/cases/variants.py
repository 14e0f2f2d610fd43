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


def _volume(status: str, *rows: tuple[str, str | None, str | None, str]) -> Callable[[Told], None]:
    """Have Cinder say this of the volume; each row is its status, server, host and id."""

    def change(told: Told) -> None:
        told["states before"]["cinder"] |= {
            "status": status,
            "attach_status": "attached" if rows else "detached",
            "rows": [
                {
                    "id": row_id, "status": row, "instance": server, "host": host,
                    "has_connection_info": row != "reserved",
                }
                for row, server, host, row_id in rows
            ],
        }  # fmt: skip

    return change


def _more_servers(*servers: tuple[str, str, str | None]) -> Callable[[Told], None]:
    """Have Nova have these too, which run and hold the disk: id, host, row that is named."""

    def change(told: Told) -> None:
        states = told["states before"]
        for server, host, row in servers:
            states["nova"].append(
                {
                    "id": server, "deleted": False, "vm_state": "active", "task_state": None,
                    "host": host, "compute_up": True, "ended_on": None,
                    "devices": [] if row is None else [{"attachment": row}],
                }
            )  # fmt: skip
            states["guests really holding the disk"] += [server] if row is not None else []

    return change


def _every(**columns: object) -> Callable[[Told], None]:
    """Have all servers be so."""

    def change(told: Told) -> None:
        for server in told["states before"]["nova"]:
            server.update(columns)

    return change


def _all(*changes: Callable[[Told], None]) -> Callable[[Told], None]:
    def change(told: Told) -> None:
        for one in changes:
            one(told)

    return change


def _on_one_host(told: Told) -> None:
    """Have both servers of a multiattach volume be on the host of the one that is to go."""
    for server in told["states before"]["nova"]:
        server["host"] = "compute-5"
    for row in told["states before"]["cinder"]["rows"]:
        row["host"] = "compute-5"
    told["states before"]["backend"] = [{"host": "compute-5", "access": True, "sessions": 1}]


def _detach_of_the_other_too(told: Told) -> None:
    """Have Nova say that a detach of the other server began too."""
    begun = copy.deepcopy(told["notifications"][0])
    message = begun["message"]
    data = message["payload"]["nova_object.data"]
    data |= {"uuid": "b4a6dcd7-4263-4eca-8c68-f7061ae65d71", "host": "compute-5-other"}
    data["request_id"] = "req-0b1c8c39-6f0e-4c1d-9d1c-4d5f2f1a7a01"
    message |= {
        "message_id": "0b1c8c39-6f0e-4c1d-9d1c-4d5f2f1a7a02",
        "_context_request_id": data["request_id"],
    }
    told["notifications"].append(begun)


def _let_go_by_nova(told: Told) -> None:
    """Have Nova hold nothing of the one that is to go."""
    told["states before"]["nova"][0]["devices"] = []


def _rebuilt_elsewhere(told: Told) -> None:
    """Have Nova have given the server a host before it was deleted."""
    told["states before"]["nova"][0]["host"] = "compute-3"


def _nobody_holds_it(told: Told) -> None:
    told["states before"]["guests really holding the disk"] = []


def _error_row_in_use(told: Told) -> None:
    """Have the volume be in-use, and its host be let in still, without a session."""
    cinder = told["states before"]["cinder"]
    cinder["status"] = "in-use"
    (row,) = cinder["rows"]
    told["states before"]["backend"] = [{"host": row["host"], "access": True, "sessions": 0}]


def _source_down(told: Told) -> None:
    """Add a server of another volume on the source, so that its compute is one, and is down."""
    told["states before"]["nova"].append(
        {
            "id": "7e6d5c4b-3a29-4180-9f7e-6d5c4b3a2918", "deleted": False, "vm_state": "active",
            "task_state": None, "host": "compute-4", "compute_up": False, "ended_on": None,
            "devices": [],
        }
    )  # fmt: skip


def _all_deleted(told: Told) -> None:
    """Have every server be deleted and its guest be ended where it was; only a sweep tells."""
    states = told["states before"]
    for server in states["nova"]:
        server |= {"deleted": True, "ended_on": server["host"], "devices": []}
    for link in states["backend"]:
        link["sessions"] = 0
    told["config"]["sweep"] = True


def _beside_a_shelved_one(told: Told) -> None:
    """Have a third server be shelved and offloaded, for which the volume is reserved too."""
    states = told["states before"]
    states["cinder"]["multiattach"] = True
    states["cinder"]["rows"].append(
        {
            "id": OTHER_ROW, "status": "reserved", "instance": OTHER_SERVER, "host": None,
            "has_connection_info": False,
        }
    )  # fmt: skip
    states["nova"].append(
        {
            "id": OTHER_SERVER, "deleted": False, "vm_state": "shelved_offloaded",
            "task_state": None, "host": None, "compute_up": None, "ended_on": None,
            "devices": [{"attachment": OTHER_ROW}],
        }
    )  # fmt: skip


def _alone_and_given_back(told: Told) -> None:
    """Have the second attach be the only one, and an operator have ended its connection."""
    states = told["states before"]
    states["cinder"]["rows"] = states["cinder"]["rows"][1:]
    (row,) = states["cinder"]["rows"]
    row |= {"status": "attaching", "host": "compute-9", "has_connection_info": True}
    states["nova"] = states["nova"][:1]


def _named(name: str) -> Callable[[Told], None]:
    def change(told: Told) -> None:
        told["name"] = name

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


def _another_is_getting_it(told: Told) -> None:
    """Have the second server be just getting the volume, and the first one's end be lost."""
    states = told["states before"]
    states["cinder"]["status"] = "reserved"
    second, first = states["cinder"]["rows"]
    second |= {"status": "reserved", "host": None, "has_connection_info": False}
    states["backend"] = [link for link in states["backend"] if link["host"] == first["host"]]
    states["guests really holding the disk"] = [first["instance"]]
    told["notifications"] = [told["notifications"][number] for number in (0, 2)]


def _compute_down(told: Told) -> None:
    for server in told["states before"]["nova"]:
        server["compute_up"] = False


def _rescued_for_long(told: Told) -> None:
    """Have the volume be attached as before, with nobody on it, and only the start be heard."""
    states = told["states before"]
    states["cinder"]["status"] = "in-use"
    states["backend"] = []
    states["guests really holding the disk"] = []


OTHER_SERVER = "5a3f5a0e-7c46-4f0c-9d3c-1f6a4b9d2e11"
OTHER_ROW = "c2a4d9b8-54e1-4c7e-8f3a-7b6d5e4f3a22"


VARIANTS: Mapping[str, tuple[str, Callable[[Told], None]]] = MappingProxyType(
    {
        "building_came_to_a_compute": ("deleted_in_building", _rebuilt_elsewhere),
        "host_detach_let_in": (
            "host_attach_detaching_clean", _let_in(("compute-5-other", True, 0)),
        ),
        "host_detach_row_in_error": ("host_attach_detaching_clean", _row_in("error_detaching")),
        "let_go_on_one_host": (
            "multiattach_detach_fails", _all(_on_one_host, _let_go_by_nova),
        ),
        "local_delete_of_no_host": (
            "local_delete_guest_runs", _server(host=None, compute_up=None, vm_state="error"),
        ),
        "migration_done_and_deleted": (
            "migration_done_source_access_left",
            _all(
                _volume("available"), _let_in(("compute-4", True, 0)),
                _server(deleted=True, ended_on="compute-4-destination", devices=[]),
                _nobody_holds_it,
            ),
        ),
        "migration_done_source_down": ("migration_done_source_access_left", _source_down),
        "migration_done_source_session": (
            "migration_done_source_access_left",
            _let_in(("compute-4-destination", True, 1), ("compute-4", True, 1)),
        ),
        "multiattach_detach_both": ("multiattach_detach_fails", _detach_of_the_other_too),
        "multiattach_detach_on_one_host": ("multiattach_detach_fails", _on_one_host),
        "row_in_error_in_use": (
            "available_error_detaching", _error_row_in_use,
        ),
        "source_row_deleted_then_attached": (
            "source_row_deleted_access_kept",
            _all(
                _volume("in-use", ("attached", OTHER_SERVER, "compute-2-other", OTHER_ROW)),
                _more_servers((OTHER_SERVER, "compute-2-other", OTHER_ROW)),
                _let_in(("compute-2", True, 1), ("compute-2-other", True, 1)),
            ),
        ),
        "uc5_without_start_then_attached": (
            "uc5_without_detach_start",
            _all(
                _volume("in-use", ("attached", OTHER_SERVER, "compute-3-other", OTHER_ROW)),
                _more_servers((OTHER_SERVER, "compute-3-other", OTHER_ROW)),
                _let_in(("compute-3", True, 0), ("compute-3-other", True, 1)),
            ),
        ),
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
        "double_reserve_beside_shelved": ("double_reserve", _beside_a_shelved_one),
        "given_back_by_hand": (
            "double_reserve",
            _all(_alone_and_given_back, _let_in(("compute-9", True, 0)), _nobody_holds_it),
        ),
        "multiattach_all_deleted": (
            "multiattach_server_deleted", _all(_all_deleted, _nobody_holds_it),
        ),
        "reverted_temp_volume_hci": ("backup_temp_volume_hci", _named("reverted_temp_volume_hci")),
        "another_is_getting_it": ("healthy_multiattach_two", _another_is_getting_it),
        "reset_with_compute_down": ("reset_available_only", _all(_without_sweep, _compute_down)),
        "row_left_then_transfer": (
            "leak_then_transfer",
            _all(
                _volume("awaiting-transfer", ("attached", OTHER_SERVER, "compute-4", OTHER_ROW)),
                _more_servers((OTHER_SERVER, "compute-4-other", None)),
            ),
        ),
        "rescued_and_unused": ("rescued_detach", _rescued_for_long),
        "wish_beside_a_shelved_one": ("multiattach_detach_fails", _beside_a_shelved_one),
        "two_writers_ended": ("two_writers_looked_at", _ended_on_the_bus),
    }
)  # fmt: skip
"""By name: the report that it is like, and what is otherwise."""
