"""A port that one test run was given is no other's, whether anybody listens there now or not."""

import subprocess
import sys
from pathlib import Path

from tests.services import ports

ROOT = Path(__file__).parents[2]

# Another test run, for which chance holds the ports that it is told, in this order.
ANOTHER = """
import secrets, sys
from tests.services import ports
drawn = iter(sys.argv[1:])
secrets.randbelow = lambda _: int(next(drawn)) - ports._LOWEST
print(ports.free_port())
"""


def test_ports_differ() -> None:
    """Asked again and again -> another one each time, none that outgoing connections are given."""
    given = [ports.free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert max(given) < int(ports._OUTGOING.read_text().split()[0])


def test_port_is_nobody_else_s() -> None:
    """Nobody listens there yet, as between two lives of a server -> another run passes it over."""
    ours, free = ports.free_port(), ports.free_port()
    ports._kept.pop().close()  # as if the run that had the second one had ended
    command = [sys.executable, "-c", ANOTHER, str(ours), str(ours), str(free)]
    other = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(other.stdout) == free
