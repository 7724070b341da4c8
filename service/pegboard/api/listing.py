"""Collections held in memory: filtered, sorted and paged like those of a table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cmp_to_key
from typing import Any

from pegboard.query.operators import OPERATORS, Operand
from pegboard.query.query import Filter, Query
from pegboard.rendering import short
from pegboard.schema.column import Column

Position = tuple[Any, ...]
"""The values that an item is sorted by."""

# Checked in this order, because a check against an abstract class takes several times as long.
_MAPPINGS = (dict, Mapping)


def matching(items: Sequence[Any], query: Query) -> list[Any]:
    """Return the items that match all filters of `query`, sorted as it requests."""
    kept = [item for item in items if all(_matches(filter, item) for filter in query.filters)]
    compare = _comparator(query)
    return sorted(kept, key=cmp_to_key(lambda a, b: compare(position_of(a, query), position_of(b, query))))


def continue_from(items: Sequence[Any], query: Query, position: Position) -> list[Any]:
    """Return the sorted `items` after `position`, or those before it if the query has `before`."""
    compare = _comparator(query)
    wanted = 1 if query.before is None else -1
    return [item for item in items if compare(position_of(item, query), position) == wanted]


def position_of(item: Any, query: Query) -> Position:
    """Return the values that an item is sorted by, with its id last."""
    return (*(value_of(item, sort._column) for sort in query.sort), str(read(item, "id")))


def value_of(item: Any, column: Column) -> Any:
    """Return an item's value of `column` in the same form as the values of a query."""
    value = read(item, column.name)
    if value is not None and column.normalize is not None:
        with suppress(ValueError):
            value = column.normalize(value)
    return _ordered(column, value)


def _ordered(column: Column, value: Any) -> Any:
    """Return a value that can be compared with others of the column, as PostgreSQL compares them."""
    if value is not None and column.base_type == "uuid":
        return str(value).lower()
    return value if value is None or column.base_type != "inet" else (value.version, int(value))


def read(item: Any, name: str) -> Any:
    """Return the value of an item's key or attribute `name`, or None if it has none."""
    return item.get(name) if isinstance(item, _MAPPINGS) else getattr(item, name, None)


def id_of(item: Any) -> str:
    """Return the id of an item; raises `TypeError` if it has none."""
    try:
        return str(item["id"] if isinstance(item, _MAPPINGS) else item.id)
    except (KeyError, AttributeError):
        raise TypeError(not_an_item(item)) from None


def not_an_item(value: Any) -> str:
    """Return the message for an action that returned something else than an item."""
    if inspect.iscoroutine(value):
        value.close()
        return "an action returned a coroutine: await it, as in return await super().create(context, data)"
    if value is None:
        return "an action returned None: return the item"
    return f"an action returned {short(value)}: return the item that super() returned, with all its keys"


def _comparator(query: Query) -> Callable[[Position, Position], int]:
    """Return a function that compares two positions.

    Nulls sort last, or first if descending, and the id in the direction of the last field.
    """
    directions = [-1 if sort.descending else 1 for sort in query.sort]
    directions.append(directions[-1] if directions else 1)

    def compare(left: Position, right: Position) -> int:
        for direction, a, b in zip(directions, left, right, strict=True):
            if a != b:
                less = b is None if a is None or b is None else a < b
                return -direction if less else direction
        return 0

    return compare


def _matches(filter: Filter, item: Any) -> bool:
    operator = OPERATORS[filter.operator]
    column, wanted = filter._column, filter.value
    if operator.operand is Operand.VALUE:
        wanted = _ordered(column, wanted)
    elif operator.operand is Operand.VALUES:
        wanted = [_ordered(column, part) for part in wanted]
    value, folding = value_of(item, column), operator.folding(column)
    if folding is not None:
        value, wanted = folding.fold(value), folding.fold(wanted)
    return operator.matches(value, wanted)
