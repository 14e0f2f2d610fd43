"""The work on cases: the worker, its slots, and the calls of storage drivers."""
