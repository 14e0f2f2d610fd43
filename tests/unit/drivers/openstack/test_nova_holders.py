"""Who may be using a volume on a host: what Nova is asked, and when its answer is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivers.control_plane import ServersPage, ServerVolumes
from drivers.errors import NotFoundError, OutsideError, PermanentError, TransientError
from drivers.openstack import session
from drivers.openstack.nova import NovaClient
from tests.openstack_api import HTML, OpenStackApi, Reply, fault
from tests.unit.drivers.openstack import answers
from tests.unit.drivers.openstack.answers import COMPUTE, SERVER, VOLUME, listed

LIMIT = 20.0
OTHER, THIRD = "srv-0002", "srv-0003"
LIST = "GET /servers/detail"
EVACUATIONS = "GET /os-migrations"
HYPERVISORS = "GET /os-hypervisors/detail"
TASK, HOST = "OS-EXT-STS:task_state", "OS-EXT-SRV-ATTR:host"


def arrange(
    api: OpenStackApi,
    *here: dict[str, Any],
    moving: dict[str, Any] | None = None,
    evacuated: dict[str, Any] | None = None,
    hypervisors: dict[str, Any] | None = None,
) -> None:
    """Script one page for each list; the hypervisor has the servers that are listed there."""
    of_host = answers.hypervisors(answers.hypervisor(*(s["id"] for s in here)))
    api.script(LIST, Reply(200, answers.servers(*here)), Reply(200, moving or answers.servers()))
    api.script(EVACUATIONS, Reply(200, evacuated or answers.migrations()))
    api.script(HYPERVISORS, Reply(200, hypervisors or of_host))


def ask(nova: NovaClient) -> tuple[str, ...]:
    """Ask who may be using the volume on the host."""
    return nova.holders(VOLUME, COMPUTE, timeout_seconds=LIMIT)


def test_nobody_on_the_host_has_it(api: OpenStackApi, nova: NovaClient) -> None:
    """Servers with other volumes only -> none, in four requests of an admin."""
    arrange(api, listed(SERVER, "other"), listed(OTHER))
    assert ask(nova) == ()
    here, moving, evacuated, control = api.requests
    assert here.query == {
        "all_tenants": "1", "host": COMPUTE, "soft_deleted": "1", "limit": "500",
    }  # fmt: skip
    assert moving.query == {"all_tenants": "1", "task_state": "migrating", "limit": "500"}
    assert evacuated.query == {
        "source_compute": COMPUTE, "migration_type": "evacuation", "limit": "500",
    }  # fmt: skip
    assert control.query == {"hypervisor_hostname_pattern": COMPUTE, "with_servers": "true"}
    assert {r.headers["x-openstack-nova-api-version"] for r in api.requests} == {"2.79"}


def test_nova_of_another_region_has_no_word(api: OpenStackApi, tmp_path: Path) -> None:
    """Its hosts have the same names, and none has the volume -> no answer, and it is not asked.

    Made on a lab: a leak of which only the host was known was ended on the word of such a Nova.
    """
    arrange(api, listed(SERVER, "other"))
    conf = api.conf(tmp_path, "")
    apart = NovaClient(session.nova_endpoint(conf), lambda _: "they are of two regions")
    with pytest.raises(PermanentError, match="they are of two regions"):
        ask(apart)
    assert api.requests == []
    one = NovaClient(session.nova_endpoint(conf), lambda _: None)
    assert ask(one) == ()


@pytest.mark.parametrize("vm_state", ["active", "error", "stopped", "shelved", "soft-delete"])
def test_server_of_the_host_that_has_it(api: OpenStackApi, nova: NovaClient, vm_state: str) -> None:
    """A server with the volume, in whatever state -> it."""
    arrange(
        api, listed(OTHER), listed(SERVER, "other", VOLUME, **{"OS-EXT-STS:vm_state": vm_state})
    )
    assert ask(nova) == (SERVER,)


def test_server_whose_volumes_the_list_kept_back(api: OpenStackApi, nova: NovaClient) -> None:
    """No server of the page shows a volume: a cell may have failed -> each is asked itself."""
    arrange(api, listed(SERVER), listed(OTHER))
    api.script(f"GET /servers/{SERVER}/os-volume_attachments", Reply(200, answers.devices()))
    has_it = answers.devices(answers.device() | {"serverId": OTHER})
    api.script(f"GET /servers/{OTHER}/os-volume_attachments", Reply(200, has_it))
    assert ask(nova) == (OTHER,)
    assert len(api.asked("os-volume_attachments")) == 2


def test_other_host_s_volumes_are_no_control(api: OpenStackApi, nova: NovaClient) -> None:
    """Two under migration, one shows a volume: they may be of two cells -> the other is asked."""
    moving = answers.servers(
        listed(OTHER, "other", **{TASK: "migrating", HOST: "compute-2"}),
        listed(THIRD, **{TASK: "migrating", HOST: "compute-3"}),
    )
    arrange(api, listed(SERVER, "other"), moving=moving)
    has_it = answers.devices(answers.device() | {"serverId": THIRD})
    api.script(f"GET /servers/{THIRD}/os-volume_attachments", Reply(200, has_it))
    assert ask(nova) == (THIRD,)
    assert len(api.asked("os-volume_attachments")) == 1


def test_servers_on_no_host_are_no_control_for_each_other(
    api: OpenStackApi, nova: NovaClient
) -> None:
    """Two under migration that Nova shows on no host, one shows a volume -> the other is asked."""
    moving = answers.servers(
        listed(OTHER, "other", **{TASK: "migrating", HOST: None}),
        listed(THIRD, **{TASK: "migrating", HOST: None}),
    )
    arrange(api, listed(SERVER, "other"), moving=moving)
    has_it = answers.devices(answers.device() | {"serverId": THIRD})
    api.script(f"GET /servers/{THIRD}/os-volume_attachments", Reply(200, has_it))
    assert ask(nova) == (THIRD,)


def test_server_that_is_being_migrated_from_elsewhere(api: OpenStackApi, nova: NovaClient) -> None:
    """Live migration: Nova's record still says the source -> it may be on this host, so it."""
    moving = answers.servers(listed(OTHER, VOLUME, **{TASK: "migrating", HOST: "compute-2"}))
    arrange(api, listed(SERVER, "other"), moving=moving)
    assert ask(nova) == (OTHER,)


