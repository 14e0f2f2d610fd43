"""Serve a WSGI application of OpenStack: ``python -m tests.lab.inside.wsgi MODULE PORT [ARG ...]``.

The further arguments are what the application finds in ``sys.argv``: it reads its configuration
files from there, or from the environment. Needs no compiler, as uwsgi would.

Up to 2024.1 there are no modules of applications: there, the console scripts that pbr makes call a
function, and so do we.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

import waitress

THREADS = 8
MADE_BY = {
    "keystone.wsgi.api": ("keystone.server.wsgi", "initialize_public_application"),
    "placement.wsgi.api": ("placement.wsgi", "init_application"),
    "cinder.wsgi.api": ("cinder.wsgi.wsgi", "initialize_application"),
    "nova.wsgi.osapi_compute": ("nova.api.openstack.compute.wsgi", "init_application"),
}
NATIVE_THREADS = {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"}
"""Nova's own switch: waitress serves with threads, which eventlet would replace."""


def main(module: str, port: str) -> None:
    """Import the application, which takes seconds, and serve it for ever."""
    os.environ.update(NATIVE_THREADS)
    waitress.serve(
        _application(module), host="127.0.0.1", port=int(port), threads=THREADS, ident="lab"
    )


def _application(module: str) -> Any:
    if _exists(module):
        return importlib.import_module(module).application
    maker, function = MADE_BY[module]
    return getattr(importlib.import_module(maker), function)()


def _exists(module: str) -> bool:
    """Tell whether there is such a module; its package may be missing, or be a module itself."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    _, *where = sys.argv[:3]
    sys.argv[1:] = sys.argv[3:]
    main(*where)
