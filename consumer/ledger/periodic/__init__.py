"""What the loops of ``consumer.periodic`` keep: sweeps and rounds, clients, fences, heartbeats."""
