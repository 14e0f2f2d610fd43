"""Free ports that stay free."""

import secrets
import socket
from contextlib import suppress
from pathlib import Path

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15_000
_kept: list[socket.socket] = []


def free_port() -> int:
    """Find a TCP port of 127.0.0.1 that nobody holds, below those kept for outgoing connections.

    A client that reconnects while its server is down may be given any of the outgoing ones, the
    server's own among them: it then holds that port, or even connects to itself.

    Until this process ends no other test run is given it: what is killed and started again on the
    same port must find it free. Raises OSError when none is found.
    """
    below = int(_OUTGOING.read_text().split()[0])
    for _ in range(100):
        port = _LOWEST + secrets.randbelow(max(below - _LOWEST, 1_000))
        if _reserved(port) and _is_free(port):
            return port
    raise OSError(f"no free port of 127.0.0.1 found from {_LOWEST} to {below}")


def _reserved(port: int) -> bool:
    """Take a name that one process at a time can have, wherever one port can be had once.

    An abstract socket: it is gone with the process, and it leaves no file.
    """
    name = socket.socket(socket.AF_UNIX)
    with suppress(OSError):
        name.bind(f"\0detachd-tests-port-{port}")
        _kept.append(name)
        return True
    name.close()
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
