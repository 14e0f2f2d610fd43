"""No secret gets past the door: canaries where Nova and Cinder carry theirs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from handlers.notification import Notification, parse
from tests.recordings import bodies, enveloped, inner, names, recorded

EVERY = [(name, i) for name in names() for i in range(len(bodies(name)))]
RELEVANT = [(name, i) for name, i in EVERY if isinstance(parse(bodies(name)[i]), Notification)]
CANARY = "canary-5ecret"

FIELDS = {
    "message_id", "publisher_id", "event_type", "_context_request_id", "_context_global_request_id",
    "_context_project_id", "_context_user_id", "volume_id", "uuid", "instance_id", "attachment_id",
    "id", "instance_uuid", "attach_status", "attached_host", "host", "status", "tenant_id",
    "project_id", "user_id", "request_id", "exception", "exception_message", "connector",
}  # fmt: skip


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield container and key of every value that is neither list nor object, at any depth."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, item in items:
        if isinstance(item, dict | list):
            yield from leaves(item)
        else:
            yield value, key


@pytest.mark.parametrize(("name", "i"), RELEVANT)
def test_what_is_not_a_field_is_dropped_at_the_door(name: str, i: int) -> None:
    """Canaries in every value that is no field of ours -> none of them survives."""
    message = copy.deepcopy(inner(bodies(name)[i]))
    planted = 0
    for place, key in leaves(message):
        if key not in FIELDS:
            place[key] = CANARY
            planted += 1
    n = parse(enveloped(message))
    assert planted > 20
    assert isinstance(n, Notification)
    assert CANARY not in repr(n)


@pytest.mark.parametrize("event_type", ["volume.attach.end", "volume.detach.start"])
def test_a_attachments_secrets_are_dropped(event_type: str) -> None:
    """CHAP passwords in a row, its volume and its connector -> only the allowed keys are left."""
    message = recorded(event_type, "cinder/inuse_new__del.jsonl")
    (attachment,) = message["payload"]["volume_attachment"]
    attachment["connection_info"] = json.dumps({"auth_password": CANARY})
    attachment["volume"]["provider_auth"] = f"CHAP user {CANARY}"
    attachment["connector"] = json.dumps(
        json.loads(attachment["connector"]) | {"auth_password": CANARY, "extra": {"secret": CANARY}}
    )
    n = parse(enveloped(message))
    assert isinstance(n, Notification)
    assert n.attachment is not None
    assert n.attachment.connector is not None
    assert n.attachment.connector.host == "compute1"
    assert CANARY not in repr(n)


@pytest.mark.parametrize(
    ("event_type", "name"),
    [
        ("attach_volume", "nova-compute/b_hang_60.jsonl"),
        ("detach_volume", "nova-compute/f_terminate_raises.jsonl"),
    ],
)
def test_the_users_token_in_a_legacy_error_is_dropped(event_type: str, name: str) -> None:
    """Nova's error with the user's token, user_data and a repr that shows it -> all dropped."""
    message = recorded(event_type, name)
    assert "REDACTED-LAB-TOKEN" in json.dumps(message)
    instance = message["payload"]["args"]["instance"]
    instance["user_data"] = CANARY
    instance["info_cache"]["_context"]["auth_token"] = CANARY
    message["payload"]["exception"] = f"Refused('auth_token': '{CANARY}')"
    n = parse(enveloped(message))
    assert isinstance(n, Notification)
    assert n.fault is not None
    assert n.fault.startswith("Refused('...': ***) [38 characters, ")
    assert CANARY not in repr(n)
    assert "REDACTED-LAB-TOKEN" not in repr(n)
