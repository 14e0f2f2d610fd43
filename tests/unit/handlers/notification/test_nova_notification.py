"""Nova's two formats: where the ids stand, and what is told of a fault."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from handlers.notification import Ignored, Malformed, Notification, Operation, Phase, Source, parse
from tests.recordings import enveloped, recorded

B_HANG, F_TERMINATE = "nova-compute/b_hang_60.jsonl", "nova-compute/f_terminate_raises.jsonl"


def read(message: dict[str, Any]) -> Notification:
    """Parse a message that is a notification."""
    n = parse(enveloped(message))
    assert isinstance(n, Notification), n
    return n


def primitive(flat: dict[str, Any]) -> dict[str, Any]:
    """Return a Nova object in the form in which Nova sends its objects over RPC."""
    return {"nova_object.name": "X", "nova_object.version": "1.0", "nova_object.data": flat}


@pytest.mark.parametrize(
    ("event_type", "name", "operation"),
    [
        ("attach_volume", B_HANG, Operation.ATTACH),
        ("detach_volume", F_TERMINATE, Operation.DETACH),
    ],
)
def test_a_legacy_error_reads_the_same_from_flat_and_nova_objects(
    event_type: str, name: str, operation: Operation
) -> None:
    """Instance and bdm as plain objects or as nova_object primitives -> the same notification."""
    flat = recorded(event_type, name)
    objects = copy.deepcopy(flat)
    args = objects["payload"]["args"]
    for key in {"instance", "bdm"} & args.keys():
        args[key] = primitive(args[key])
    n = read(flat)
    assert read(objects) == n
    assert (n.source, n.operation, n.phase) == (Source.NOVA_LEGACY, operation, Phase.ERROR)
    assert n.host == "compute1"
    assert n.project_id == flat["payload"]["args"]["instance"]["project_id"]
    assert n.user_id == flat["payload"]["args"]["instance"]["user_id"]
    assert n.request_id == n.own_request_id == flat["_context_request_id"]


def legacy_error(event_type: str, args: object, exception: object = "E()") -> dict[str, Any]:
    """Make a legacy error."""
    payload = {"exception": exception, "args": args}
    return {"event_type": event_type, "publisher_id": "compute.c1", "payload": payload}


def test_a_failed_reservation_of_a_device_name_is_a_failed_attach() -> None:
    """reserve_block_device_name -> an attach error with the volume and the instance it names."""
    args = {"instance": {"uuid": "i1", "host": "c1"}, "device": None, "volume_id": "v1"}
    n = read(legacy_error("reserve_block_device_name", args))
    assert (n.operation, n.phase) == (Operation.ATTACH, Phase.ERROR)
    assert (n.volume_id, n.instance_id, n.attachment_id, n.host) == ("v1", "i1", None, "c1")


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        ({"bdm": {"volume_id": "v1", "attachment_id": "a1"}}, ("v1", "a1", None)),
        ({"bdm": {"volume_id": "v1", "attachment_id": None}}, ("v1", None, None)),
        ({"bdm": None, "volume_id": "v1", "attachment_id": "a1"}, ("v1", "a1", None)),
        ({"bdm": [], "volume_id": "v1", "instance": "i1"}, ("v1", None, None)),
        ({"volume_id": "v1", "attachment_id": 7, "instance": {"uuid": 7}}, ("v1", None, None)),
        ({"volume_id": "v1", "instance": primitive({"uuid": "i1"})}, ("v1", None, "i1")),
        ({"volume_id": "v1", "instance": {"nova_object.data": 1}}, ("v1", None, None)),
    ],
)
def test_a_legacy_error_names_what_its_arguments_name(
    args: dict[str, Any], ids: tuple[str | None, ...]
) -> None:
    """Ids from the block device, else from the arguments; what is not fit for one -> unknown."""
    n = read(legacy_error("attach_volume", args))
    assert (n.volume_id, n.attachment_id, n.instance_id) == ids


@pytest.mark.parametrize("args", [None, [], "x", {}, {"bdm": {"volume_id": 7}}])
def test_a_legacy_error_without_its_volume_is_malformed(args: object) -> None:
    """No arguments, or none that names the volume -> Malformed."""
    parsed = parse(enveloped(legacy_error("detach_volume", args)))
    assert isinstance(parsed, Malformed)
    assert parsed.source is Source.NOVA_LEGACY


def test_legacy_success_is_an_end() -> None:
    """compute.instance.volume.attach -> the end of an attach, with instance and host."""
    message = recorded("compute.instance.volume.attach", B_HANG.replace("b_hang_60", "o_healthy"))
    n, payload = read(message), message["payload"]
    assert (n.operation, n.phase, n.fault) == (Operation.ATTACH, Phase.END, None)
    assert (n.instance_id, n.host) == (payload["instance_id"], "compute1")
    assert (n.project_id, n.user_id) == (payload["tenant_id"], payload["user_id"])


def test_what_nova_was_given_as_global_request_id_is_what_cinder_gets() -> None:
    """Nova was called with a global request id -> that one is shared, Nova's own stays its own."""
    message = recorded("instance.volume_attach.start", B_HANG)
    message["_context_global_request_id"] = "req-of-the-caller"
    n = read(message)
    assert n.request_id == "req-of-the-caller"
    assert n.own_request_id == message["payload"]["nova_object.data"]["request_id"]


def test_without_a_context_the_payloads_request_id_serves() -> None:
    """A versioned message without context -> the request id of its payload."""
    message = recorded("instance.volume_attach.start", B_HANG)
    bare = {key: value for key, value in message.items() if not key.startswith("_context_")}
    assert read(bare).request_id == message["_context_request_id"]


