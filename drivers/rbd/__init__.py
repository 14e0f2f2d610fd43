"""RBD: images of a Ceph cluster, as Cinder's RBD driver uses them.

``driver`` is what the service calls. ``cluster`` runs ``asking``, a program for the Python that has
Ceph's bindings, and says what its failures mean; ``image`` reads its answers.
"""

from drivers.rbd.driver import RbdDriver

__all__ = ["RbdDriver"]
