"""How a cloud behaves: one suite, run on the simulated cloud and on the lab's real one.

The simulator is what most of detachd is tested on. What it answers, and the state that it is left
in, is held here to what Cinder and Nova really do; where the two differ the simulator is wrong.
"""
