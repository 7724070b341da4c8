"""The filter operators: all that queries, documents and collections in memory need to know about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pegboard.schema.column import Column
from pegboard.schema.folding import ACCENTS, CASE, Folding

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
    the same for an item's value and an operand in memory. `folding` is what the comparison ignores, if anything: the
    column, the item's value and the operand are folded before. `description` has `{}` for the name of the field, and
    for what is ignored. `argument_type` is the PostgreSQL type of the arguments.
    """

    name: str
    applies: Callable[[Column], bool]
    condition: Callable[[Any], Condition]
    matches: Callable[[Any, Any], bool]
    description: str
    operand: Operand = Operand.VALUE
    argument_type: Callable[[Column], str] = lambda column: column.query_type
    folding: Callable[[Column], Folding | None] = lambda column: None

    def describe(self, column: Column) -> str:
        """Return what the filter of a field does."""
        folding = self.folding(column)
        return self.description.format(column.field, "" if folding is None else folding.note)

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


def _equality(column: Column) -> Folding | None:
    return CASE if column.ignores_case else None


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
    "Only items whose `{}` is this{}.",
    folding=_equality,
)
"""The operator without a suffix in a URL."""

_ALL = (
    EQUAL,
    Operator(
        "ne",
        _is_comparable,
        lambda wanted: ("{column} IS DISTINCT FROM {0}", (wanted,)),
        lambda value, wanted: bool(value != wanted),
        "Only items whose `{}` is not this{}, including null.",
        folding=_equality,
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
        "Only items whose `{}` is one of these{}, separated by commas; `\\,` is a comma within a value.",
        Operand.VALUES,
        lambda column: f"{column.query_type}[]",
        _equality,
    ),
    Operator(
        "prefix",
        _is_text,
        _begins,
        lambda value, wanted: value is not None and value.startswith(wanted),
        "Only items whose `{}` begins with this{}.",
        Operand.TEXT,
        folding=lambda column: ACCENTS if column.ignores_accents else None,
    ),
    Operator(
        "contains",
        _is_text,
        lambda wanted: ("{ordered} LIKE {0}", ("%" + _WILD.sub(r"\\\1", wanted) + "%",)),
        lambda value, wanted: value is not None and wanted in value,
        "Only items whose `{}` contains this{}.",
        Operand.TEXT,
        folding=lambda column: ACCENTS if column.ignores_accents else CASE,
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
