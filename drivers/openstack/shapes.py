"""Reads JSON that another program wrote: each value must have its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ShapeError(ValueError):
    """An answer is JSON, but not of the form that the API's reference gives."""


class NotAdminError(ShapeError):
    """A service does not show what it shows to the role admin."""


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Return an object; raises ShapeError for anything else."""
    if not isinstance(value, dict):
        raise ShapeError(f"{name} is no object")
    return value


def items(value: Any, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the list of objects under ``name``; raises ShapeError for anything else."""
    found = mapping(value, "the answer").get(name)
    if not isinstance(found, list):
        raise ShapeError(f"{name} is no list")
    return [mapping(item, f"an item of {name}") for item in found]


def text(record: Mapping[str, Any], name: str) -> str:
    """Return a text that has to be there and not empty; raises ShapeError."""
    if not isinstance(value := record.get(name), str) or not value:
        raise ShapeError(f"{name} is no text")
    return value


def optional(record: Mapping[str, Any], name: str) -> str | None:
    """Return a text, or None where it is null or not there; raises ShapeError."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ShapeError(f"{name} is no text")
    return value


def flag(record: Mapping[str, Any], name: str) -> bool:
    """Return a boolean that has to be there; raises ShapeError."""
    # Not by truth: the text "False" would be true.
    if not isinstance(value := record.get(name), bool):
        raise ShapeError(f"{name} is neither true nor false")
    return value


def present(record: Mapping[str, Any], name: str) -> Any:
    """Return a value that has to be there, whatever it is; raises ShapeError."""
    if name not in record:
        raise ShapeError(f"{name} is missing")
    return record[name]
