"""Serve a WSGI application of OpenStack: ``python -m tests.lab.inside.wsgi MODULE PORT [ARG ...]``.

The further arguments are what the application finds in ``sys.argv``: it reads its configuration
files from there, or from the environment. Needs no compiler, as uwsgi would.
"""

from __future__ import annotations

import importlib
import sys

import waitress

THREADS = 8


def main(module: str, port: str) -> None:
    """Import the application, which takes seconds, and serve it for ever."""
    application = importlib.import_module(module).application
    waitress.serve(application, host="127.0.0.1", port=int(port), threads=THREADS, ident="lab")


if __name__ == "__main__":
    _, *where = sys.argv[:3]
    sys.argv[1:] = sys.argv[3:]
    main(*where)
