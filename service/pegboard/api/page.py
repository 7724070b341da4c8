"""Pages of a collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pegboard.api.listing import Position
from pegboard.query.query import Query


@dataclass(frozen=True, slots=True)
class Page:
    """Hold one page of a collection: its items, the cursors of the pages next to it, and the count if requested."""

    items: Sequence[Any]
    next: str | None = None
    prev: str | None = None
    total: int | None = None


def page(found: Sequence[Any], query: Query, position: Position | None, cursor: Callable[[Any], str]) -> Page:
    """Return the page made of the items `found`, of which there is one more than the limit if more follow.

    They begin next to `position`, that of the client's cursor; for a page before it, the nearest item comes first.
    """
    more, items = len(found) > query.limit, list(found[: query.limit])
    if query.before is not None:
        items.reverse()
        return Page(items, cursor(items[-1]) if items else "", cursor(items[0]) if more else None)
    prev = cursor(items[0]) if position is not None and items else None
    return Page(items, cursor(items[-1]) if more else None, prev)
