"""The order of a collection: the keys it is sorted by, and the conditions that find what lies beyond a place in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pegboard.query.query import Query, Sort
from pegboard.schema.column import Column, quoted

_CUT = 500
"""So many characters of a long text are sorted by: a cursor, and an index, could not hold all."""


@dataclass(frozen=True, slots=True)
class Key:
    """Hold one thing that rows are sorted by; `name` is the field that shows its value, where one does."""

    expression: str
    type: str
    descending: bool
    nullable: bool = False
    column: str = ""
    name: str | None = None

    def order(self, backwards: bool) -> str:
        """Return the key as `ORDER BY` takes it. Nulls stand where PostgreSQL puts them: last, descending first."""
        return f"{self.expression} DESC" if self.descending != backwards else self.expression


def keys(query: Query, identity: Column, rank: str) -> tuple[Key, ...]:
    """Return the keys of a query; the id, the last of them, breaks ties in the direction of the one before.

    `rank` is the expression that a search without a sort is ordered by, best first.
    """
    if query.sort:
        found = [_key(sort) for sort in query.sort]
        names = [sort.column.field for sort in query.sort]
        if identity.field in names:
            return tuple(found[: names.index(identity.field) + 1])
    else:
        found = [] if query.q is None else [Key(rank, "double precision", descending=True)]
    return (*found, _key(Sort(identity, bool(found) and found[-1].descending)))


def _key(sort: Sort) -> Key:
    column = sort.column
    plain = f"t.{quoted(column.name)}"
    expression, name = plain, column.field
    if column.is_long:
        expression, name = f"left({plain}, {_CUT})", ""
    if column.is_text:
        expression += ' COLLATE "C"'
    return Key(expression, column.query_type, sort.descending, column.nullable, plain, name or None)


def beyond(keys: Sequence[Key], values: Sequence[str | None], backwards: bool) -> list[str]:
    """Return the conditions of the rows beyond a place, in the order in which the rows follow.

    `values` are the SQL of the place's values, None for a null. Each condition is one range of an index on the keys,
    which no single condition over nulls or mixed directions would be.
    """
    first = len(keys) - 1
    while first and not keys[first - 1].nullable and keys[first - 1].descending == keys[first].descending:
        first -= 1
    conditions = [[*_same(keys[:first], values), _row(keys[first:], values[first:], backwards)]]
    for index in range(first - 1, -1, -1):
        conditions += [
            [*_same(keys[:index], values), further] for further in _further(keys[index], values[index], backwards)
        ]
    return [" AND ".join(parts) for parts in conditions]


def _row(keys: Sequence[Key], values: Sequence[str | None], backwards: bool) -> str:
    operator = "<" if keys[0].descending != backwards else ">"
    if len(keys) == 1:
        return f"{keys[0].expression} {operator} {values[0]}"
    return f"({', '.join(key.expression for key in keys)}) {operator} ({', '.join(str(value) for value in values)})"


def _same(keys: Sequence[Key], values: Sequence[str | None]) -> list[str]:
    return [
        f"{key.column} IS NULL" if value is None else f"{key.expression} = {value}"
        for key, value in zip(keys, values, strict=False)
    ]


def _further(key: Key, value: str | None, backwards: bool) -> list[str]:
    """Return the ranges of one key's values that come after `value`, the nearer first."""
    descending = key.descending != backwards
    if value is None:
        return [f"{key.column} IS NOT NULL"] if descending else []
    if descending:
        return [f"{key.expression} < {value}"]
    return [f"{key.expression} > {value}", *([f"{key.column} IS NULL"] if key.nullable else [])]
