"""Queries of a collection, and the rules for the queries of one resource."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pegboard import errors
from pegboard.query import cursor, operators
from pegboard.query.cursor import Signer
from pegboard.query.existing import strict
from pegboard.schema.column import Column

PARAMETERS = ("limit", "after", "before", "sort", "fields", "count", "q", "expand")
"""The parameters that mean the same in every collection."""

DEFAULT_LIMIT, MAX_LIMIT = 50, 500
"""The number of items on a page, and the most that a client may request, unless a resource declares others."""

_UNLIMITED = 10**18 - 1


@dataclass(frozen=True, slots=True)
class Sort:
    """Sort by one field."""

    _column: Column
    descending: bool = False

    @property
    def field(self) -> str:
        """Return the name of the field."""
        return self._column.field


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep the items for whose field the comparison with `value` by `operator` is true.

    `text` is the value as the client sent it.
    """

    _column: Column
    operator: str
    value: Any
    text: str = ""

    @property
    def field(self) -> str:
        """Return the name of the field."""
        return self._column.field


@dataclass(frozen=True, slots=True)
class Query:
    """Describe which items are requested, in which order, and which of their fields.

    `fields` always contains `id`; None means all. At most one of `after` and `before` is set, as the client sent it.
    """

    limit: int = DEFAULT_LIMIT
    sort: tuple[Sort, ...] = ()
    filters: tuple[Filter, ...] = ()
    fields: frozenset[str] | None = None
    count: Literal["exact", "estimated"] | None = None
    q: str | None = None
    expand: tuple[str, ...] = ()
    after: str | None = None
    before: str | None = None
    _signers: dict[tuple[bytes, str], Signer] = field(init=False, repr=False, compare=False, default_factory=dict)


def cursor_to(query: Query, secret: bytes, resource: str, values: tuple[Any, ...]) -> str:
    """Return a cursor to the position `values` of `resource`, valid only for the same sort, filters and search."""
    return cursor.encode(_signer(query, secret, resource), values)


def requested_position(query: Query, secret: bytes, resource: str) -> tuple[Any, ...] | None:
    """Return the position of the client's cursor, or None if it sent none; raises `ApiError` 400."""
    text = query.after if query.before is None else query.before
    if text is None:
        return None
    try:
        return cursor.decode(_signer(query, secret, resource), text)
    except ValueError:
        raise errors.InvalidCursor(parameter="before" if query.after is None else "after") from None


def with_cursor(query: Query, *, after: str | None = None, before: str | None = None) -> Query:
    """Return the same query for another page."""
    changed = Query(
        query.limit, query.sort, query.filters, query.fields, query.count, query.q, query.expand, after, before
    )
    object.__setattr__(changed, "_signers", query._signers)
    return changed


def _signer(query: Query, secret: bytes, resource: str) -> Signer:
    """Return the signer of cursors of a query, created once for all of its pages."""
    signer = query._signers.get((secret, resource))
    if signer is None:
        signer = query._signers[secret, resource] = Signer(secret, _scope(query, resource))
    return signer


def _scope(query: Query, resource: str) -> bytes:
    """Return the scope in which a cursor is valid."""
    sort = [(s.field, s._column.type, s._column.nullable, s.descending) for s in query.sort]
    filters = sorted((f.field, f.operator, f.text) for f in query.filters)
    return ascii((resource, sort, filters, query.q)).encode()


@dataclass(frozen=True, slots=True)
class Rules:
    """Define what the queries of a resource may request; created once, at start.

    `filterable` and `sortable` are names of fields; None means all whose type supports it. `computed` are the names of
    fields that are not stored in a column. Raises `ValueError` for a field whose name would be ambiguous in a URL.
    """

    columns: tuple[Column, ...]
    filterable: Collection[str] | None = None
    sortable: Collection[str] | None = None
    searchable: bool = False
    expandable: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    default_limit: int = DEFAULT_LIMIT
    max_limit: int = MAX_LIMIT
    paged: bool = True
    default_query: Query = field(init=False)
    """The query without any parameters."""
    readable: frozenset[str] = field(init=False)
    sorts: Mapping[str, Column] = field(init=False)
    filters: Mapping[str, tuple[Column, str]] = field(init=False)
    """The parameters that filter, each with its column and operator."""
    reserved: frozenset[str] = field(init=False)
    """The supported ones of the parameters that mean the same in every collection."""
    cache: dict[str, Query] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Parsed queries of the collection by their text in the URL, for the parser."""

    def __post_init__(self) -> None:
        for name in (column.field for column in self.columns):
            if name in PARAMETERS:
                raise ValueError(f"a field cannot be called {name!r}: that is a query parameter of every collection")
            if not name or "," in name or name.startswith("-") or name in ("*", "_etag"):
                raise ValueError(f"a field cannot be called {name!r}: `sort` and `fields` could not name it")
        if not 1 <= self.default_limit <= self.max_limit:
            raise ValueError(f"the default limit {self.default_limit} is not from 1 to {self.max_limit}")
        readable = [column for column in self.columns if column.readable]
        sorts = {c.field: c for c in readable if c.is_sortable and (self.sortable is None or c.field in self.sortable)}
        object.__setattr__(self, "default_query", Query(limit=self.default_limit))
        object.__setattr__(self, "readable", frozenset((*(column.field for column in readable), *self.computed)))
        object.__setattr__(self, "sorts", sorts)
        object.__setattr__(self, "filters", self._filters(readable))
        disabled = {"q": not self.searchable, "expand": not self.expandable}
        object.__setattr__(self, "reserved", frozenset(name for name in PARAMETERS if not disabled.get(name, False)))

    def streaming(self) -> Rules:
        """Return the rules for streams of all items: with any limit or none, and without cursors."""
        return replace(self, default_limit=_UNLIMITED, max_limit=_UNLIMITED, paged=False)

    def with_id_parser(self, parse: Callable[[str], str | None]) -> Rules:
        """Return the rules with filters that parse ids by `parse`, which returns None for an invalid one."""
        columns = (replace(column, parse=strict(parse)) if column.field == "id" else column for column in self.columns)
        return replace(self, columns=tuple(columns))

    def _filters(self, readable: list[Column]) -> dict[str, tuple[Column, str]]:
        columns = [c for c in readable if self.filterable is None or c.field in self.filterable]
        names = {column.field for column in self.columns}
        return {
            parameter: (column, operator.name)
            for column in columns
            for operator in operators.of(column)
            # A field may have the name of another one with an operator: the longest field name wins.
            if (parameter := operator.parameter(column.field)) == column.field or parameter not in names
        }
