"""What Prometheus sees: every instrument by name, and the page that shows them."""
