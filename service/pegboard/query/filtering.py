"""Filters and full-text search as SQL conditions with their arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pegboard.query.query import Filter
from pegboard.schema.column import Column, parameter, quoted

SEARCH = "_search"
"""The column for full-text search."""

_WORDS = "websearch_to_tsquery('simple', $1::text)"

RANK = f"ts_rank(t.{quoted(SEARCH)}, {_WORDS})::double precision"
"""The relevance of a row for a search, which is the first argument of its statement."""

_CONDITIONS: Mapping[str, str] = {
    "eq": "{column} = {0}",
    "ne": "{column} IS DISTINCT FROM {0}",
    "lt": "{ordered} < {0}",
    "lte": "{ordered} <= {0}",
    "gt": "{ordered} > {0}",
    "gte": "{ordered} >= {0}",
    "in": "{column} = ANY({0})",
    "prefix": "{ordered} >= {0} AND {ordered} < {1}",
    # Collation C handles the case of ASCII letters only.
    "contains": '{column} COLLATE "default" ILIKE {0}',
    "has": "{column} @> {0}",
}
"""The condition for each operator; `ordered` is the column in code point order."""

_WILD = re.compile(r"([\\%_])")


def conditions(filters: tuple[Filter, ...], first: int, q: str | None = None) -> list[str]:
    """Return the conditions of a search and of filters; `first` is the number of their first argument."""
    parts = []
    if q is not None:
        parts.append(f"t.{quoted(SEARCH)} @@ {_WORDS}")
        first += 1
    for filter in filters:
        count = len(_arguments(filter))
        parts.append(_condition(filter, range(first, first + count)))
        first += count
    return parts


def arguments(filters: tuple[Filter, ...], q: str | None = None) -> list[Any]:
    """Return the arguments of the conditions of a search and of filters."""
    values = [] if q is None else [q]
    for filter in filters:
        values += _arguments(filter)
    return values


def shape(filters: tuple[Filter, ...]) -> tuple[Any, ...]:
    """Return a key that is equal for filters whose conditions have the same text."""
    if not filters:
        return ()
    return tuple(
        [
            # The key of an existing table may also be a field, which has another type.
            (
                *(filter._column.name, filter._column.field, filter.operator),
                *(filter.operator == "isnull" and filter.value, _count(filter)),
            )
            for filter in filters
        ]
    )


def _condition(filter: Filter, numbers: range) -> str:
    column = f"t.{quoted(filter._column.name)}"
    if filter.operator == "isnull":
        return f"{column} IS {'NULL' if filter.value else 'NOT NULL'}"
    ordered = f'{column} COLLATE "C"' if filter._column.is_text else column
    type_of = _TYPES.get(filter.operator, _single)
    template = _CONDITIONS[filter.operator]
    if filter.operator == "prefix" and len(numbers) == 1:
        template = _CONDITIONS["gte"]
    return template.format(
        *(parameter(number, type_of(filter._column)) for number in numbers), column=column, ordered=ordered
    )


def _single(column: Column) -> str:
    return column.query_type


_TYPES: Mapping[str, Callable[[Column], str]] = {
    "in": lambda column: f"{column.query_type}[]",
    "has": lambda column: column.base_type,
}


def _count(filter: Filter) -> int:
    return len(_arguments(filter)) if filter.operator in _ARGUMENTS else 1


def _arguments(filter: Filter) -> tuple[Any, ...]:
    make = _ARGUMENTS.get(filter.operator)
    return (filter.value,) if make is None else make(filter.value)


def _range(prefix: str) -> tuple[str, ...]:
    """Return the range of texts that begin with `prefix`: its start, and its exclusive end if there is one."""
    kept = prefix
    while kept:
        last = ord(kept[-1])
        kept = kept[:-1]
        if last < 0x10FFFF:
            return prefix, kept + chr(0xE000 if last == 0xD7FF else last + 1)
    return (prefix,)


_ARGUMENTS: Mapping[str, Callable[[Any], tuple[Any, ...]]] = {
    "isnull": lambda value: (),
    "prefix": _range,
    "contains": lambda value: ("%" + _WILD.sub(r"\\\1", value) + "%",),
    "has": lambda value: ([value],),
}
