"""The database: connection, tables, migrations' state and what the three dialects share."""
