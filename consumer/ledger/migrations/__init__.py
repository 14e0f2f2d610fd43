"""The ledger's schema, step by step (alembic). Each step is frozen: it never imports the tables."""
