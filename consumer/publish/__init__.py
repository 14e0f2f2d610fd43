"""Outbox -> bus: announcements, each confirmed by the broker."""
