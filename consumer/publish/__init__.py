"""From the outbox to the bus: publishes announcements, each confirmed by the broker."""
