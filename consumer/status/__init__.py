"""What stands, as values: the commands print them, and the status page shows them."""
