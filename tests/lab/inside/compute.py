"""Run nova-compute with the lab's hypervisor: ``python -m tests.lab.inside.compute --config-file``.

Nova loads hypervisors from its own package only, so ours is made known under a name in there.
"""

import sys

from nova.cmd import compute  # first: it prepares the threads, before anything else is imported

from tests.lab.inside import virt

sys.modules["nova.virt.lab"] = virt

if __name__ == "__main__":
    sys.exit(compute.main())
