"""Dataclasses as rows: each field is stored in the column of its name, according to its type.

So a new field and its new column need no code here. SQLAlchemy's column types convert times, JSON
and text; this module converts enums, connectors and tuples.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from consumer.ledger.database.tables import cases, notifications
from drivers.base import Connector
from handlers.case import Case
from handlers.notification import Notification

Row = sa.Row[Any]
Values = dict[str, Any]
Convert = Callable[[Any], Any]
T = TypeVar("T")
NOTHING: Mapping[str, Any] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """One field and how it is stored. ``required``: never None; NULL is read as its default."""

    field: str
    column: str
    encode: Convert | None
    decode: Convert | None
    required: bool


class Shape(Generic[T]):
    """Converts a dataclass to plain values by name, which JSON and columns can store, and back.

    ``renamed``: the names of fields that are stored under another name. A field with ``gathered``
    in its metadata is not stored here, and gets its default.
    """

    def __init__(self, kind: type[T], renamed: Mapping[str, str] | None = None) -> None:
        self._kind: Callable[..., T] = kind
        hints = typing.get_type_hints(kind)
        own: Iterable[dataclasses.Field[Any]] = dataclasses.fields(
            kind  # type: ignore[arg-type]  # typing has no bound for "any dataclass"
        )
        self._parts = tuple(
            _Part(f.name, (renamed or {}).get(f.name, f.name), *_stored_as(hints[f.name]))
            for f in own
            if not f.metadata.get("gathered")
        )
        self.names = tuple(part.column for part in self._parts)
        self._fields = tuple(part.field for part in self._parts)
        self._get = operator.attrgetter(*self._fields)  # a tuple: there are two fields or more
        self._decoded = tuple((p.field, p.decode) for p in self._parts if p.decode)
        self._required = tuple(part.field for part in self._parts if part.required)

    def values(self, one: T) -> Values:
        """Return the plain values by name."""
        return {
            part.column: part.encode(value) if part.encode and value is not None else value
            for part, value in zip(self._parts, self._get(one), strict=True)
        }

    def differing(self, before: T, after: T) -> Values:
        """Return the plain values of the fields that differ, by name."""
        pairs = zip(self._parts, self._get(before), self._get(after), strict=True)
        return {
            part.column: part.encode(value) if part.encode and value is not None else value
            for part, was, value in pairs
            # Mostly the very same object: "is" spares the comparison of long tuples and mappings.
            if value is not was and value != was
        }

    def of(self, values: Iterable[Any], more: Mapping[str, Any] = NOTHING) -> T:
        """Return the object for plain values in the order of ``names``.

        ``more``: fields as they are, of which some may replace what the values have.
        """
        fields = dict(zip(self._fields, values, strict=True))
        for field, decode in self._decoded:
            if (value := fields[field]) is not None:
                fields[field] = decode(value)
        # A column that is newer than the row: NULL there means what the dataclass has as its
        # default.
        for field in self._required:
            if fields[field] is None:
                del fields[field]
        fields.update(more)
        return self._kind(**fields)


class Stored(Shape[T]):
    """Reads and writes a dataclass in a table. KeyError if the table lacks a column."""

    def __init__(
        self, kind: type[T], table: sa.Table, renamed: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(kind, renamed)
        # By position, because access by name is the slowest part of reading a row.
        at = {column.name: position for position, column in enumerate(table.columns)}
        self._pick = operator.itemgetter(*(at[name] for name in self.names))

    def read(self, row: Row, more: Mapping[str, Any] = NOTHING) -> T:
        """Return the object for a row of the table or its archive; more columns may follow.

        ``more``: as for ``of``.
        """
        return self.of(self._pick(row), more)


def _stored_as(hint: Any) -> tuple[Convert | None, Convert | None, bool]:
    """Return how a field of this type is encoded and decoded, and whether it is never None."""
    among = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(one for one in among if one is not types.NoneType)
    return (*_codec(kind), types.NoneType not in among)


def _codec(kind: Any) -> tuple[Convert | None, Convert | None]:
    if typing.get_origin(kind) is tuple:
        return _codec_of_each(typing.get_args(kind)[0])
    if kind is Connector:  # its allow-list drops all other keys
        return Connector.to_mapping, Connector.from_mapping
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return operator.attrgetter("value"), kind
    if dataclasses.is_dataclass(kind):
        shape: Shape[Any] = Shape(typing.cast("type[Any]", kind))
        return shape.values, lambda values: shape.of(values.get(name) for name in shape.names)
    return None, None


def _codec_of_each(kind: Any) -> tuple[Convert, Convert]:
    encode, decode = _codec(kind)
    return (
        (lambda items: [encode(item) for item in items]) if encode else list,
        (lambda items: tuple([decode(item) for item in items])) if decode else tuple,
    )


# "trigger" is a reserved word in SQL.
CASES = Stored(Case, cases, {"trigger": "triggered_by"})
NOTIFICATIONS = Stored(Notification, notifications, {"attachments": "attachment_rows"})