def test_a_compute_exception_is_an_error_of_its_request() -> None:
    """compute.exception -> names no volume and no operation, only request and fault."""
    message = recorded("compute.exception", F_TERMINATE)
    n = read(message)
    assert (n.operation, n.phase, n.volume_id, n.instance_id) == (None, Phase.ERROR, None, None)
    assert n.request_id == message["_context_request_id"]
    assert n.fault is not None
    assert n.fault.startswith("ClientException: The server has either erred")


def test_a_compute_exception_without_a_request_is_ignored() -> None:
    """compute.exception that can be joined to nothing -> Ignored, saying so."""
    message = recorded("compute.exception", F_TERMINATE)
    message["_context_request_id"] = None
    parsed = parse(enveloped(message))
    assert isinstance(parsed, Ignored)
    assert "without a request id" in parsed.reason
    assert parsed.source is Source.NOVA_VERSIONED


@pytest.mark.parametrize(
    ("exception", "text", "fault"),
    [
        ("ClientException", "Unable (HTTP 500)", "ClientException: Unable (HTTP 500)"),
        ("ValueError", "'volume_id'", "ValueError: 'volume_id'"),
        ("Error", "auth=pw", "Error: auth=***"),
        ("Error", "lost\nthe\0volume", "Error: lost the volume"),
        ("Error", None, "Error"),
        ("Error", ["x"], "Error"),
        (None, "timed out", "timed out"),
        (None, None, None),
        ("Error", "failed " * 999, "Error: " + ("failed " * 999)[:493]),
    ],
)
def test_a_fault_is_the_exception_and_the_known_words_of_its_message(
    exception: object, text: object, fault: str | None
) -> None:
    """The exception's class and message -> one line of known words, at most 500 characters."""
    message = recorded("instance.volume_attach.error", B_HANG)
    data = message["payload"]["nova_object.data"]["fault"]["nova_object.data"]
    data |= {"exception": exception, "exception_message": text}
    assert read(message).fault == fault


@pytest.mark.parametrize("fault", [None, 7, [], {}, {"nova_object.data": None}])
def test_an_error_without_a_fault_is_still_an_error(fault: object) -> None:
    """The fault is missing or of the wrong shape -> the error is read, its fault unknown."""
    message = recorded("instance.volume_attach.error", B_HANG)
    message["payload"]["nova_object.data"]["fault"] = fault
    n = read(message)
    assert (n.phase, n.fault) == (Phase.ERROR, None)


@pytest.mark.parametrize(
    ("exception", "fault"),
    [("ClientException(500)", "ClientException(500)"), (None, None), ({"a": 1}, None), ("", None)],
)
def test_a_legacy_fault_is_the_repr_that_nova_sent(exception: object, fault: str | None) -> None:
    """The repr of the exception -> kept as text; anything else -> unknown."""
    assert read(legacy_error("attach_volume", {"volume_id": "v"}, exception)).fault == fault


@pytest.mark.parametrize("data", [None, [], "x"])
def test_a_versioned_message_without_data_is_malformed(data: object) -> None:
    """nova_object.data is not an object -> Malformed."""
    message = recorded("instance.volume_attach.start", B_HANG)
    message["payload"]["nova_object.data"] = data
    assert isinstance(parse(enveloped(message)), Malformed)


DATA = {
    "uuid": "s-1", "host": "compute-1", "state": "active", "task_state": "deleting",
    "tenant_id": "t", "user_id": "u", "block_devices": None, "request_id": "req-1",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "delete.end", "shutdown.end", "live_migration_post.end", "live_migration_post_dest.end",
        "live_migration_rollback.end", "live_migration_rollback_dest.end", "evacuate",
    ],
)  # fmt: skip
def test_what_happened_to_a_server(name: str) -> None:
    """A server was deleted, migrated or evacuated -> a signal that names it, and no volume."""
    payload = {"nova_object.name": "InstanceActionPayload", "nova_object.data": DATA}
    n = read({"event_type": f"instance.{name}", "publisher_id": "nova-compute:compute-1",
              "payload": payload})  # fmt: skip
    assert (n.phase, n.operation, n.volume_id) == (Phase.SIGNAL, None, None)
    assert (n.instance_id, n.host, n.source) == ("s-1", "compute-1", Source.NOVA_VERSIONED)


@pytest.mark.parametrize(
    "name",
    [
        "delete.end", "shutdown.end", "live_migration._post.end", "live_migration.post.dest.end",
        "live_migration._rollback.end", "live_migration.rollback.dest.end", "evacuate",
    ],
)  # fmt: skip
def test_what_happened_to_a_server_legacy(name: str) -> None:
    """The same in the unversioned format -> the same."""
    payload = {"instance_id": "s-1", "host": "compute-1", "state": "active"}
    event_type = f"compute.instance.{name}"
    n = read({"event_type": event_type, "publisher_id": "compute.c1", "payload": payload})
    assert (n.phase, n.volume_id, n.instance_id) == (Phase.SIGNAL, None, "s-1")
    assert n.source is Source.NOVA_LEGACY


def test_a_signal_about_no_server() -> None:
    """The id of the server is missing -> refused with a reason, as every broken message."""
    broken = {"nova_object.data": {**DATA, "uuid": None}}
    parsed = parse(enveloped({"event_type": "instance.delete.end",
                              "publisher_id": "nova-compute:c", "payload": broken}))  # fmt: skip
    assert isinstance(parsed, Malformed)
    assert "uuid" in parsed.reason
