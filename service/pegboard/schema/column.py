"""Columns: the description of one column, for tables, queries and documents alike."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

INTEGER_KEY = "pg_catalog.int8"
"""The type of an integer id: text in JSON, as all ids, and a `bigint` in the database, by its full name."""

QUERIED: Mapping[str, bool] = {"queried": True}
"""The metadata of attributes that only queries use: they are not part of the table."""

NESTED: Mapping[str, bool] = {"nested": True}
"""The metadata of the attribute that describes what a JSON column holds: it is not part of the table."""

_COMPARABLE = frozenset(
    {
        *("boolean", "smallint", "integer", "bigint", INTEGER_KEY, "real", "double precision", "numeric"),
        *("date", "time", "timestamp", "timestamptz", "uuid", "text", "varchar", "inet"),
    }
)
"""The PostgreSQL types whose values can be compared with a value in a URL, and sorted."""

_SPELLINGS = {
    **{name: name for name in (*_COMPARABLE, "jsonb")},
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
    "character varying": "varchar",
    **dict.fromkeys(("int", "int4"), "integer"),
    "int2": "smallint",
    "int8": "bigint",
    "float4": "real",
    **dict.fromkeys(("float", "float8"), "double precision"),
    "bool": "boolean",
    **dict.fromkeys(("decimal", "dec"), "numeric"),
    **dict.fromkeys(("timetz", "time with time zone"), "timetz"),
    **dict.fromkeys(("varbit", "bit varying"), "varbit"),
    "bpchar": "bpchar",
    "char varying": "varchar",
}
_NAMES = {
    **{f"pg_catalog.{spelling}": name for spelling, name in _SPELLINGS.items()},
    **_SPELLINGS,
    # The type `pg_catalog.char` is another one.
    **dict.fromkeys(("character", "char", "nchar", "national character", "national char"), "bpchar"),
}
"""The name that this service uses, for each spelling that PostgreSQL accepts."""

_OTHERS = frozenset(
    {
        *("bytea", "char", "bpchar", "name", "money", "interval", "timetz"),
        *("xml", "json", "jsonb", "jsonpath", "point", "line", "lseg", "box", "path", "polygon", "circle", "cidr"),
        *("macaddr", "macaddr8", "bit", "varbit", "tsvector", "tsquery", "pg_lsn", "pg_snapshot"),
        *("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange", "int4multirange"),
        *("int8multirange", "nummultirange", "tsmultirange", "tstzmultirange", "datemultirange"),
        *("oid", "xid", "xid8", "cid", "tid", "regclass", "regtype", "regproc", "regrole", "regnamespace"),
    }
)
"""The other types of PostgreSQL."""

_MODIFIERS = re.compile(r"\([^)]*\)")

# A value may exceed the range of a small column: then it matches nothing, which is not an error.
_QUERIED_AS = {"smallint": "bigint", "integer": "bigint", "varchar": "text"}

TEMPORAL = frozenset({"date", "time", "timestamp", "timestamptz"})
"""The types that PostgreSQL formats in a fraction of the time that Python takes to decode and format them."""

_SENT_AS = frozenset({INTEGER_KEY, f"{INTEGER_KEY}[]"})
"""The types whose values are sent as text."""

_LONGEST_KEY = 1_000
"""The most characters of a text that is a sort key itself, and fits into a cursor in a URL."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Describe a value within a JSON column: an `object` has named parts, a `list` and a `map` one for every element.

    `type` is that of a column for any other value.
    """

    name: str
    type: str
    required: bool = False
    parts: tuple[Part, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """Describe one column of a table, and the field that it stores.

    `name` and `type` are PostgreSQL's, `default` is SQL (`'{}'`, `0`, `false`). The lengths count the characters of a
    text and the elements of a list. `references` names the schema and the table whose `id` the column holds. `choices`
    are the only values that it may have.

    `field` is the name in JSON and in URLs. `parse` reads the text of a query parameter as a value of the type (of a
    list: of one element), `normalize` returns the stored form of a value; both raise `ValueError` with the reason.
    Numbers are shown with at least `places` digits after the point, have at most `most_places` of them (None: any
    number), and anything `is_shown_as_text` if the field holds
    text. What is not `readable` is never returned, filtered or sorted by. `ignores_case` is whether equality ignores
    the case of a text, and `ignores_accents` whether a part of it is found in other case and with other accents.
    `shape` describes the nested schemas of a JSON column. A column `is_always_set` if no row can have null: others of a
    field that does not allow it may have, in tables that SQL files or another version of the schema have changed.
    """

    name: str
    type: str
    nullable: bool = True
    default: str | None = None
    max_length: int | None = None
    min_length: int | None = None
    references: tuple[str, str] | None = None
    choices: tuple[str | int, ...] | None = None
    field: str = dataclasses.field(default="", metadata=QUERIED)
    parse: Callable[[str], Any] = dataclasses.field(default=str, metadata=QUERIED)
    normalize: Callable[[Any], Any] | None = dataclasses.field(default=None, metadata=QUERIED)
    places: int | None = dataclasses.field(default=None, metadata=QUERIED)
    most_places: int | None = dataclasses.field(default=None, metadata=QUERIED)
    is_shown_as_text: bool = dataclasses.field(default=False, metadata=QUERIED)
    is_always_set: bool = dataclasses.field(default=False, metadata=QUERIED)
    readable: bool = dataclasses.field(default=True, metadata=QUERIED)
    writable: bool = dataclasses.field(default=True, metadata=QUERIED)
    ignores_case: bool = dataclasses.field(default=False, metadata=QUERIED)
    ignores_accents: bool = dataclasses.field(default=False, metadata=QUERIED)
    shape: Part | None = dataclasses.field(default=None, metadata=NESTED)

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
        return "text" if is_custom(self.base_type) else _QUERIED_AS.get(self.base_type, self.base_type)

    @property
    def expression(self) -> str:
        """Return the value of the column in a row `t`, as SQL; one of a custom type as text."""
        value = f"t.{quoted(self.name)}"
        return f"({value})::text" if is_custom(self.base_type) and not self.is_list else value

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
    def is_temporal(self) -> bool:
        """Return whether the column holds timestamps, dates or times."""
        return self.base_type in TEMPORAL

    @property
    def is_comparable(self) -> bool:
        """Return whether values of the column can be compared with a value in a URL, and sorted."""
        return self.query_type in _COMPARABLE

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


def is_custom(base: str) -> bool:
    """Return whether a type is not one of PostgreSQL's own, such as an enum: its values are sent and read as text."""
    element = base.removesuffix("[]").lower().removeprefix("pg_catalog.")
    return element not in _COMPARABLE and element not in _OTHERS and base.removesuffix("[]") != INTEGER_KEY


def parameter(number: int, type_of: str) -> str:
    """Return the placeholder of an argument, cast to its type."""
    sent_as = "text[]::" if type_of.endswith("[]") else "text::"
    return f"${number}::{sent_as if type_of in _SENT_AS or is_custom(type_of) else ''}{type_of}"


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
