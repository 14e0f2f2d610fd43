"""Real parts for the tests: private instances of RabbitMQ, PostgreSQL and MariaDB.

Each is a context manager, started on 127.0.0.1 with free ports and a directory of its own, so that
any number of them run side by side and none touches what the machine already has. `fixtures` wraps
them for pytest.
"""
