"""One look: whom it asks, what each answer becomes, and that no failure outside is ever raised."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from drivers.base import (
    Capabilities,
    Connection,
    Connector,
    Observation,
    StorageDriver,
    VolumeRef,
)
from drivers.control_plane import DeletedServer, Server, Volume
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from handlers.judgement.evidence import DELETED as DELETED_ON_RECORD
from handlers.judgement.evidence import (
    Absent,
    Blind,
    Evidence,
    Fact,
    NoControl,
    Outage,
    Sources,
    Unknown,
    gather,
    look_at_volume,
)
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    BESIDE,
    DELETED,
    LEFT,
    UC1,
    UC3,
)
from tests.unit.handlers.judgement.pictures import (
    H1,
    H2,
    Picture,
    X,
    Y,
    access,
    attachment,
    connector,
    server,
)

T = TypeVar("T")
KINDS = (TransientError, IndeterminateError, PermanentError, NotFoundError, ConflictError)


class Outside:
    """Cinder, Nova and a driver in one; each answers what it was told to, or raises it."""

    capabilities = Capabilities(sees_connections=True, sees_hosts=True)
    kind = "Outside"

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.raises: dict[str, OutsideError] = {}
        self.observation = Observation((), "the daemon answered")
        self.asked: list[tuple[str, ...]] = []
        self.saw = Evidence(Unknown("not looked at"))

    def volume(self, volume_id: str, *, timeout_seconds: float) -> Volume | None:
        """Cinder's answer."""
        self._note("volume", volume_id, timeout_seconds)
        return self.picture.volume

    def server(self, instance_id: str, volume_id: str, *, timeout_seconds: float) -> Server | None:
        """Nova's answer."""
        self._note("server", instance_id, timeout_seconds)
        return next((s for s in self.picture.servers if s.instance_id == instance_id), None)

    def deleted_server(self, instance_id: str, *, timeout_seconds: float) -> DeletedServer | None:
        """Nova's answer."""
        self._note("deleted_server", instance_id, timeout_seconds)
        known = instance_id in self.picture.gone
        if not known:
            return None
        return DeletedServer(
            instance_id,
            dict(self.picture.ended).get(instance_id),
            dict(self.picture.deleted_by).get(instance_id, ()),
            instance_id in self.picture.never_built,
        )

    def compute_up(self, host: str, *, timeout_seconds: float) -> bool | None:
        """Nova's answer."""
        self._note("compute_up", host, timeout_seconds)
        if (told := self.picture.holding) is not None:
            assert told.host == host
            return told.compute_up
        return dict(self.picture.computes).get(host)

    def holders(self, volume_id: str, host: str, *, timeout_seconds: float) -> tuple[str, ...]:
        """Nova's answer."""
        self._note("holders", host, timeout_seconds)
        told = self.picture.holding
        assert told is not None
        assert isinstance(told.holders, Fact)
        return told.holders.value

    def observe(self, ref: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Give the driver's answer."""
        self._note("observe", ref.volume_id, timeout_seconds)
        return self.observation

    def sources(self) -> Sources:
        """Return these as sources, with a retry that notes what it was asked to repeat."""

        def retry(system: str, method: str, call: Callable[[], T]) -> T:
            self.asked.append(("retry", system, method))
            return call()

        mine: Any = self
        return Sources(mine, mine, lambda _: mine, self.connector_of, self._located, retry, 7.0)

    def _located(self, backend: str) -> None:
        self.asked.append(("located", backend))

    def connector_of(self, host: str) -> Connector | None:
        """Return what was learned of a host."""
        return connector(host) if host in self.picture.known else None

    def _note(self, method: str, name: str, timeout_seconds: float) -> None:
        assert timeout_seconds == 7.0
        self.asked.append((method, name))
        if method in self.raises:
            raise self.raises[method]


def look(outside: Outside) -> Evidence:
    """Look once."""
    return gather(outside.picture.case, outside.sources())


def test_all_three_sides_are_asked_once_each_in_order() -> None:
    """One attachment -> Cinder, then its server, then the backend, each by way of the retry.

    Where the volume is, is told before Nova and the backend are asked, which may take long.
    """
    outside = Outside(UC1)
    evidence = look(outside)
    assert outside.asked == [
        ("retry", "cinder", "volume"), ("volume", "volume-1"),
        ("located", UC1.volume.ref.backend),
        ("retry", "nova", "server"), ("server", X),
        ("retry", "backend", "observe"), ("observe", "volume-1"),
    ]  # fmt: skip
    assert evidence.volume == Fact(UC1.volume)
    assert evidence.servers == ((X, Fact(server())),)
    assert evidence.backend == Absent("the daemon answered")


def test_every_instance_that_a_attachment_names_is_asked_once() -> None:
    """The case's instance and two rows, one the same -> two questions; nobody's row none."""
    attachments = (
        attachment("b", instance_id=Y),
        attachment("a", "attaching"),
        attachment("c", instance_id=None),
    )
    evidence = look(Outside(BESIDE.but(attachments=attachments)))
    assert [instance for instance, _ in evidence.servers] == [X, Y]


def test_without_an_instance_nova_is_not_asked() -> None:
    """Nobody names one -> no question, and no answer made up."""
    outside = Outside(Picture(instance_id=None))
    assert look(outside).servers == ()
    assert not [asked for asked in outside.asked if asked[0] == "server"]


def test_record_of_a_server_that_nova_denies_is_asked_for_once() -> None:
    """The server is gone -> Nova's record of it is the control, and says who ended its guest."""
    outside = Outside(DELETED.but(ended=((X, H1),)))
    evidence = look(outside)
    ((_, answer),) = evidence.servers
    assert isinstance(answer, Absent)
    assert "has the actions of it on record" in answer.control
    assert evidence.ended_on == ((X, H1),)
    assert [asked[0] for asked in outside.asked].count("deleted_server") == 1
    more = look(Outside(DELETED.but(deleted_by=((X, ("req-1",)),), never_built=(X,))))
    assert (more.deleted_by, more.never_built) == (((X, ("req-1",)),), (X,))
    outside = Outside(UC1)
    look(outside)
    assert "deleted_server" not in {asked[0] for asked in outside.asked}


def test_server_that_this_nova_is_not_known_to_have_had_is_unknown() -> None:
    """No server and no record of one -> unknown, and the words say what to check."""
    ((_, answer),) = look(Outside(DELETED.but(gone=()))).servers
    assert isinstance(answer, NoControl)
    for word in (X, "region", "cells", "Ironic", "not Nova", "archived"):
        assert word in answer.reason


def test_compute_of_a_host_that_a_attachment_was_left_on_is_asked() -> None:
    """A row on another host than its server -> that host's compute; on the same: no question."""
    outside = Outside(LEFT)
    assert look(outside).computes == ((H1, True),)
    assert [asked for asked in outside.asked if asked[0] == "compute_up"] == [("compute_up", H1)]
    outside = Outside(ATTACHED.but(attachments=(attachment(host=H1),)))
    assert look(outside).computes == ()
    assert "compute_up" not in {asked[0] for asked in outside.asked}


def answered(kind: type[OutsideError]) -> type[Unknown]:
    """Return what a failed question to an API leaves: what it refuses is no outage."""
    return Unknown if issubclass(kind, PermanentError) else Outage


@pytest.mark.parametrize("kind", KINDS)
def test_failure_to_tell_is_no_proof(kind: type[OutsideError]) -> None:
    """Nova does not say whether it had it, or whether the compute is up -> not taken for it."""
    deleted, left = Outside(DELETED.but(ended=((X, H1),))), Outside(LEFT)
    deleted.raises["deleted_server"] = left.raises["compute_up"] = kind("no route to nova")
    ((_, answer),) = look(deleted).servers
    assert type(answer) is answered(kind)
    assert "no route to nova" in answer.reason
    assert look(deleted).ended_on == ()
    assert look(left).computes == ()
    assert look(Outside(LEFT.but(computes=()))).computes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_cinder_s_failure_is_unknown_and_ends_the_look(kind: type[OutsideError]) -> None:
    """Cinder did not answer -> unknown in its own words, and nobody else is asked."""
    outside = Outside(UC1)
    outside.raises["volume"] = kind("no route to cinder")
    evidence = look(outside)
    assert evidence.volume == answered(kind)("Cinder: no route to cinder")
    assert evidence.backend == Unknown("not looked at")
    assert [asked[0] for asked in outside.asked] == ["retry", "volume"]


@pytest.mark.parametrize("kind", KINDS)
def test_nova_s_failure_is_unknown_and_not_gone(kind: type[OutsideError]) -> None:
    """Nova did not answer, be it with not-found -> unknown, never "the server is gone"."""
    outside = Outside(UC1)
    outside.raises["server"] = kind("no route to nova")
    assert look(outside).servers == ((X, answered(kind)("Nova: no route to nova")),)


@pytest.mark.parametrize("kind", KINDS)
def test_the_backend_s_failure_is_unknown_and_not_clean(kind: type[OutsideError]) -> None:
    """The volume was not found under any name, or worse -> unknown, never "nobody is let in"."""
    outside = Outside(UC1)
    outside.raises["observe"] = kind("no such volume")
    assert look(outside).backend == Unknown("backend storage-1@tgt: no such volume")


@pytest.mark.parametrize("status", ["failing-over", "failed-over", "failover-error"])
def test_what_was_failed_over_is_not_seen_on_the_primary(status: str) -> None:
    """Cinder uses a replica -> unknown, and the primary, where nobody is let in, is not asked.

    A driver that cannot see is blind as before: Cinder's own driver works on the replica.
    """
    outside = Outside(UC3.but(replication=status))
    backend = look(outside).backend
    assert isinstance(backend, Unknown)
    assert status in backend.reason
    assert "observe" not in {asked[0] for asked in outside.asked}
    outside.capabilities = Capabilities(sees_connections=False)
    assert isinstance(look(outside).backend, Blind)


@pytest.mark.parametrize("status", [None, "disabled", "enabled", "not-capable", "error"])
def test_what_was_not_failed_over_is_looked_at(status: str | None) -> None:
    """A volume without a replica, or whose replica only stands by -> the backend is asked."""
    assert isinstance(look(Outside(UC3.but(replication=status))).backend, Absent)


def test_a_driver_that_cannot_be_had_is_unknown() -> None:
    """The backend's driver lacks an option -> unknown in its words, as if it gave no answer."""
    outside = Outside(UC1)

    def driver_of(backend: str) -> StorageDriver:
        raise PermanentError(f"for backend {backend} nothing is set")

    sources = dataclasses.replace(outside.sources(), driver_of=driver_of)
    seen = gather(UC1.case, sources).backend
    assert seen == Unknown("backend storage-1@tgt: for backend storage-1@tgt nothing is set")


def test_absent_is_only_what_was_asked_in_the_right_place() -> None:
    """Cinder says that it does not exist, Nova that it had the server -> absent, by their word."""
    outside = Outside(UC1.but(servers=(), gone=(X,)))
    assert look(outside).servers == ((X, Absent(DELETED_ON_RECORD)),)
    gone = Outside(UC1)
    gone.volume = lambda *_, **__: None  # type: ignore[method-assign]
    assert isinstance(look(gone).volume, NoControl)
    for control in ({"volume_seen": True}, {"deletion_told": True}):
        gone.picture = UC1.but(**control)
        assert isinstance(look(gone).volume, Absent)


def test_an_empty_answer_without_a_positive_control_proves_nothing() -> None:
    """Nobody connected, and no control -> unknown; with somebody it is a fact."""
    outside = Outside(UC1)
    outside.observation = Observation((), "")
    assert isinstance(look(outside).backend, Unknown)
    outside.observation = Observation((access(H1),), "")
    assert isinstance(look(outside).backend, Fact)


def test_a_blind_driver_is_never_asked() -> None:
    """The driver declares that it cannot see -> blind, named, and not called."""
    outside = Outside(UC1)
    outside.capabilities = Capabilities(sees_connections=False)  # type: ignore[misc]
    assert look(outside).backend == Blind("Outside")
    assert not [asked for asked in outside.asked if asked[0] == "observe"]


def test_connectors_are_those_of_the_hosts_in_question() -> None:
    """The case's host and its servers' -> what was learned of them, nothing for the unheard-of."""
    outside = Outside(BESIDE.but(host="compute-9", known=(H1, H2)))
    assert look(outside).connectors == ((H1, connector(H1)), (H2, connector(H2)))


def test_cinder_alone_can_be_asked() -> None:
    """Waiting for Nova's detach -> only the volume is read."""
    outside = Outside(UC1)
    assert look_at_volume(UC1.case, outside.sources()) == Fact(UC1.volume)
    assert [asked[0] for asked in outside.asked] == ["retry", "volume"]


def test_a_connection_is_a_fact_with_its_observation() -> None:
    """Somebody is let in -> the whole observation, so that history can show it."""
    outside = Outside(UC1)
    outside.capabilities = dataclasses.replace(outside.capabilities, sees_sessions=True)
    outside.observation = Observation((Connection("iqn.x", access=False, sessions=1),), "control")
    assert look(outside).backend == Fact(outside.observation)


@pytest.mark.parametrize("told", [0, 1])
def test_sessions_of_a_driver_that_does_not_see_them_are_unknown(told: int) -> None:
    """The driver sees access alone, and says 0 sessions -> unknown, not none."""
    outside = Outside(UC1)
    outside.observation = Observation((Connection("iqn.x", sessions=told),), "control")
    seen = Observation((Connection("iqn.x", sessions=None),), "control")
    assert look(outside).backend == Fact(seen)


@pytest.mark.parametrize("sees_hosts", [True, False])
def test_whether_hosts_are_told_is_as_the_driver_declares(sees_hosts: bool) -> None:
    """A driver that sees, with or without hosts -> the evidence says which."""
    outside = Outside(UC1)
    outside.capabilities = Capabilities(sees_connections=True, sees_hosts=sees_hosts)
    outside.observation = Observation((access(H1),), "the daemon answered")
    assert look(outside).hosts_known is sees_hosts
