"""The commands of ``detachd``: a module per group, printing and exit codes, nothing else.

The rooms are by what a command is about; what all commands share is beside them.
Exit codes: 0 done, 1 failed, 2 bad input or configuration.
"""
