"""What the query of a collection asks for, and what the queries of one resource may ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pegboard import errors
from pegboard.query import cursor
from pegboard.query.cursor import Sealer
from pegboard.query.existing import reading
from pegboard.schema.column import Column

PARAMETERS = ("limit", "after", "before", "sort", "fields", "count", "q", "expand")
"""The parameters that mean the same in every collection."""

_ENDLESS = 10**18 - 1


@dataclass(frozen=True, slots=True)
class Sort:
    """Sort by one column."""

    column: Column
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep the items whose `column` holds against `value`, as `operator` says.

    `text` is how the client wrote the value.
    """

    column: Column
    operator: str
    value: Any
    text: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """Say which items are asked for, in which order, and how much of them.

    `fields` always has `id` in it; None means all. At most one of `after` and `before` is there, as the client sent it.
    """

    limit: int = 50
    sort: tuple[Sort, ...] = ()
    filters: tuple[Filter, ...] = ()
    fields: frozenset[str] | None = None
    count: Literal["exact", "estimated"] | None = None
    q: str | None = None
    expand: tuple[str, ...] = ()
    after: str | None = None
    before: str | None = None
    _sealers: dict[tuple[bytes, str], Sealer] = field(init=False, repr=False, compare=False, default_factory=dict)

    def cursor(self, secret: bytes, resource: str, values: tuple[Any, ...]) -> str:
        """Return a cursor to the place `values` of `resource`, of use only with the same sort, filters and search."""
        return cursor.encode(self._sealer(secret, resource), values)

    def position(self, secret: bytes, resource: str) -> tuple[Any, ...] | None:
        """Return the place that the client's cursor means, None where it sent none; raises `ApiError` 400."""
        text = self.after if self.before is None else self.before
        if text is None:
            return None
        try:
            return cursor.decode(self._sealer(secret, resource), text)
        except ValueError:
            raise errors.InvalidCursor(parameter="before" if self.after is None else "after") from None

    def beside(self, *, after: str | None = None, before: str | None = None) -> Query:
        """Return the query of another page of the same."""
        query = Query(self.limit, self.sort, self.filters, self.fields, self.count, self.q, self.expand, after, before)
        object.__setattr__(query, "_sealers", self._sealers)
        return query

    def _sealer(self, secret: bytes, resource: str) -> Sealer:
        """Return what seals the cursors of this query, made once for all of its pages."""
        sealer = self._sealers.get((secret, resource))
        if sealer is None:
            sealer = self._sealers[secret, resource] = Sealer(secret, self._scope(resource))
        return sealer

    def _scope(self, resource: str) -> bytes:
        """Return what a cursor is of use for."""
        sort = [(s.column.field, s.column.type, s.column.nullable, s.descending) for s in self.sort]
        filters = sorted((f.column.field, f.operator, f.text) for f in self.filters)
        return ascii((resource, sort, filters, self.q)).encode()


@dataclass(frozen=True, slots=True)
class Rules:
    """Say what a resource's queries may ask for; made once, at start.

    `filterable` and `sortable` name the fields that are; None means all whose type allows it. `computed` names those
    that are shown although no column holds them. Raises `ValueError` for a field whose name could not be told from
    something else in a URL.
    """

    columns: tuple[Column, ...]
    filterable: Collection[str] | None = None
    sortable: Collection[str] | None = None
    searchable: bool = False
    expandable: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    default_limit: int = 50
    max_limit: int = 500
    paged: bool = True
    whole: Query = field(init=False)
    """The query that asks for nothing in particular."""
    readable: frozenset[str] = field(init=False)
    sorts: Mapping[str, Column] = field(init=False)
    filters: Mapping[str, tuple[Column, str]] = field(init=False)
    """The parameters that filter, each with its column and operator."""
    reserved: frozenset[str] = field(init=False)
    """The parameters that mean the same in every collection and are taken here."""
    remembered: dict[str, Query] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Queries of the collection as they were read, by what stands in the URL; for whoever reads them."""

    def __post_init__(self) -> None:
        for name in (column.field for column in self.columns):
            if name in PARAMETERS:
                raise ValueError(f"a field cannot be called {name!r}: that is a query parameter of every collection")
            if not name or "," in name or name.startswith("-"):
                raise ValueError(f"a field cannot be called {name!r}: `sort` and `fields` could not name it")
        if not 1 <= self.default_limit <= self.max_limit:
            raise ValueError(f"the default limit {self.default_limit} is not from 1 to {self.max_limit}")
        readable = [column for column in self.columns if column.readable]
        sorts = {c.field: c for c in readable if c.is_sortable and (self.sortable is None or c.field in self.sortable)}
        object.__setattr__(self, "whole", Query(limit=self.default_limit))
        object.__setattr__(self, "readable", frozenset((*(column.field for column in readable), *self.computed)))
        object.__setattr__(self, "sorts", sorts)
        object.__setattr__(self, "filters", self._filters(readable))
        lacking = {"q": not self.searchable, "expand": not self.expandable}
        object.__setattr__(self, "reserved", frozenset(name for name in PARAMETERS if not lacking.get(name, False)))

    def streaming(self) -> Rules:
        """Return the rules of a query that gets all at once: it has any limit, or none, and no cursors."""
        return replace(self, default_limit=_ENDLESS, max_limit=_ENDLESS, paged=False)

    def identified(self, parse: Callable[[str], str | None]) -> Rules:
        """Return the rules where filters read ids as `parse` does, which gives None for what can be none."""
        columns = (replace(column, parse=reading(parse)) if column.field == "id" else column for column in self.columns)
        return replace(self, columns=tuple(columns))

    def _filters(self, readable: list[Column]) -> dict[str, tuple[Column, str]]:
        columns = [c for c in readable if self.filterable is None or c.field in self.filterable]
        found = {f"{c.field}__{operator}": (c, operator) for c in columns for operator in c.operators - {"eq"}}
        # A field may be called like another one with an operator: the longest name of a field wins.
        for column in self.columns:
            found.pop(column.field, None)
        return found | {c.field: (c, "eq") for c in columns if "eq" in c.operators}
