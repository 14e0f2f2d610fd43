"""The simulator's storage drivers, seeing and blind."""

import pytest

from drivers.base import Attachment, Connector
from drivers.errors import NotFoundError, PermanentError
from drivers.simulator import Cloud, SimulatorDriver
from drivers.simulator.scenes import Scene, attached

CALL = {"request_id": "req-test", "timeout_seconds": 1.0}


def attachment(cloud: Cloud, scene: Scene) -> Attachment:
    """Return a scene's attachment as the service would name it."""
    connector = cloud.connector(scene.host)
    return Attachment(scene.volume_id, scene.attachment_id, scene.instance_id, connector)


def test_observe_tells_host_access_and_sessions(cloud: Cloud) -> None:
    """A host is connected -> its initiator, host, access and session, and a control in words."""
    scene = attached(cloud)
    ref = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    seen = cloud.driver().observe(ref, timeout_seconds=1)
    (connection,) = seen.of(cloud.connector(scene.host))
    assert (connection.host, connection.access, connection.sessions) == (scene.host, True, 1)
    assert scene.volume_id in seen.control


def test_volume_is_found_under_its_migrated_name(cloud: Cloud) -> None:
    """After a migration -> found by name_id; by volume_id alone it is unknown."""
    volume = cloud.create_volume(name_id="migrated")
    cloud.export(volume, "compute-1")
    told = cloud.cinder.volume(volume, timeout_seconds=1).ref
    assert len(cloud.driver().observe(told, timeout_seconds=1).connections) == 1
    ref = cloud.cinder.volume(cloud.create_volume(), timeout_seconds=1).ref
    cloud.forget_on_backend(ref.volume_id)
    with pytest.raises(NotFoundError):
        cloud.driver().observe(ref, timeout_seconds=1)


def test_only_the_named_host_is_released(cloud: Cloud) -> None:
    """Two hosts let in -> only the attachment's loses access, the target stays for the other."""
    scene = attached(cloud)
    cloud.stop_guest(scene.instance_id)
    cloud.export(scene.volume_id, "compute-2", sessions=1)
    ref = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    cloud.driver().force_detach(ref, attachment(cloud, scene), **CALL)
    assert cloud.exported_to(scene.volume_id) == ("compute-2",)
    assert cloud.has_target(scene.volume_id)


def test_last_one_out_drops_the_target(cloud: Cloud) -> None:
    """Nobody else is let in -> detach drops the target; once more is success."""
    scene = attached(cloud)
    cloud.stop_guest(scene.instance_id)
    ref = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    for _ in range(2):
        cloud.driver().force_detach(ref, attachment(cloud, scene), **CALL)
        assert not cloud.has_target(scene.volume_id)


def test_stuck_session_stays_listed(cloud: Cloud) -> None:
    """The session's I/O hangs -> access is revoked, the session is told until it is released."""
    volume = cloud.create_volume()
    cloud.export(volume, "compute-1", sessions=1, stuck=True)
    ref = cloud.cinder.volume(volume, timeout_seconds=1).ref
    stale = Attachment(volume, None, None, cloud.connector("compute-1"))
    cloud.driver().force_detach(ref, stale, **CALL)
    (left,) = cloud.driver().observe(ref, timeout_seconds=1).connections
    assert (left.access, left.sessions) == (False, 1)
    cloud.release_stuck_session(volume, "compute-1")
    assert cloud.driver().observe(ref, timeout_seconds=1).connections == ()


@pytest.mark.parametrize("blind", [False, True])
def test_without_connector_it_refuses(cloud: Cloud, blind: bool) -> None:
    """No connector -> PermanentError, nobody is cut."""
    scene = attached(cloud)
    ref = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    driver = cloud.blind_driver() if blind else cloud.driver()
    nameless = Attachment(scene.volume_id, scene.attachment_id, scene.instance_id, None)
    with pytest.raises(PermanentError):
        driver.force_detach(ref, nameless, **CALL)
    assert cloud.exported_to(scene.volume_id) == (scene.host,)


