"""What one column of a resource holds, and what a query may ask of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

WHOLE_KEY = "pg_catalog.int8"
"""The type of a whole number that is an id: text here, as all ids are, and a `bigint` there, by its full name."""

QUERIED: Mapping[str, bool] = {"queried": True}
"""The metadata of what only queries read: it is no part of the table."""

_EQUALITY = frozenset({"eq", "ne", "in"})
_ORDER = _EQUALITY | {"lt", "lte", "gt", "gte"}
_TEXT = _ORDER | {"prefix", "contains"}
_LIST = frozenset({"has"})
_NULL = frozenset({"isnull"})

OPERATORS: Mapping[str, frozenset[str]] = {
    "boolean": _EQUALITY,
    "smallint": _ORDER,
    "integer": _ORDER,
    "bigint": _ORDER,
    WHOLE_KEY: _ORDER,
    "real": _ORDER,
    "double precision": _ORDER,
    "numeric": _ORDER,
    "date": _ORDER,
    "time": _ORDER,
    "timestamptz": _ORDER,
    "uuid": _ORDER,
    "text": _TEXT,
    "varchar": _TEXT,
}
"""The filters of each PostgreSQL type that has an order; a type that is not here can only be null or not."""

# A value from a query may lie beyond a small column: then it matches nothing, which is no fault.
_QUERIED_AS = {"smallint": "bigint", "integer": "bigint", "varchar": "text"}

# asyncpg would send the day 9999-12-31 as infinity, so days go as text.
_SENT_AS = {"date": "text::", "date[]": "text[]::", WHOLE_KEY: "text::", f"{WHOLE_KEY}[]": "text[]::"}

_WHOLE_KEY = 1_000
"""A text of at most so many characters is sorted by as it is, and fits into a cursor within a URL."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """Describe one column of a table, and the field that it stores.

    `name` and `type` are PostgreSQL's, `default` is SQL (`'{}'`, `0`, `false`). The lengths count the characters of a
    text and the elements of a list. `references` names the schema and the table whose `id` the column holds.

    `field` is the name in JSON and in URLs. `parse` reads the text of a query parameter as a value of the type (of a
    list: of one element) and raises `ValueError` with the reason. What is not `readable` is never returned, filtered or
    sorted by.
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

    @property
    def base_type(self) -> str:
        """Return the type without its modifiers, a cast to which neither cuts nor rounds."""
        name, _, rest = self.type.partition("(")
        return name.strip() + ("[]" if rest.endswith("[]") else "")

    @property
    def query_type(self) -> str:
        """Return the type that a value is compared as."""
        return _QUERIED_AS.get(self.base_type, self.base_type)

    @property
    def is_list(self) -> bool:
        """Tell whether the column holds a list."""
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
    def is_sortable(self) -> bool:
        """Tell whether items can be sorted by the column."""
        return self.readable and self.base_type in OPERATORS

    @property
    def is_long(self) -> bool:
        """Tell whether a value may be too long to be carried in a cursor."""
        return self.is_text and (self.max_length is None or self.max_length > _WHOLE_KEY)

    @property
    def operators(self) -> frozenset[str]:
        """Return the filters that the column takes; `eq` is the one that a URL writes without an operator."""
        if not self.readable:
            return frozenset()
        own = _LIST if self.is_list else OPERATORS.get(self.base_type, frozenset())
        return own | _NULL if self.nullable else own


def parameter(number: int, type_of: str) -> str:
    """Return the argument of a statement as a value of a type."""
    return f"${number}::{_SENT_AS.get(type_of, '')}{type_of}"


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
