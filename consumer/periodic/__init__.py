"""What the service does at intervals, each in a loop of its own: sweeps, looks, watches, upkeep."""