def test_server_that_is_being_migrated_away_is_told_once(
    api: OpenStackApi, nova: NovaClient
) -> None:
    """On the host and under migration -> once."""
    leaving = listed(SERVER, VOLUME, **{TASK: "migrating"})
    arrange(api, leaving, moving=answers.servers(leaving))
    assert ask(nova) == (SERVER,)


@pytest.mark.parametrize("status", ["accepted", "pre-migrating", "done", "failed", "unheard-of"])
def test_server_evacuated_off_the_host(api: OpenStackApi, nova: NovaClient, status: str) -> None:
    """Nothing says that the host ended its old guest -> it, whatever volumes it has elsewhere."""
    evacuated = answers.migrations(answers.evacuation(OTHER, status), answers.evacuation(OTHER))
    arrange(api, listed(SERVER, "other"), evacuated=evacuated)
    assert ask(nova) == (OTHER,)


def test_evacuation_that_the_host_has_cleaned_up_after(api: OpenStackApi, nova: NovaClient) -> None:
    """Completed, after a first that failed; or the server is back on the host -> none."""
    evacuated = answers.migrations(
        answers.evacuation(OTHER),
        answers.evacuation(OTHER, "failed"),
        answers.evacuation(SERVER, "done"),
    )
    arrange(api, listed(SERVER, "other"), evacuated=evacuated)
    assert ask(nova) == ()


