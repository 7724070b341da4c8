"""Filters and full-text search as SQL: the conditions they make, and the arguments of these."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pegboard.query.query import Filter
from pegboard.schema.column import Column, parameter, quoted

SEARCH = "_search"
"""The column of what full-text search reads."""

_WORDS = "websearch_to_tsquery('simple', $1::text)"

RANK = f"ts_rank(t.{quoted(SEARCH)}, {_WORDS})::double precision"
"""How well a row fits what is searched for; the search is the first argument of its statement."""

_CONDITIONS: Mapping[str, str] = {
    "eq": "{column} = {0}",
    "ne": "{column} IS DISTINCT FROM {0}",
    "lt": "{ordered} < {0}",
    "lte": "{ordered} <= {0}",
    "gt": "{ordered} > {0}",
    "gte": "{ordered} >= {0}",
    "in": "{column} = ANY({0})",
    "prefix": "{ordered} >= {0} AND {ordered} < {1}",
    # Collation C knows the case of ASCII only.
    "contains": '{column} COLLATE "default" ILIKE {0}',
    "has": "{column} @> {0}",
}
"""What a filter demands; `ordered` is the column in the order of its code points."""

_WILD = re.compile(r"([\\%_])")


def conditions(filters: tuple[Filter, ...], first: int, q: str | None = None) -> list[str]:
    """Return the conditions of a search and of filters, whose arguments begin with number `first`."""
    found = []
    if q is not None:
        found.append(f"t.{quoted(SEARCH)} @@ {_WORDS}")
        first += 1
    for one in filters:
        count = len(_arguments(one))
        found.append(_condition(one, range(first, first + count)))
        first += count
    return found


def arguments(filters: tuple[Filter, ...], q: str | None = None) -> list[Any]:
    """Return the arguments of these conditions."""
    found = [] if q is None else [q]
    for one in filters:
        found += _arguments(one)
    return found


def shape(filters: tuple[Filter, ...]) -> tuple[Any, ...]:
    """Return what decides the text of the conditions."""
    if not filters:
        return ()
    return tuple(
        [(one.column.name, one.operator, one.operator == "isnull" and one.value, _count(one)) for one in filters]
    )


def _condition(one: Filter, numbers: range) -> str:
    column = f"t.{quoted(one.column.name)}"
    if one.operator == "isnull":
        return f"{column} IS {'NULL' if one.value else 'NOT NULL'}"
    ordered = f'{column} COLLATE "C"' if one.column.is_text else column
    type_of = _TYPES.get(one.operator, _single)
    template = _CONDITIONS[one.operator]
    if one.operator == "prefix" and len(numbers) == 1:
        template = _CONDITIONS["gte"]
    return template.format(
        *(parameter(number, type_of(one.column)) for number in numbers), column=column, ordered=ordered
    )


def _single(column: Column) -> str:
    return column.query_type


_TYPES: Mapping[str, Callable[[Column], str]] = {
    "in": lambda column: f"{column.query_type}[]",
    "has": lambda column: column.base_type,
}


def _count(one: Filter) -> int:
    return len(_arguments(one)) if one.operator in _ARGUMENTS else 1


def _arguments(one: Filter) -> tuple[Any, ...]:
    make = _ARGUMENTS.get(one.operator)
    return (one.value,) if make is None else make(one.value)


def _range(prefix: str) -> tuple[str, ...]:
    """Return the least text that begins with `prefix`, and the least of those that are beyond, where there are any."""
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
