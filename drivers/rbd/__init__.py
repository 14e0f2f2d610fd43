"""RBD: images of a Ceph cluster, as Cinder's RBD driver uses them.

``driver`` is what the service calls. ``cluster`` asks ``asking``, a program for the Python that has
Ceph's bindings, by ``program``, and says what its failures mean; ``image`` reads its answers.
"""

from drivers.rbd.driver import RbdDriver

__all__ = ["RbdDriver"]
