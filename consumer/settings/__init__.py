"""The configuration: options, checks across them, and the settings of each part."""

from pathlib import Path

DEFAULT_FILE = Path("/etc/detachd/detachd.conf")
"""The file that is read where none is named."""
