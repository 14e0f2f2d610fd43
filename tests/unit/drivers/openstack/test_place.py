"""Whether Cinder and Nova are of one region, by the catalog of a real token."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.errors import PermanentError, TransientError
from drivers.openstack import session
from drivers.openstack.endpoint import Call
from drivers.openstack.place import Place, described, different_regions, doubts
from tests.openstack_api import OpenStackApi, Reply, Request

CINDER, NOVA = "volumev3", "compute"
REGION = "[{}]\nregion_name = {}\n"


def places(api: OpenStackApi, tmp_path: Path, extra: str = "") -> tuple[Place, Place]:
    """Ask both where they are."""
    conf = api.conf(tmp_path, extra)
    cinder, nova = session.cinder_endpoint(conf), session.nova_endpoint(conf)
    return cinder.place(20), nova.place(20)


def test_one_region(api: OpenStackApi, tmp_path: Path) -> None:
    """A catalog with one region -> it is named, and nothing is in doubt."""
    cinder, nova = places(api, tmp_path)
    assert (cinder.region, nova.region, cinder.regions) == ("one", "one", {"one"})
    assert cinder.keystone == nova.keystone
    assert cinder.keystone is not None
    assert list(doubts(cinder, nova)) == []
    assert different_regions(cinder, nova) is None
    assert described(cinder, nova) == "cinder of region one and nova of region one"


def test_two_regions_and_none_configured(api: OpenStackApi, tmp_path: Path) -> None:
    """The catalog's first ones differ -> both are ambiguous, and apart."""
    api.regions = {CINDER: ("one", "two"), NOVA: ("two", "one")}
    cinder, nova = places(api, tmp_path)
    (said,) = doubts(cinder, nova)
    assert "[cinder] is asked in region one and [nova] in region two" in said
    for place in (cinder, nova):
        assert (
            f"[{place.section}] has no region_name, and the catalog has the regions one, two"
            in (place.ambiguity or "")
        )


def test_call_to_an_ambiguous_region(api: OpenStackApi, tmp_path: Path) -> None:
    """A second region comes with a new token, none is configured -> no call goes out."""
    conf = api.conf(tmp_path)
    nova = session.nova_endpoint(conf)
    look = Call("GET", "/servers", "2.1")
    with nova.within(20) as conversation:
        conversation.send(look)
        sent = len(api.requests)
        api.regions = {NOVA: ("one", "two")}
        conversation.send(look)  # by the catalog of the token that it has
        assert len(api.requests) == sent + 1
        nova._adapter.session.auth.invalidate()  # what keystoneauth does when the token expires
        for call in (look, Call("POST", "/servers", "2.1", body={}, request_id="req-1")):
            with pytest.raises(PermanentError, match=r"Nova is not called: \[nova\] has no region"):
                conversation.send(call)
    assert len(api.requests) == sent + 1


def test_looking_at_the_catalog_asks_nobody(
    api: OpenStackApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write is the first call with a new token -> Cinder gets this request and no other."""
    heard: list[str] = []
    answer = api.answer

    def heard_too(request: Request) -> Reply:
        heard.append(f"{request.method} {request.path}")
        return answer(request)

    monkeypatch.setattr(api, "answer", heard_too)
    cinder = session.cinder_endpoint(api.conf(tmp_path))
    with cinder.within(20) as conversation:
        conversation.send(Call("POST", "/volumes", "3.27", body={}, request_id="req-1"))
    (only,) = [line for line in heard if "/identity" not in line]
    assert only.startswith("POST ")


def test_call_to_the_configured_region(api: OpenStackApi, tmp_path: Path) -> None:
    """Two regions and region_name set -> called there."""
    api.regions = {NOVA: ("one", "two")}
    nova = session.nova_endpoint(api.conf(tmp_path, REGION.format("nova", "two")))
    with nova.within(20) as conversation:
        conversation.send(Call("GET", "/servers", "2.1"))
    assert len(api.requests) == 1


def test_two_regions_and_the_same_configured(api: OpenStackApi, tmp_path: Path) -> None:
    """Both sections name the region -> nothing is in doubt."""
    api.regions = {CINDER: ("one", "two"), NOVA: ("two", "one")}
    both = REGION.format("cinder", "two") + REGION.format("nova", "two")
    cinder, nova = places(api, tmp_path, both)
    assert (cinder.region, nova.region) == ("two", "two")
    assert list(doubts(cinder, nova)) == []


def test_different_regions_configured(api: OpenStackApi, tmp_path: Path) -> None:
    """Each section names another region -> said."""
    api.regions = {CINDER: ("one", "two"), NOVA: ("one", "two")}
    both = REGION.format("cinder", "one") + REGION.format("nova", "two")
    (said,) = doubts(*places(api, tmp_path, both))
    assert different_regions(*places(api, tmp_path, both)) == said
    assert "region one" in said
    assert "region two" in said


def test_different_keystones() -> None:
    """Two Keystones -> perhaps two clouds; what is not known is no reason to doubt."""
    cinder = Place("cinder", "http://a/v3", "one", frozenset({"one"}), None)
    nova = Place("nova", "http://b/v3", "one", frozenset({"one"}), None)
    (said,) = doubts(cinder, nova)
    assert "http://a/v3" in said
    unknown = Place("nova", None, None, frozenset(), None)
    assert list(doubts(cinder, unknown)) == []


def test_endpoint_that_is_in_no_catalog(api: OpenStackApi, tmp_path: Path) -> None:
    """endpoint_override -> the region is not known, and nothing is claimed."""
    api.replies["GET /proxy/v3"] = [api.cinder_versions("/proxy/v3/")]
    override = f"[cinder]\nendpoint_override = {api.url}/proxy/v3/%(project_id)s\n"
    cinder, nova = places(api, tmp_path, override)
    assert (cinder.region, cinder.regions) == (None, frozenset())
    assert list(doubts(cinder, nova)) == []


def test_keystone_away(api: OpenStackApi, tmp_path: Path) -> None:
    """Keystone does not answer -> the kind of error that it is for every call."""
    conf = api.conf(tmp_path, "[cinder]\nauth_url = http://127.0.0.1:9/v3\n")
    with pytest.raises(TransientError):
        session.cinder_endpoint(conf).place(5)


def test_roles_of_the_service_user_come_with_its_token(api: OpenStackApi, tmp_path: Path) -> None:
    """[service_user] with an auth plugin -> its roles, by a token of its own."""
    conf = api.conf(tmp_path)
    assert session.cinder_endpoint(conf).service_roles(20.0) == frozenset({"admin"})
