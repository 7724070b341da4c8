"""The filter operators: all that queries, documents and collections in memory need to know about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pegboard.schema.column import Column

_WILD = re.compile(r"([\\%_])")

Condition = tuple[str, tuple[Any, ...]]
"""A condition in SQL and its arguments.

The template has `{0}`, `{1}`, ... for the arguments, `{column}` for the column, and `{ordered}` for it in code point
order.
"""


class Operand(Enum):
    """State what a client sends for an operator: how it is parsed and documented."""

    VALUE = auto()
    """A value of the column; of a list, an element."""
    VALUES = auto()
    """Values of the column, separated by commas."""
    TEXT = auto()
    """Any text."""
    BOOLEAN = auto()
    """`true` or `false`."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Describe one filter operator.

    `applies` is whether a column that can be read has it. `condition` is the condition for an operand, and `matches` is
    the same for an item's value and an operand in memory. `description` has `{}` for the name of the field.
    `argument_type` is the PostgreSQL type of the arguments.
    """

    name: str
    applies: Callable[[Column], bool]
    condition: Callable[[Any], Condition]
    matches: Callable[[Any, Any], bool]
    description: str
    operand: Operand = Operand.VALUE
    argument_type: Callable[[Column], str] = lambda column: column.query_type

    def parameter(self, field: str) -> str:
        """Return the URL parameter that filters by a field."""
        return field if self is EQUAL else f"{field}__{self.name}"


def of(column: Column) -> list[Operator]:
    """Return the operators of a column."""
    return [operator for operator in OPERATORS.values() if column.readable and operator.applies(column)]


def _is_comparable(column: Column) -> bool:
    return column.is_comparable


def _is_ordered(column: Column) -> bool:
    return column.is_comparable and column.base_type != "boolean"


def _is_text(column: Column) -> bool:
    return column.is_text


def _begins(prefix: str) -> Condition:
    """Return the condition for texts from `prefix` to the exclusive end of those that begin with it, if it has one."""
    kept = prefix
    while kept:
        last = ord(kept[-1])
        kept = kept[:-1]
        if last < 0x10FFFF:
            end = kept + chr(0xE000 if last == 0xD7FF else last + 1)
            return "{ordered} >= {0} AND {ordered} < {1}", (prefix, end)
    return "{ordered} >= {0}", (prefix,)


EQUAL = Operator(
    "eq",
    _is_comparable,
    lambda wanted: ("{column} = {0}", (wanted,)),
    lambda value, wanted: value is not None and bool(value == wanted),
    "Only items whose `{}` is this.",
)
"""The operator without a suffix in a URL."""

_ALL = (
    EQUAL,
    Operator(
        "ne",
        _is_comparable,
        lambda wanted: ("{column} IS DISTINCT FROM {0}", (wanted,)),
        lambda value, wanted: bool(value != wanted),
        "Only items whose `{}` is not this, including null.",
    ),
    Operator(
        "lt",
        _is_ordered,
        lambda wanted: ("{ordered} < {0}", (wanted,)),
        lambda value, wanted: value is not None and bool(value < wanted),
        "Only items whose `{}` is less than this.",
    ),
    Operator(
        "lte",
        _is_ordered,
        lambda wanted: ("{ordered} <= {0}", (wanted,)),
        lambda value, wanted: value is not None and bool(value <= wanted),
        "Only items whose `{}` is this or less.",
    ),
    Operator(
        "gt",
        _is_ordered,
        lambda wanted: ("{ordered} > {0}", (wanted,)),
        lambda value, wanted: value is not None and bool(value > wanted),
        "Only items whose `{}` is greater than this.",
    ),
    Operator(
        "gte",
        _is_ordered,
        lambda wanted: ("{ordered} >= {0}", (wanted,)),
        lambda value, wanted: value is not None and bool(value >= wanted),
        "Only items whose `{}` is this or greater.",
    ),
    Operator(
        "in",
        _is_comparable,
        lambda wanted: ("{column} = ANY({0})", (wanted,)),
        lambda value, wanted: value is not None and value in wanted,
        "Only items whose `{}` is one of these, separated by commas; `\\,` is a comma within a value.",
        Operand.VALUES,
        lambda column: f"{column.query_type}[]",
    ),
    Operator(
        "prefix",
        _is_text,
        _begins,
        lambda value, wanted: value is not None and value.startswith(wanted),
        "Only items whose `{}` begins with this.",
        Operand.TEXT,
    ),
    Operator(
        "contains",
        _is_text,
        # Collation C handles the case of ASCII letters only.
        lambda wanted: ('{column} COLLATE "default" ILIKE {0}', ("%" + _WILD.sub(r"\\\1", wanted) + "%",)),
        lambda value, wanted: value is not None and wanted.lower() in value.lower(),
        "Only items whose `{}` contains this, in upper or lower case.",
        Operand.TEXT,
    ),
    Operator(
        "has",
        lambda column: column.is_list,
        lambda wanted: ("{column} @> {0}", ([wanted],)),
        lambda value, wanted: value is not None and wanted in value,
        "Only items whose `{}` has this among its elements.",
        argument_type=lambda column: column.base_type,
    ),
    Operator(
        "isnull",
        lambda column: column.nullable,
        lambda wanted: ("{column} IS NULL" if wanted else "{column} IS NOT NULL", ()),
        lambda value, wanted: (value is None) == wanted,
        "Only items whose `{}` is null (`true`) or is not null (`false`).",
        Operand.BOOLEAN,
    ),
)

OPERATORS: Mapping[str, Operator] = {operator.name: operator for operator in _ALL}
"""The operators by name, in the order of the documents."""
