"""Ledger -> judgement -> ledger: the worker, the sweep and the housekeeping."""
