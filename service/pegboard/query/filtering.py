"""Filters and full-text search as SQL conditions with their arguments."""

from __future__ import annotations

from typing import Any

from pegboard.query import spans
from pegboard.query.operators import OPERATORS, Condition
from pegboard.query.query import Filter
from pegboard.schema.column import parameter, quoted
from pegboard.schema.ddl import SEARCH
from pegboard.schema.folding import words

_WORDS = "$1::text::tsquery"

RANK = f"ts_rank(t.{quoted(SEARCH)}, {_WORDS})::double precision"
"""The relevance of a row for a search, which is the first argument of its statement."""


def conditions(filters: tuple[Filter, ...], first: int, q: str | None = None) -> list[str]:
    """Return the conditions of a search and of filters; `first` is the number of their first argument."""
    parts = []
    if q is not None:
        parts.append(f"t.{quoted(SEARCH)} @@ {_WORDS}")
        first += 1
    for filter in filters:
        template, values = _condition(filter)
        parts.append(_filled(filter, template, range(first, first + len(values))))
        first += len(values)
    return parts


def arguments(filters: tuple[Filter, ...], q: str | None = None) -> list[Any]:
    """Return the arguments of the conditions of a search and of filters."""
    values: list[Any] = [] if q is None else [_search(q)]
    for filter in filters:
        values += _condition(filter)[1]
    return values


def shape(filters: tuple[Filter, ...]) -> tuple[Any, ...]:
    """Return a key that is equal for filters whose conditions have the same text."""
    if not filters:
        return ()
    # The key of an existing table may also be a field, which has another type.
    return tuple(
        [(filter._column.name, filter._column.field, filter.operator, _condition(filter)[0]) for filter in filters]
    )


def _search(q: str) -> str:
    """Return the query for items with all words of `q`, each by its beginning; without words, it matches nothing."""
    return " & ".join(f"'{word}':*" for word in dict.fromkeys(words(q)))


def _condition(filter: Filter) -> Condition:
    if filter._column.is_temporal:
        found = spans.condition(filter.operator, filter.value)
        if found is not None:
            return found
    operator = OPERATORS[filter.operator]
    folding = operator.folding(filter._column)
    return operator.condition(filter.value if folding is None else folding.fold(filter.value))


def _filled(filter: Filter, template: str, numbers: range) -> str:
    """Return the text of a condition whose arguments have these numbers."""
    column = filter._column.expression
    ordered = f'{column} COLLATE "C"' if filter._column.is_text else column
    operator = OPERATORS[filter.operator]
    folding = operator.folding(filter._column)
    if folding is not None:
        column = ordered = f"{folding.function}({ordered})"
    type_of = operator.argument_type(filter._column)
    return template.format(*(parameter(number, type_of) for number in numbers), column=column, ordered=ordered)