def test_lists_of_several_pages(api: OpenStackApi, nova: NovaClient) -> None:
    """Nova links to a next page -> asked for after the last id, with the same filters."""
    arrange(api)
    api.script(
        LIST,
        Reply(200, answers.servers(listed(SERVER, "other"), more=True)),
        Reply(200, answers.servers(listed(OTHER, VOLUME))),
        Reply(200, answers.servers()),
    )
    api.script(
        EVACUATIONS,
        Reply(200, answers.migrations(answers.evacuation(SERVER), more=True)),
        Reply(200, answers.migrations(answers.evacuation(THIRD, "done"))),
    )
    api.script(HYPERVISORS, Reply(200, answers.hypervisors(answers.hypervisor(SERVER, OTHER))))
    assert ask(nova) == (OTHER, THIRD)
    assert api.requests[1].query == api.requests[0].query | {"marker": SERVER}
    assert api.requests[4].query["marker"] == f"migration-of-{SERVER}"


def test_list_that_lacks_a_server(api: OpenStackApi, nova: NovaClient) -> None:
    """The cell itself has a server more on the host: the list was short -> transient, no proof."""
    whole = answers.hypervisors(answers.hypervisor(SERVER, OTHER))
    arrange(api, listed(SERVER, "other"), hypervisors=whole)
    with pytest.raises(TransientError, match=OTHER):
        ask(nova)


def test_host_of_many_hypervisors_or_a_longer_name(api: OpenStackApi, nova: NovaClient) -> None:
    """Those whose service is this host count, whatever they are called; the others do not."""
    found = answers.hypervisors(
        answers.hypervisor(SERVER, name="compute-1.example.test"),
        answers.hypervisor(OTHER, name="compute-1-b"),
        answers.hypervisor(THIRD, host="compute-10", name="compute-10"),
    )
    arrange(api, listed(SERVER, "other"), listed(OTHER), hypervisors=found)
    assert ask(nova) == ()


def test_domain_of_the_host_is_not_asked_for(api: OpenStackApi, nova: NovaClient) -> None:
    """The host is known by its long name, its hypervisor by the short one -> found all the same."""
    host = "compute-1.example.test"
    found = answers.hypervisors(answers.hypervisor(host=host))
    arrange(api, hypervisors=found)
    assert nova.holders(VOLUME, host, timeout_seconds=LIMIT) == ()
    assert api.requests[-1].query["hypervisor_hostname_pattern"] == "compute-1"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, answers.hypervisors(answers.hypervisor(host="compute-10"))), PermanentError),
        (fault(404, "itemNotFound", f"No hypervisor matching '{COMPUTE}' found."), NotFoundError),
        (fault(403, "forbidden", "Policy doesn't allow it."), PermanentError),
        (Reply(500, HTML), TransientError),
        (Reply(200, HTML), TransientError),
        (Reply(200, {"hypervisors": [{"service": {"host": COMPUTE}}]}), TransientError),
    ],
)
def test_host_that_its_cell_does_not_tell_of(
    api: OpenStackApi, nova: NovaClient, reply: Reply, kind: type[OutsideError]
) -> None:
    """No hypervisor, not allowed, its cell down, nonsense -> an error, and no "nobody"."""
    arrange(api, listed(SERVER, "other"))
    api.script(HYPERVISORS, reply)
    with pytest.raises(OutsideError) as caught:
        ask(nova)
    assert type(caught.value) is kind


def shown_to_a_member() -> dict[str, Any]:
    """Return a server as somebody sees it who is no admin."""
    member = listed(SERVER, "other")
    del member[HOST]
    return member


@pytest.mark.parametrize(
    ("line", "body", "kind"),
    [
        (LIST, answers.servers(shown_to_a_member()), PermanentError),
        (LIST, answers.servers(listed(SERVER, **{HOST: "compute-2"})), TransientError),
        (LIST, answers.servers(listed(SERVER, **{HOST: None})), TransientError),
        (LIST, {"servers": [{"id": SERVER, HOST: COMPUTE, TASK: None}]}, TransientError),
        (LIST, answers.servers(more=True), TransientError),
        (LIST, {"servers": None}, TransientError),
        (LIST, HTML, TransientError),
        (
            EVACUATIONS,
            answers.migrations(answers.evacuation(OTHER, source_compute=None)),
            PermanentError,
        ),
        (
            EVACUATIONS,
            answers.migrations(answers.evacuation(OTHER, source_compute="compute-2")),
            TransientError,
        ),
        (
            EVACUATIONS,
            answers.migrations(answers.evacuation(OTHER, migration_type="resize")),
            TransientError,
        ),
        (EVACUATIONS, {"migrations": [{}]}, TransientError),
        (EVACUATIONS, HTML, TransientError),
    ],
)
def test_answer_that_is_not_what_was_asked_for(
    api: OpenStackApi, nova: NovaClient, line: str, body: Any, kind: type[OutsideError]
) -> None:
    """A filter was dropped, we are no admin, a page repeats itself, nonsense -> an error."""
    arrange(api, listed(SERVER, "other"))
    api.script(line, Reply(200, body))
    with pytest.raises(kind):
        ask(nova)


