"""The commands of ``detachd``: a module per group, printing and exit codes, nothing else.

Exit codes: 0 done, 1 failed, 2 bad input or configuration.
"""
