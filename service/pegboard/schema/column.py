"""Columns: the description of one column, for tables, queries and documents alike."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from functools import cache
from typing import Any

INTEGER_KEY = "pg_catalog.int8"
"""The type of an integer id: text in JSON, as all ids, and a `bigint` in the database, by its full name."""

QUERIED: Mapping[str, bool] = {"queried": True}
"""The metadata of attributes that only queries use: they are not part of the table."""

_COMPARABLE = frozenset(
    {
        *("boolean", "smallint", "integer", "bigint", INTEGER_KEY, "real", "double precision", "numeric"),
        *("date", "time", "timestamptz", "uuid", "text", "varchar"),
    }
)
"""The PostgreSQL types whose values can be compared with a value in a URL, and sorted."""

_SPELLINGS = {
    **{name: name for name in (*_COMPARABLE, "jsonb")},
    "timestamp with time zone": "timestamptz",
    **dict.fromkeys(("timestamp", "timestamp without time zone"), "timestamp"),
    "time without time zone": "time",
    "character varying": "varchar",
    **dict.fromkeys(("int", "int4"), "integer"),
    "int2": "smallint",
    "int8": "bigint",
    "float4": "real",
    **dict.fromkeys(("float", "float8"), "double precision"),
    "bool": "boolean",
    **dict.fromkeys(("decimal", "dec"), "numeric"),
}
_NAMES = {**{f"pg_catalog.{spelling}": name for spelling, name in _SPELLINGS.items()}, **_SPELLINGS}
"""The name that this service uses, for each spelling that PostgreSQL accepts."""

_MODIFIERS = re.compile(r"\([^)]*\)")

# A value may exceed the range of a small column: then it matches nothing, which is not an error.
_QUERIED_AS = {"smallint": "bigint", "integer": "bigint", "varchar": "text"}

# asyncpg would send the first and the last date and timestamp as infinities, so they are sent as text.
_SENT_AS = {
    **dict.fromkeys(("date", "timestamptz"), "text::"),
    **dict.fromkeys(("date[]", "timestamptz[]"), "text[]::"),
    INTEGER_KEY: "text::",
    f"{INTEGER_KEY}[]": "text[]::",
}

_LONGEST_KEY = 1_000
"""The most characters of a text that is a sort key itself, and fits into a cursor in a URL."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """Describe one column of a table, and the field that it stores.

    `name` and `type` are PostgreSQL's, `default` is SQL (`'{}'`, `0`, `false`). The lengths count the characters of a
    text and the elements of a list. `references` names the schema and the table whose `id` the column holds.

    `field` is the name in JSON and in URLs. `parse` reads the text of a query parameter as a value of the type (of a
    list: of one element) and raises `ValueError` with the reason. What is not `readable` is never returned, filtered or
    sorted by. `ignores_case` is whether equality ignores the case of a text, and `ignores_accents` whether a part of it
    is found in other case and with other accents.
    """

    name: str
    type: str
    nullable: bool = True
    default: str | None = None
    max_length: int | None = None
    min_length: int | None = None
    references: tuple[str, str] | None = None
    field: str = dataclasses.field(default="", metadata=QUERIED)
    parse: Callable[[str], Any] = dataclasses.field(default=str, metadata=QUERIED)
    readable: bool = dataclasses.field(default=True, metadata=QUERIED)
    writable: bool = dataclasses.field(default=True, metadata=QUERIED)
    ignores_case: bool = dataclasses.field(default=False, metadata=QUERIED)
    ignores_accents: bool = dataclasses.field(default=False, metadata=QUERIED)

    @property
    def base_type(self) -> str:
        """Return the type without its modifiers, by its usual name; a cast to it does not truncate or round."""
        return base_type(self.type)

    @property
    def has_scale(self) -> bool:
        """Return whether the column rounds numbers, or those of its list, to its scale."""
        return "(" in self.type and self.base_type.startswith("numeric")

    @property
    def query_type(self) -> str:
        """Return the type that a value is compared as."""
        return _QUERIED_AS.get(self.base_type, self.base_type)

    @property
    def is_list(self) -> bool:
        """Return whether the column holds a list."""
        return self.type.endswith("[]")

    @property
    def is_text(self) -> bool:
        """Return whether the column holds text."""
        return self.query_type == "text"

    @property
    def is_collatable(self) -> bool:
        """Return whether the column holds text or a list of texts."""
        return self.type.startswith(("text", "varchar", "character"))

    @property
    def is_comparable(self) -> bool:
        """Return whether values of the column can be compared with a value in a URL, and sorted."""
        return self.base_type in _COMPARABLE

    @property
    def is_sortable(self) -> bool:
        """Return whether items can be sorted by the column."""
        return self.readable and self.is_comparable

    @property
    def is_long(self) -> bool:
        """Return whether a value may be too long for a cursor."""
        return self.is_text and (self.max_length is None or self.max_length > _LONGEST_KEY)


@cache
def base_type(declared: str) -> str:
    """Return a type without its modifiers, by its usual name: of `TIMESTAMP(0) WITH TIME ZONE`, `timestamptz`."""
    name = " ".join(_MODIFIERS.sub("", declared).split())
    element = name.removesuffix("[]").rstrip()
    return _NAMES.get(element.lower(), element) + ("[]" if name.endswith("[]") else "")


def parameter(number: int, type_of: str) -> str:
    """Return the placeholder of an argument, cast to its type."""
    return f"${number}::{_SENT_AS.get(type_of, '')}{type_of}"


def arguments_as_sent(args: Iterable[Any]) -> tuple[Any, ...]:
    """Return arguments in the form that `parameter` expects: dates and timestamps as text, also in lists."""
    return tuple([_TO_TEXT[type(value)](value) if type(value) in _TO_TEXT else value for value in args])


def _timestamp_as_text(value: datetime) -> str:
    # asyncpg returns the infinities as the first and the last timestamp without a time zone.
    if value.tzinfo is None and value in _INFINITIES:
        return _INFINITIES[value]
    return value.isoformat()


_INFINITIES = {datetime.min: "-infinity", datetime.max: "infinity"}
_TO_TEXT: Mapping[type, Callable[[Any], Any]] = {
    date: date.isoformat,
    datetime: _timestamp_as_text,
    list: lambda values: list(arguments_as_sent(values)),
}


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
