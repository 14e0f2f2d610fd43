"""The process: how a notification arrives, survives, is worked and is announced."""
