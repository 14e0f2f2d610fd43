"""tgtd: iSCSI targets in user space, as Cinder's LVM driver uses them.

``driver`` is what the service calls; ``tgtadm`` runs the one command; ``listing`` reads what it
shows, ``sighting`` finds the volume in it, ``release`` lets a host go.
"""

from drivers.tgt.driver import TgtDriver

__all__ = ["TgtDriver"]
