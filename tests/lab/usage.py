"""How to use a running lab by hand: variables for OpenStack's commands, and a detachd.conf."""

from __future__ import annotations

from pathlib import Path

from tests.lab import clients
from tests.lab.daemon import render
from tests.lab.openstack import OpenStack

FILE = "usage"
SECRET = 0o600


def write(lab: OpenStack, directory: Path) -> None:
    """Write openrc, detachd.conf and, last, the page that tells of them."""
    _keep(directory / "openrc", openrc(lab))
    _keep(directory / "detachd.conf", detachd_conf(lab, directory))
    page = directory / f"{FILE}.half"
    _keep(page, render("usage", _places(lab, directory)))
    page.rename(directory / FILE)


def openrc(lab: OpenStack) -> str:
    """Return what a shell sources before it runs OpenStack's commands as an administrator."""
    admin = lab.credentials("admin")
    said = {
        "OS_AUTH_URL": admin.auth_url,
        "OS_USERNAME": admin.username,
        "OS_PASSWORD": admin.password,
        "OS_PROJECT_NAME": admin.project,
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": admin.region,
        "OS_IDENTITY_API_VERSION": "3",
        "TGT_IPC_SOCKET": str(lab.tgtd.socket),
    }
    return "".join(f"export {name}='{value}'\n" for name, value in said.items())


def detachd_conf(lab: OpenStack, directory: Path) -> str:
    """Return a configuration with which detachd serves this lab."""
    values = {
        "transport_url": lab.transport_url,
        "ledger": str(directory / "ledger.sqlite"),
        "rpc_seconds": str(lab.settings.rpc_seconds),
        "late_seconds": str(5 * lab.settings.rpc_seconds),
        "call_seconds": str(2 * lab.settings.rpc_seconds + 5),
        "accounts": clients.sections(lab.credentials("detachd")),
    }
    return render("detachd.conf", values)


def _places(lab: OpenStack, directory: Path) -> dict[str, str]:
    names = ("keystone", "placement", "cinder-api", "nova-api")
    urls = "\n".join(f"    {name:12} {lab.daemons[name].url}" for name in names)
    logs = "\n".join(
        f"    {name:17} {daemon.directory / 'log'}" for name, daemon in lab.daemons.items()
    )
    return {
        "directory": str(directory),
        "bin": str(lab.environment / "bin"),
        "urls": urls,
        "logs": logs,
        "transport_url": lab.transport_url,
        "backend": lab.backend_name,
        "control_port": str(lab.tgtd.control_port),
        "storage_faults": str(lab.storage_faults.directory),
        "compute": lab.computes[0],
        "compute_faults": str(lab.compute_faults[lab.computes[0]].directory),
    }


def _keep(path: Path, text: str) -> None:
    path.touch(SECRET)
    path.write_text(text)
