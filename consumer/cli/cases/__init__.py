"""The commands for cases: what is stuck, what became of it, and what a person decides about it."""
