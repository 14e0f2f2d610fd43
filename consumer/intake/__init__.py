"""From the bus and the replay queue into the ledger, then ack; and the quarantine."""
