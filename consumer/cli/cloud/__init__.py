"""The commands that look at the cloud: volumes, hosts, fences, and what the sweeps found."""