def test_list_of_migrations_under_way_that_was_not_filtered(
    api: OpenStackApi, nova: NovaClient
) -> None:
    """A server at rest among those that migrate -> the filter was dropped: an error."""
    arrange(api, listed(SERVER, "other"), moving=answers.servers(listed(OTHER)))
    with pytest.raises(TransientError, match="filtered"):
        ask(nova)


def test_page_that_repeats_itself_is_not_read_for_ever(api: OpenStackApi, nova: NovaClient) -> None:
    """The next page is the one before -> given up at once, and not when the time is up."""
    arrange(api, listed(SERVER, "other"))
    api.script(LIST, Reply(200, answers.servers(listed(SERVER, "other"), more=True)))
    with pytest.raises(TransientError, match="the next page is the same"):
        ask(nova)
    assert len(api.asked("detail")) == 2


@pytest.mark.parametrize("line", [LIST, EVACUATIONS])
def test_page_that_does_not_come(api: OpenStackApi, nova: NovaClient, line: str) -> None:
    """The second page fails -> an error: half a list is none."""
    arrange(api, listed(SERVER, "other"))
    first = {
        LIST: answers.servers(listed(SERVER, VOLUME), more=True),
        EVACUATIONS: answers.migrations(answers.evacuation(SERVER), more=True),
    }
    api.script(line, Reply(200, first[line]), Reply(503, HTML))
    with pytest.raises(TransientError):
        ask(nova)


@pytest.mark.parametrize(
    "reply",
    [
        fault(404, "itemNotFound", f"Instance {SERVER} could not be found."),
        Reply(500, HTML),
        Reply(200, answers.devices(answers.device() | {"serverId": OTHER})),
        Reply(200, {"volumeAttachments": [{"serverId": SERVER}]}),
    ],
)
def test_server_that_does_not_tell_its_volumes(
    api: OpenStackApi, nova: NovaClient, reply: Reply
) -> None:
    """It went away, its cell is down, another's devices, nonsense -> transient, never "none"."""
    arrange(api, listed(SERVER))
    api.script(f"GET /servers/{SERVER}/os-volume_attachments", reply)
    with pytest.raises(TransientError):
        ask(nova)


def test_somebody_who_is_no_admin_is_refused(api: OpenStackApi, nova: NovaClient) -> None:
    """403 to all_tenants -> permanent, with the reason."""
    arrange(api)
    api.script(LIST, fault(403, "forbidden", "Policy doesn't allow it."))
    with pytest.raises(PermanentError, match="role"):
        ask(nova)


def test_page_of_all_servers(api: OpenStackApi, nova: NovaClient) -> None:
    """All servers with their volumes, soft-deleted ones too -> one request; the next by its id."""
    first = answers.servers(listed(SERVER, VOLUME, "other"), listed(OTHER), more=True)
    api.script(LIST, Reply(200, first), Reply(200, answers.servers(listed(THIRD))))
    page = nova.servers(after=None, limit=2, timeout_seconds=LIMIT)
    first_server = ServerVolumes(SERVER, frozenset({VOLUME, "other"}))
    assert page == ServersPage((first_server, ServerVolumes(OTHER, frozenset())), OTHER)
    last = nova.servers(after=OTHER, limit=2, timeout_seconds=LIMIT)
    assert (len(last.servers), last.after) == (1, None)
    assert api.requests[0].query == {"all_tenants": "1", "soft_deleted": "1", "limit": "2"}
    assert api.requests[1].query["marker"] == OTHER
