"""What people decide: approvals, pauses, hosts that are off, and the record of every decision."""
