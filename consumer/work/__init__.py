"""The work on cases: the worker, the sweep and the housekeeping."""
