"""A collection that is held in memory: filtered, sorted and paged as a table's would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import Any

from pegboard.query.query import Filter, Query
from pegboard.schema.column import Column

Place = tuple[Any, ...]

# Asked in this order: to ask an abstract class takes several times as long.
_MAPPINGS = (dict, Mapping)


def matching(items: Sequence[Any], query: Query) -> list[Any]:
    """Return the items that all filters of `query` keep, in its order."""
    kept = [item for item in items if all(_holds(filter, item) for filter in query.filters)]
    compare = _comparison(query)
    return sorted(kept, key=cmp_to_key(lambda one, other: compare(place(one, query), place(other, query))))


def beside(items: Sequence[Any], query: Query, position: Place) -> list[Any]:
    """Return those of the sorted `items` that come after `position`, or before it where the query says `before`."""
    compare = _comparison(query)
    wanted = 1 if query.before is None else -1
    return [item for item in items if compare(place(item, query), position) == wanted]


def place(item: Any, query: Query) -> Place:
    """Return what an item is sorted by, its id last."""
    return (*(value_of(item, sort.column) for sort in query.sort), str(read(item, "id")))


def value_of(item: Any, column: Column) -> Any:
    """Return an item's value of `column` in the form that a query's values have."""
    value = read(item, column.name)
    if isinstance(value, datetime):
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value.replace(microsecond=0)
    return str(value).lower() if column.type == "uuid" and value is not None else value


def read(item: Any, name: str) -> Any:
    """Return the value that an item, a mapping or an object, has under `name`; None where it has none."""
    return item.get(name) if isinstance(item, _MAPPINGS) else getattr(item, name, None)


def id_of(item: Any) -> str:
    """Return the id of an item; raises `KeyError` or `AttributeError` where it has none."""
    return str(item["id"] if isinstance(item, _MAPPINGS) else item.id)


def _comparison(query: Query) -> Callable[[Place, Place], int]:
    """Return what compares two places: nulls last, descending first; the id in the direction of the last field."""
    directions = [-1 if sort.descending else 1 for sort in query.sort]
    directions.append(directions[-1] if directions else 1)

    def compare(one: Place, other: Place) -> int:
        for direction, mine, theirs in zip(directions, one, other, strict=True):
            if mine != theirs:
                less = theirs is None if mine is None or theirs is None else mine < theirs
                return -direction if less else direction
        return 0

    return compare


def _holds(filter: Filter, item: Any) -> bool:
    value, wanted = value_of(item, filter.column), filter.value
    if filter.column.type == "uuid" and filter.operator != "isnull":
        wanted = [str(one) for one in wanted] if filter.operator == "in" else str(wanted)
    return _OPERATORS[filter.operator](value, wanted)


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: value is not None and bool(value == wanted),
    "ne": lambda value, wanted: bool(value != wanted),
    "lt": lambda value, wanted: value is not None and bool(value < wanted),
    "lte": lambda value, wanted: value is not None and bool(value <= wanted),
    "gt": lambda value, wanted: value is not None and bool(value > wanted),
    "gte": lambda value, wanted: value is not None and bool(value >= wanted),
    "in": lambda value, wanted: value is not None and value in wanted,
    "isnull": lambda value, wanted: (value is None) == wanted,
    "prefix": lambda value, wanted: value is not None and value.startswith(wanted),
    "contains": lambda value, wanted: value is not None and wanted.lower() in value.lower(),
    "has": lambda value, wanted: value is not None and wanted in value,
}
