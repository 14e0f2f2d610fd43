"""The commands for messages: notifications, the quarantine, replays, announcements."""
