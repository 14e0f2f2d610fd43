"""What runs inside the lab's own Python environment, within the processes of Cinder and Nova.

Nothing here may import anything of detachd or of its tests but these modules: the environment has
OpenStack in it and nothing of ours.
"""
