"""Whether the service is well, and how others are told: probes, metrics, systemd, SIGUSR2."""
