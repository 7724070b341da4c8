"""Sorting and keyset pagination: sort keys, and the conditions for the rows after a position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pegboard.query.query import Query, Sort
from pegboard.schema.column import INTEGER_KEY, TEMPORAL, Column, parameter

_AS_TEXT = TEMPORAL | {"inet"}

SORTED_LENGTH = 500
"""The number of characters of a long text to sort by, as cursors and indexes cannot hold all of it."""


@dataclass(frozen=True, slots=True)
class Key:
    """Describe one sort key; `name` is the field whose value it is, if any."""

    expression: str
    type: str
    descending: bool
    nullable: bool = False
    column: str = ""
    name: str | None = None

    @property
    def is_text(self) -> bool:
        """Return whether a position has the key as PostgreSQL's text, which is exact."""
        return self.type in _AS_TEXT

    @property
    def selected(self) -> str:
        """Return the expression for the value of the key in a position."""
        as_text = self.is_text or self.type in ("uuid", INTEGER_KEY, "numeric")
        return f"({self.expression})::text" if as_text else self.expression

    def parameter(self, number: int) -> str:
        """Return the placeholder of an argument with the value of the key in a position."""
        return f"${number}::text::{self.type}" if self.is_text else parameter(number, self.type)

    def order(self, backwards: bool) -> str:
        """Return the key for `ORDER BY`. Nulls are where PostgreSQL puts them: last, or first if descending."""
        return f"{self.expression} DESC" if self.descending != backwards else self.expression


def keys(query: Query, id: Column, rank: str) -> tuple[Key, ...]:
    """Return the sort keys of a query; the last is the id, a tie-breaker in the direction of the key before it.

    `rank` is the expression to sort a search by, descending, if the query has no sort.
    """
    if query.sort:
        requested = [_key(sort) for sort in query.sort]
        names = [sort.field for sort in query.sort]
        if id.field in names:
            return tuple(requested[: names.index(id.field) + 1])
    else:
        requested = [] if query.q is None else [Key(rank, "double precision", descending=True)]
    return (*requested, _key(Sort(id, bool(requested) and requested[-1].descending)))


def _key(sort: Sort) -> Key:
    column = sort._column
    plain = column.expression
    expression, name = plain, column.field
    if column.is_long:
        expression, name = f"left({plain}, {SORTED_LENGTH})", ""
    if column.is_text:
        expression += ' COLLATE "C"'
    return Key(expression, column.query_type, sort.descending, not column.is_always_set, plain, name or None)


def after(keys: Sequence[Key], values: Sequence[str | None], backwards: bool) -> list[str]:
    """Return the conditions for the rows after a position, in the order of the rows.

    `values` are the values of the position as SQL, None for a null. Each condition is one range of an index on the
    keys; a single condition for all rows would not be one if there are nulls or mixed directions.
    """
    first = len(keys) - 1
    while first and not keys[first - 1].nullable and keys[first - 1].descending == keys[first].descending:
        first -= 1
    conditions = [[*_equal(keys[:first], values), _row_comparison(keys[first:], values[first:], backwards)]]
    for index in range(first - 1, -1, -1):
        conditions += [
            [*_equal(keys[:index], values), condition] for condition in _after(keys[index], values[index], backwards)
        ]
    return [" AND ".join(parts) for parts in conditions]


def _row_comparison(keys: Sequence[Key], values: Sequence[str | None], backwards: bool) -> str:
    operator = "<" if keys[0].descending != backwards else ">"
    if len(keys) == 1:
        return f"{keys[0].expression} {operator} {values[0]}"
    return f"({', '.join(key.expression for key in keys)}) {operator} ({', '.join(str(value) for value in values)})"


def _equal(keys: Sequence[Key], values: Sequence[str | None]) -> list[str]:
    return [
        f"{key.column} IS NULL" if value is None else f"{key.expression} = {value}"
        for key, value in zip(keys, values, strict=False)
    ]


def _after(key: Key, value: str | None, backwards: bool) -> list[str]:
    """Return the conditions for the values of one key after `value`, the nearest first."""
    descending = key.descending != backwards
    if value is None:
        return [f"{key.column} IS NOT NULL"] if descending else []
    if descending:
        return [f"{key.expression} < {value}"]
    return [f"{key.expression} > {value}", *([f"{key.column} IS NULL"] if key.nullable else [])]
