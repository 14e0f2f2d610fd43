"""What is read of cases, and what becomes of those that are over."""
