"""Filters of timestamps, dates and times: they compare what is shown, which stands for a span of stored values.

A timestamp is shown without its fraction of a second, and one before the year 1 or after the year 9999 as the first or
the last second of these years.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

Condition = tuple[str, tuple[Any, ...]]

_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_LAST_TIME = time(23, 59, 59)


class Span(NamedTuple):
    """Hold the first stored value that is shown as some value, and the first after it; None if there is no bound."""

    start: Any
    end: Any


def condition(operator: str, operand: Any) -> Condition | None:
    """Return the condition for an operand, or None if the operator does not compare with a shown value."""
    if operator == "in":
        spans = [_span(value) for value in operand]
        return _ANY, ([span.start for span in spans], [span.end for span in spans])
    compare = _COMPARISONS.get(operator)
    return None if compare is None else compare(_span(operand))


def _span(value: Any) -> Span:
    if isinstance(value, datetime):
        return Span(None if value == _FIRST else value, None if value == _LAST else value + _SECOND)
    if isinstance(value, date):
        return Span(None if value == date.min else value, None if value == date.max else value + _DAY)
    return Span(value, None if value == _LAST_TIME else (datetime.combine(date.min, value) + _SECOND).time())


def _within(span: Span) -> Condition:
    if span.start is None:
        return "{column} < {0}", (span.end,)
    if span.end is None:
        return "{column} >= {0}", (span.start,)
    return "{column} >= {0} AND {column} < {1}", (span.start, span.end)


def _not_within(span: Span) -> Condition:
    template, args = _within(span)
    return f"({template}) IS NOT TRUE", args


def _below(bound: Any, otherwise: str) -> Condition:
    return (otherwise, ()) if bound is None else ("{column} < {0}", (bound,))


def _from(bound: Any, otherwise: str) -> Condition:
    return (otherwise, ()) if bound is None else ("{column} >= {0}", (bound,))


_EVERY, _NONE = "{column} IS NOT NULL", "false"
_ANY = (
    "EXISTS (SELECT FROM unnest({0}, {1}) AS span(first, after)"
    " WHERE ({column} >= first OR first IS NULL) AND ({column} < after OR after IS NULL))"
)

_COMPARISONS: Mapping[str, Callable[[Span], Condition]] = {
    "eq": _within,
    "ne": _not_within,
    "lt": lambda span: _below(span.start, _NONE),
    "lte": lambda span: _below(span.end, _EVERY),
    "gt": lambda span: _from(span.end, _NONE),
    "gte": lambda span: _from(span.start, _EVERY),
}
