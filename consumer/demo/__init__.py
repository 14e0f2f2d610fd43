"""The demonstration: use cases and their look-alikes on embedded parts, for ``detachd demo``."""
