"""What comes into the ledger: notifications, replays and what is in quarantine."""
