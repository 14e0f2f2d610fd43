"""What is written during the work on cases: claims, case file, brakes, finish, outbox."""
