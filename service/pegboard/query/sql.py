"""The SQL statements of one table, with their arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any, NamedTuple

from pegboard import rendering
from pegboard.query import filtering, ordering
from pegboard.query.query import Filter, Query
from pegboard.schema.column import INTEGER_KEY, Column, is_custom, parameter, quoted
from pegboard.schema.ddl import CREATED_AT, NOW, UPDATED_AT, VERSION
from pegboard.schema.numbers import MAX_INTEGER

_CACHED = 1_000

# PostgreSQL's text output of these types is lossless, and needs no conversion.
_AS_TEXT = {
    **dict.fromkeys(("uuid", INTEGER_KEY, "numeric"), "({})::text"),
    **dict.fromkeys(("uuid[]", "numeric[]"), "({})::text[]"),
    # As a double, 0.1 would be 0.10000000149011612.
    "real": "({})::text::double precision",
    "real[]": "({})::text[]::double precision[]",
    "inet": "abbrev({})",
}
_TEXT = "({})::text"

# Their equality is faster than a comparison of records.
_EQUAL_IF_SHOWN_ALIKE = frozenset(
    {"boolean", "smallint", "integer", "bigint", "date", "time", "timestamp", "timestamptz", "uuid"}
)


class Statement(NamedTuple):
    """Hold a statement and its arguments."""

    text: str
    args: tuple[Any, ...]


class Page(NamedTuple):
    """Hold the statement of one page, and how to read its rows.

    It returns one row more than the limit if there are more. A row begins with the values of the fields `names`, in
    this order. `keys` are the indexes of the values of its position. For a page before a cursor, the rows are in
    reverse order.
    """

    text: str
    args: tuple[Any, ...]
    names: tuple[str, ...]
    keys: tuple[int, ...] = ()

    def position_of(self, row: Any) -> tuple[Any, ...]:
        """Return the position of a row, for a cursor."""
        return tuple([row[index] for index in self.keys])


@dataclass(frozen=True, slots=True)
class Table:
    """Describe a table and generate its statements.

    `columns` are all that the statements use, in the order of the fields: the id first, and including `CREATED_AT` and
    `UPDATED_AT` if the table has them. In addition, the table has "_version", a number that every change replaces, and,
    if it is searchable, "_search". With a `seed`, a digest of the row is used instead of a version. Values to write are
    passed by SQL column. `extra` filters are added to those of the query, and not under the client's control. The text
    of each statement is generated once and cached.

    If the items are only `rendered`, their timestamps, dates and times are PostgreSQL's text, which `complete` turns
    into that of responses.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    seed: int | None = None
    rendered: bool = False
    _completions: tuple[tuple[str, Callable[[str], str]], ...] = field(init=False, repr=False, compare=False)
    _by_column: dict[str, Column] = field(init=False, repr=False, compare=False)
    _texts: dict[tuple[Any, ...], Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a field that would hide the version of its row."""
        object.__setattr__(self, "_by_column", {column.name: column for column in self.columns})
        completions = [(c.field, rendering.FROM_POSTGRES[c.base_type]) for c in self.columns if self._is_text(c)]
        object.__setattr__(self, "_completions", tuple(completions))
        if VERSION in self._by_column or any(column.field == VERSION for column in self.columns):
            raise ValueError(f"{self.name}: a field cannot be called {VERSION!r}")

    @property
    def _key_column(self) -> Column:
        return self.columns[0]

    @property
    def _version(self) -> str:
        """Return the SQL expression for the version of a row, from 0 to 2^63-1."""
        if self.seed is None:
            return f"t.{quoted(VERSION)}"
        return f"(hashtextextended((t.*)::text, {self.seed}) & {MAX_INTEGER})"

    @property
    def sql_name(self) -> str:
        """Return the table's quoted name with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def _is_text(self, column: Column) -> bool:
        return self.rendered and column.is_temporal and column.readable

    def complete(self, items: Iterable[dict[str, Any]]) -> None:
        """Complete the values of items that were selected as text."""
        for name, complete in self._completions:
            for item in items:
                text = item.get(name)
                if text is not None:
                    item[name] = complete(text)

    def select(self, id: str, extra: tuple[Filter, ...] = (), *, lock: bool = False) -> Statement:
        """Select one item and its "_version"; with `lock`, no other transaction can change it until this one ends."""

        def write() -> str:
            ending = " FOR NO KEY UPDATE" if lock else ""
            return f"SELECT {self._item()} FROM {self.sql_name} AS t{self._where_item(extra, 2)}{ending}"

        text: str = self._text(("select", filtering.shape(extra), lock), write)
        return _statement(text, id, *filtering.arguments(extra))

    def select_all(self, ids: Collection[str], extra: tuple[Filter, ...] = ()) -> Statement:
        """Select the existing items with these ids, in any order, each with its "_version"."""

        def write() -> str:
            key = self._key_column
            listed = f"t.{quoted(key.name)} = ANY({parameter(1, f'{key.query_type}[]')})"
            where = _where([listed, *filtering.conditions(extra, 2)])
            return f"SELECT {self._item()} FROM {self.sql_name} AS t{where}"

        text: str = self._text(("select_all", filtering.shape(extra)), write)
        return _statement(text, list(ids), *filtering.arguments(extra))

    def page(
        self,
        query: Query,
        position: tuple[Any, ...] | None = None,
        extra: tuple[Filter, ...] = (),
    ) -> Page:
        """Select one page: the rows after `position`, or before it if the query has `before`."""
        filters = (*query.filters, *extra)
        nulls = None if position is None else tuple([value is None for value in position])
        sort = tuple([(sort.field, sort.descending) for sort in query.sort])
        backwards = query.before is not None
        shape = (sort, filtering.shape(filters), query.fields, query.q is None, nulls, backwards, query.limit)
        text, *reading = self._text(("page", *shape), lambda: self._page(query, filters, nulls))
        values = () if position is None else [_argument(value) for value in position if value is not None]
        return Page(text, (*filtering.arguments(filters, query.q), *values), *reading)

    def _page(
        self, query: Query, filters: tuple[Filter, ...], nulls: tuple[bool, ...] | None
    ) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
        backwards = query.before is not None
        keys = ordering.keys(query, self._key_column, filtering.RANK)
        shown = self._shown(query.fields)
        names = tuple(column.field for column in shown)
        # A cursor has the exact text of a timestamp, which Python may not be able to represent.
        hidden = [key for key in keys if key.name not in names or (key.is_text and not self.rendered)]
        indexes = tuple(
            len(names) + hidden.index(key) if key in hidden else names.index(key.name or "") for key in keys
        )
        selected = ", ".join((*self._selection(shown), *(key.selected for key in hidden)))
        order = ", ".join(key.order(backwards) for key in keys)
        # The limit is part of the text, because PostgreSQL would plan the statement each time if it were an argument.
        ending = f" ORDER BY {order} LIMIT {query.limit + 1}"
        conditions = filtering.conditions(filters, 1, query.q)
        branches: list[list[str]] = [[]]
        if nulls is not None:
            number = 1 + len(filtering.arguments(filters, query.q))
            branches = [[condition] for condition in ordering.after(keys, _values(keys, nulls, number), backwards)]
        texts = [
            f"SELECT {selected} FROM {self.sql_name} AS t{_where(conditions + branch)}{ending}" for branch in branches
        ]
        if len(texts) == 1:
            return texts[0], names, indexes
        # PostgreSQL runs the parts one after the other, and only those needed to fill the page: parts with a LIMIT are
        # never run in parallel. Ordering the result again would make it run all of them.
        return " UNION ALL ".join(f"({text})" for text in texts) + f" LIMIT {query.limit + 1}", names, indexes

    def stream(self, query: Query, extra: tuple[Filter, ...] = ()) -> Page:
        """Select all items that match a query, up to its limit, in its order."""
        filters = (*query.filters, *extra)
        arguments = filtering.arguments(filters, query.q)

        def write() -> tuple[str, tuple[str, ...]]:
            shown = self._shown(query.fields)
            selected = ", ".join(self._selection(shown))
            order = ", ".join(key.order(False) for key in ordering.keys(query, self._key_column, filtering.RANK))
            where = _where(filtering.conditions(filters, 1, query.q))
            limit = parameter(len(arguments) + 1, "bigint")
            text = f"SELECT {selected} FROM {self.sql_name} AS t{where} ORDER BY {order} LIMIT {limit}"
            return text, tuple(column.field for column in shown)

        sort = tuple([(sort.field, sort.descending) for sort in query.sort])
        shape = (sort, filtering.shape(filters), query.fields, query.q is None)
        text, names = self._text(("stream", *shape), write)
        return Page(text, (*arguments, query.limit), names)

    def count(self, query: Query, extra: tuple[Filter, ...] = ()) -> Statement:
        """Count the items that match a query, on all pages."""
        return self._matching("SELECT count(*)", query, extra)

    def estimate(self, query: Query) -> Statement:
        """Let the planner estimate the number of items that match a query; `estimated` reads its result."""
        return self._matching("EXPLAIN (FORMAT JSON) SELECT", query, ())

    def _matching(self, start: str, query: Query, extra: tuple[Filter, ...]) -> Statement:
        filters = (*query.filters, *extra)

        def write() -> str:
            return f"{start} FROM {self.sql_name} AS t{_where(filtering.conditions(filters, 1, query.q))}"

        text: str = self._text((start, filtering.shape(filters), query.q is None), write)
        return _statement(text, *filtering.arguments(filters, query.q))

    def insert(self, id: str | None, version: int, values: Mapping[str, Any]) -> Statement:
        """Insert one row and return its item with "_version"; without an id, the table generates it."""
        if self._key_column.name in values:
            id = None
        first = [] if id is None else [id]
        versions = [version] if self.seed is None else []

        def write() -> str:
            fixed = self._managed(parameter(1, self._key_column.query_type), f"${len(first) + 1}::bigint")
            if id is None:
                del fixed[self._key_column.name]
            casts = self._casts(values, len(first) + len(versions) + 1)
            source = f"VALUES ({', '.join((*fixed.values(), *casts.values()))})"
            return (
                self._insertion((*fixed, *values), source) if fixed or values else self._insertion((), "DEFAULT VALUES")
            )

        text: str = self._text(("insert", id is None, *values), write)
        return _statement(text, *first, *versions, *values.values())

    def _managed(self, id: str, version: str) -> dict[str, str]:
        """Return the columns that the service sets in a new row, and their values as SQL."""
        values = {self._key_column.name: id}
        values |= {column.name: NOW for column in (CREATED_AT, UPDATED_AT) if column in self.columns}
        return values | ({VERSION: version} if self.seed is None else {})

    def _insertion(self, names: Collection[str], source: str) -> str:
        columns = f" ({', '.join(map(quoted, names))})" if names else ""
        return f"INSERT INTO {self.sql_name} AS t{columns} {source} RETURNING {self._item()}"

    def update(
        self,
        id: str,
        version: int,
        changes: Mapping[str, Any],
        extra: tuple[Filter, ...] = (),
        *,
        versions: Collection[int] | None = None,
    ) -> Statement:
        """Update one row and return its item with "_version"; no row if it is missing or has none of `versions`.

        The version and `updated_at` change only if a value does.
        """
        own = [version] if self.seed is None else []
        first = 2 + len(own)

        def write() -> str:
            casts = self._casts(changes, first)
            changed = " OR ".join(self._differs(name, value) for name, value in casts.items()) or "false"
            sets = [f"{quoted(name)} = {value}" for name, value in casts.items()]
            if own:
                sets.append(f'"_version" = CASE WHEN {changed} THEN $2::bigint ELSE t."_version" END')
            if UPDATED_AT in self.columns:
                later = f'greatest({NOW}, t."updated_at")'
                sets.append(f'"updated_at" = CASE WHEN {changed} THEN {later} ELSE t."updated_at" END')
            where = self._where_item(extra, first + len(changes), versions)
            if not sets:
                return f"SELECT {self._item()} FROM {self.sql_name} AS t{where} FOR NO KEY UPDATE"
            return f"UPDATE {self.sql_name} AS t SET {', '.join(sets)}{where} RETURNING {self._item()}"

        text: str = self._text(("update", tuple(changes), filtering.shape(extra), versions is None), write)
        return _statement(text, id, *own, *changes.values(), *filtering.arguments(extra), *_version_arguments(versions))

    def delete(self, id: str, extra: tuple[Filter, ...] = (), *, versions: Collection[int] | None = None) -> Statement:
        """Delete one row and return true; no row if it is missing or has none of `versions`."""

        def write() -> str:
            return f"DELETE FROM {self.sql_name} AS t{self._where_item(extra, 2, versions)} RETURNING true"

        text: str = self._text(("delete", filtering.shape(extra), versions is None), write)
        return _statement(text, id, *filtering.arguments(extra), *_version_arguments(versions))

    def _where_item(self, extra: tuple[Filter, ...], number: int, versions: Collection[int] | None = None) -> str:
        """Return the WHERE clause for one row: its id, the `extra` filters from argument `number` on, its version."""
        key = self._key_column
        identified = f"t.{quoted(key.name)} = {parameter(1, key.query_type)}"
        conditions = [identified, *filtering.conditions(extra, number)]
        if versions is not None:
            conditions.append(f"{self._version} = ANY(${number + len(filtering.arguments(extra))}::bigint[])")
        return _where(conditions)

    def _casts(self, names: Collection[str], first: int) -> dict[str, str]:
        return {name: parameter(number, self._by_column[name].base_type) for number, name in enumerate(names, first)}

    def _differs(self, name: str, value: str) -> str:
        """Return the condition that a value of a row differs from one to write, as clients see it."""
        column = self._by_column[name]
        current = f"t.{quoted(name)}::{column.base_type}"
        if column.is_text and not is_custom(column.base_type):
            return f'{current} COLLATE "C" IS DISTINCT FROM {value}'
        if column.base_type in _EQUAL_IF_SHOWN_ALIKE:
            return f"{current} IS DISTINCT FROM {value}"
        # The scale of a column such as `numeric(10,2)`.
        written = f"({value})::{column.type}" if column.has_scale else value
        # *<> compares the binary images: 1.0 equals 1.00, but clients see a difference. It supports every type.
        return f"ROW({current})::record *<> ROW({written})::record"

    def _item(self) -> str:
        return ", ".join((*self._selection(self._shown(None)), f"{self._version} AS {quoted(VERSION)}"))

    def _selection(self, columns: Iterable[Column]) -> Iterator[str]:
        """Yield the SELECT list entry of each column."""
        for column in columns:
            yield f"{self._template(column).format(f't.{quoted(column.name)}')} AS {quoted(column.field)}"

    def _template(self, column: Column) -> str:
        """Return the form in which a value is selected."""
        if column.places:
            # The sum has the places of the number that has more.
            return f"({{}} + 0.{'0' * column.places})::text"
        if column.is_shown_as_text or is_custom(column.base_type):
            return "({})::text[]" if column.is_list else _TEXT
        return _TEXT if self._is_text(column) else _AS_TEXT.get(column.base_type, "{}")

    def _shown(self, wanted: frozenset[str] | None) -> list[Column]:
        readable = [column for column in self.columns if column.readable]
        return readable if wanted is None else [c for c in readable if c.field == "id" or c.field in wanted]

    def _text(self, shape: tuple[Any, ...], write: Callable[[], Any]) -> Any:
        """Return the cached text of a statement of this shape, or generate it by `write`."""
        text = self._texts.get(shape)
        if text is None:
            if len(self._texts) >= _CACHED:
                self._texts.clear()
            text = self._texts[shape] = write()
        return text


def estimated(plan: Any) -> int:
    """Return the number of rows in a plan from `Table.estimate`, which is JSON text or already decoded."""
    decoded = json.loads(plan) if isinstance(plan, str) else plan
    return int(decoded[0]["Plan"]["Plan Rows"])


def _statement(text: str, *args: Any) -> Statement:
    return Statement(text, args)


def _argument(value: Any) -> Any:
    """Return a value of a position, as text if that is how its parameter is sent."""
    return str(value) if isinstance(value, date | time) else value


def _where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(conditions) if conditions else ""


def _version_arguments(versions: Collection[int] | None) -> tuple[list[int], ...]:
    return () if versions is None else (list(versions),)


def _values(keys: Sequence[ordering.Key], nulls: tuple[bool, ...], number: int) -> list[str | None]:
    """Return the values of a position as SQL; `number` is that of their first argument."""
    values: list[str | None] = []
    for key, null in zip(keys, nulls, strict=True):
        values.append(None if null else key.parameter(number))
        number += not null
    return values