def test_connector_without_names_matches_by_host_only(cloud: Cloud) -> None:
    """A connector that names nobody -> nobody is released."""
    scene = attached(cloud)
    ref = cloud.cinder.volume(scene.volume_id, timeout_seconds=1).ref
    empty = Attachment(scene.volume_id, scene.attachment_id, scene.instance_id, Connector())
    cloud.driver().terminate_connection(ref, empty, **CALL)
    assert cloud.exported_to(scene.volume_id) == (scene.host,)


def test_exports_are_listed(cloud: Cloud) -> None:
    """Volumes that somebody is let in to -> listed with whom; the others are not."""
    scene = attached(cloud)
    cloud.create_volume()
    (listed,) = cloud.driver().list_exports(timeout_seconds=1)
    assert (listed.name, listed.volume_id) == (scene.volume_id, scene.volume_id)
    assert [connection.host for connection in listed.connections] == [scene.host]


def test_blind_driver_lists_nothing(cloud: Cloud) -> None:
    """A driver that does not declare to list -> PermanentError that names the backend."""
    with pytest.raises(PermanentError, match="storage-1@tgt cannot list"):
        cloud.blind_driver().list_exports(timeout_seconds=1)


def test_blind_driver_acts_through_cinder(cloud: Cloud) -> None:
    """A leak, seen by nobody -> Cinder's os-terminate_connection ends it; looking is refused."""
    volume = cloud.create_volume()
    cloud.export(volume, "compute-1")
    ref = cloud.cinder.volume(volume, timeout_seconds=1).ref
    driver = cloud.blind_driver()
    driver.force_detach(ref, Attachment(volume, None, None, cloud.connector("compute-1")), **CALL)
    assert cloud.exported_to(volume) == ()
    assert [c.name for c in cloud.calls(writes=True)] == ["cinder.terminate_connection"]
    with pytest.raises(PermanentError):
        driver.observe(ref, timeout_seconds=1)


def test_unknown_backend_is_explained(cloud: Cloud) -> None:
    """A driver for a backend that is not there -> PermanentError that names it."""
    ref = cloud.cinder.volume(cloud.create_volume(), timeout_seconds=1).ref
    with pytest.raises(PermanentError, match="no backend nowhere@tgt"):
        cloud.driver("nowhere@tgt").observe(ref, timeout_seconds=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "address"),
        ({"address": "127.0.0.1:1"}, "authkey"),
        ({"address": "nonsense", "authkey": "k"}, "host:port"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, str], words: str) -> None:
    """An option is missing or wrong -> ValueError that names it."""
    with pytest.raises(ValueError, match=words):
        SimulatorDriver("storage-1@tgt", options)


def test_host_logs_in_only_while_it_is_let_in(cloud: Cloud) -> None:
    """A host is let in, then not any more -> it logs in, then is turned away with its session."""
    volume, connector = cloud.create_volume(), cloud.connector("compute-1")
    cloud.export(volume, "compute-1")
    assert cloud.log_in(volume, connector)
    cloud.withdraw(volume, connector)
    assert not cloud.log_in(volume, connector)
    (left,) = cloud.connections(volume)
    assert (left.access, left.sessions) == (False, 1)
    assert [change.granted for change in cloud.access_log()] == [True, False]


def test_hanging_session_outlives_its_access(cloud: Cloud) -> None:
    """A host's I/O hangs -> revoking leaves its session, which ends when the I/O does."""
    volume, connector = cloud.create_volume(), cloud.connector("compute-1")
    cloud.export(volume, "compute-1", sessions=2)
    cloud.hang_session(volume, connector)
    cloud.unexport(volume, "compute-1")
    assert [(c.access, c.sessions) for c in cloud.connections(volume)] == [(False, 2)]
    cloud.release_stuck_session(volume, "compute-1")
    assert cloud.connections(volume) == ()
