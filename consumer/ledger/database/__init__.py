"""The database: connections, tables, the schema's version, and what the three dialects share."""
