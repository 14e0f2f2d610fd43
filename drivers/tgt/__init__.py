"""tgtd: iSCSI targets in user space, as Cinder's LVM driver uses them.

``driver`` is what the service calls. ``tgtadm`` runs the command, ``listing`` reads its output and
finds the volume in it, ``release`` takes the volume from one host.
"""

from drivers.tgt.driver import TgtDriver

__all__ = ["TgtDriver"]
