"""What is written while cases are worked: claims, case file, finish, outbox, sweeps."""
