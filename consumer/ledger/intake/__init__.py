"""What is stored in the ledger from outside: notifications, replays, quarantined bodies."""
