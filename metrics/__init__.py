"""The metrics for Prometheus: every instrument, and the HTTP server that exports them."""
