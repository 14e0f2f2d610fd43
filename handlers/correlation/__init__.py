"""What a notification does to the cases: pure."""
