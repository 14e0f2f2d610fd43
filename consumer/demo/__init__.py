"""The demo: the use cases, and healthy cases that look like them, for ``detachd demo``."""
