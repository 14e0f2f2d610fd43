"""Bus and replay queue -> ledger, then ack; and the quarantine of what cannot be read."""
