"""How the fields of a record are printed for programs."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime
from typing import Any


def as_dict(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; nested dataclasses are not converted."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def plain(value: Any) -> Any:
    """Return a value for JSON: enums by value, times in ISO 8601 to the second."""
    if isinstance(value, enum.Enum):
        return value.value
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
