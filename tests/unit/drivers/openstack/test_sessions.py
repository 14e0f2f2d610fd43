"""The sections ``[cinder]``, ``[nova]`` and ``[service_user]``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivers.openstack import session
from drivers.openstack.session import SessionError
from tests.openstack_api import CINDER, PROJECT, OpenStackApi, Reply
from tests.unit.drivers.openstack.answers import VOLUME


def reserve(api: OpenStackApi, tmp_path: Path, extra: str) -> None:
    api.cinder(tmp_path, extra).reserve(VOLUME, request_id="req-1", timeout_seconds=20)


def test_endpoint_that_is_given_instead_of_the_catalogs(api: OpenStackApi, tmp_path: Path) -> None:
    """endpoint_override with the project's id in it -> that is where the call goes."""
    api.replies[f"POST /proxy/v3/{PROJECT}/volumes/{VOLUME}/action"] = [Reply(202)]
    api.replies["GET /proxy/v3"] = [api.cinder_versions("/proxy/v3/")]
    override = f"{api.url}/proxy/v3/%(project_id)s"
    reserve(api, tmp_path, f"[cinder]\nendpoint_override = {override}\n")


def test_any_auth_plugin(api: OpenStackApi, tmp_path: Path) -> None:
    """auth_type = http_basic -> no Keystone at all, the header that this plugin makes."""
    api.script(f"POST /volumes/{VOLUME}/action", Reply(202))
    section = f"[cinder]\nauth_type = http_basic\nendpoint = {api.url}{CINDER}\n"
    api.replies[f"GET {CINDER}"] = [api.cinder_versions()]
    reserve(api, tmp_path, section)
    assert api.tokens == 0
    assert api.requests[-1].headers["authorization"].startswith("Basic ")


def test_every_worker_keeps_its_connection(
    api: OpenStackApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """More calls at once than urllib3 keeps connections by itself -> none is thrown away."""
    api.script(f"POST /volumes/{VOLUME}/action", Reply(202, hang_seconds=0.5))
    cinder = api.cinder(tmp_path)

    def write(number: int) -> None:
        cinder.reserve(VOLUME, request_id=f"req-{number}", timeout_seconds=20)

    write(0)
    with ThreadPoolExecutor(14) as workers:
        list(workers.map(write, range(1, 15)))
    assert "pool is full" not in caplog.text


def test_credentials_of_another_section(api: OpenStackApi, tmp_path: Path) -> None:
    """[nova] auth_section = cinder -> one place for the credentials."""
    api.script("GET /servers/s/os-instance-actions", Reply(200, {"instanceActions": []}))
    client = api.nova(tmp_path, "[nova]\nauth_section = cinder\nauth_type = none\n")
    assert client.deleted_server("s", timeout_seconds=20) is None
    assert api.tokens == 1


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[cinder]\nauth_type = nonesuch\n", "nonesuch"),
        ("[cinder]\nauth_type =\n", "has no auth_type"),
        ("[cinder]\nvalid_interfaces = internal, secret\n", "secret is none of public"),
        ("[cinder]\nversion = 3\nmin_version = 3\n", "beside min_version"),
        ("[service_user]\nsend_service_user_token = true\nauth_type =\n", "[service_user]"),
        ("[cinder]\nauth_section = bare\n[bare]\nauth_type = password\n", "lacks auth_url"),
    ],
)
def test_section_that_cannot_be_used(
    api: OpenStackApi, tmp_path: Path, extra: str, words: str
) -> None:
    """A wrong section -> a sentence that names it and the cause."""
    with pytest.raises(SessionError, match=r"\[(cinder|service_user)\]") as caught:
        api.cinder(tmp_path, extra)
    assert words in str(caught.value)


def test_interface_that_the_catalog_does_not_have(api: OpenStackApi, tmp_path: Path) -> None:
    """valid_interfaces = admin, the catalog has public only -> said so, with the section."""
    with pytest.raises(Exception, match=r"check \[cinder\]"):
        reserve(api, tmp_path, "[cinder]\nvalid_interfaces = admin\n")
    assert api.asked() == []


def test_what_bounds_calls_is_not_keystoneauths() -> None:
    """Timeout and the retries -> no options here, they would be without effect."""
    for section in session.SECTIONS:
        names = {opt.dest for opt in session.options(section)}
        assert not names & session.OURS
        assert {"auth_type", "auth_section", "cafile", "auth_url"} <= names


def test_catalog_root_of_the_double_is_what_the_client_asks(
    api: OpenStackApi, tmp_path: Path
) -> None:
    """The catalog's volumev3 -> found under the service type block-storage."""
    api.script(f"POST /volumes/{VOLUME}/action", Reply(202))
    reserve(api, tmp_path, "")
    assert api.requests[-1].path == f"{CINDER}/volumes/{VOLUME}/action"
