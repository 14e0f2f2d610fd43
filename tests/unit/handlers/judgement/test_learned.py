"""Which client is learned for an attachment: only where nothing else could be meant."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.base import ClientInstance
from handlers.case import LearnedClient
from handlers.judgement.learned import client_to_learn
from tests.unit.handlers.judgement.pictures import (
    BACKEND,
    BLIND,
    H1,
    H2,
    NOW,
    UNSEEN,
    A,
    B,
    Picture,
    X,
    Y,
    attachment,
    client,
    ip,
    server,
)

OWN = client(H1, 1, 7)
HEALTHY = Picture(
    status="in-use",
    attachments=(attachment(A, "attached", X, host=H1),),
    servers=(server(X, A),),
    backend=(OWN,),
    addressed=True,
)
BESIDE = HEALTHY.but(
    multiattach=True,
    attachments=(attachment(A, "attached", X, host=H1), attachment(B, "attached", Y, host=H2)),
    servers=(server(X, A), server(Y, B, host=H2)),
    backend=(OWN, client(H2, 2, 8)),
)


def learned(picture: Picture) -> LearnedClient | None:
    """Return what a look at the picture teaches."""
    return client_to_learn(picture.diagnosis, NOW)


def test_the_one_client_of_a_healthy_attachment_is_learned() -> None:
    """In use, named by its running server, one client of its host -> that one, with all of it."""
    assert learned(HEALTHY) == LearnedClient(
        A, H1, BACKEND, ClientInstance(f"{ip(H1)}:0/1001", "client.1", 7, NOW)
    )


def test_of_two_servers_on_two_hosts_each_has_its_own() -> None:
    """Multiattach, a client on each host -> the one of this attachment's host."""
    found = learned(BESIDE)
    assert found is not None
    assert found.client.client == "client.1"


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("a live migration is under way", {"servers": (server(X, A, task_state="migrating"),)}),
        (
            "it ended, and the other host has the image too",
            {"backend": (OWN, client(H2, 2, 8))},
        ),
        (
            "it made a second row for the same server",
            {
                "attachments": (
                    attachment(A, "attached", X, host=H1),
                    attachment(B, "attaching", X, host=H2),
                )
            },
        ),
        ("the server is on another host than the row", {"servers": (server(X, A, host=H2),)}),
        ("the server is shut off", {"servers": (server(X, A, vm_state="stopped"),)}),
        ("it is shelved", {"servers": (server(X, A, vm_state="shelved_offloaded", host=None),)}),
        ("its compute is down", {"servers": (server(X, A, compute_up=False),)}),
        ("Nova's block device names another row", {"servers": (server(X, B),)}),
        ("Nova does not answer", {"servers": (), "unseen": (X,)}),
        ("Cinder makes a backup", {"status": "backing-up"}),
        ("Cinder migrates it", {"migration": "migrating"}),
        ("it is being detached", {"status": "detaching"}),
        ("the row has no connector", {"attachments": (attachment(A, info=False, host=H1),)}),
        ("two clients of the host", {"backend": (OWN, client(H1, 2, 8))}),
        ("one client with two sessions", {"backend": (client(H1, 1, 7, 8),)}),
        ("only its lock is left", {"backend": (client(H1, 1),)}),
        ("it is fenced", {"backend": (client(H1, 1, 7, access=False),)}),
        ("the client of another host", {"backend": (client(H2, 2, 8),)}),
        ("nobody has it", {"backend": ()}),
        ("the backend gives no answer", {"backend": UNSEEN, "hosts_known": False}),
        ("the backend cannot be seen", {"backend": BLIND, "hosts_known": False}),
        ("the connector of the host was never seen", {"known": ()}),
    ],
)
def test_nothing_is_learned_where_another_could_be_meant(
    what: str, changes: dict[str, Any]
) -> None:
    """One thing is not as in a healthy attachment -> no client is learned."""
    assert learned(HEALTHY.but(**changes)) is None, what


def test_of_two_servers_on_one_host_none_is_learned() -> None:
    """Multiattach, both servers on the host, one client to be seen -> whose it is nobody knows."""
    together = BESIDE.but(
        attachments=(attachment(A, "attached", X, host=H1), attachment(B, "attached", Y, host=H1)),
        servers=(server(X, A), server(Y, B)),
        backend=(OWN,),
    )
    assert learned(together) is None
