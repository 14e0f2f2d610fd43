"""What is written during the work on cases: claims, case file, finish, outbox, sweeps."""
