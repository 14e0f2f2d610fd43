"""The simulated cloud: Cinder, Nova and storage in memory, for the demo and the tests.

Start at ``Cloud`` (cloud.py); ``Fault`` (faults.py) says what can be made to go wrong, ``Hazard``
(hazards.py) what the cloud watches for, ``serve_cloud`` and ``connect_cloud`` (remote.py) put one
into a process of its own.
"""

from drivers.simulator.cloud import Cloud
from drivers.simulator.driver import SimulatorDriver
from drivers.simulator.faults import Effect, Fault, Landing
from drivers.simulator.hazards import Hazard, HazardKind
from drivers.simulator.nova_compute import Detaching
from drivers.simulator.state import DEFAULT_BACKEND, Exporting, Guest, Service

__all__ = [
    "DEFAULT_BACKEND",
    "Cloud",
    "Detaching",
    "Effect",
    "Exporting",
    "Fault",
    "Guest",
    "Hazard",
    "HazardKind",
    "Landing",
    "Service",
    "SimulatorDriver",
]
