"""Real parts for the tests: private instances of RabbitMQ, PostgreSQL, MariaDB and tgtd.

Each is a context manager, started on 127.0.0.1 with free ports and a directory of its own, so that
any number of them run side by side and none touches what the machine already has. `fixtures` wraps
them for pytest. `initiator` and `fuse_disk` are what a target has at its two ends: hosts that log
in and write, and a disk whose I/O can be made to hang.
"""
