"""The lab: a small OpenStack of real services, and the tests that need one."""
