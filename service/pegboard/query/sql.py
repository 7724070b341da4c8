"""The SQL statements of one table, with their arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pegboard import rendering
from pegboard.query import filtering, ordering
from pegboard.query.query import Filter, Query
from pegboard.schema.column import INTEGER_KEY, Column, arguments_as_sent, parameter, quoted
from pegboard.schema.ddl import CREATED_AT, NOW, UPDATED_AT, VERSION
from pegboard.schema.numbers import MAX_INTEGER

_CACHED = 1_000

# PostgreSQL's text output of these types is lossless, and needs no conversion.
_AS_TEXT = {"uuid": "text", INTEGER_KEY: "text", "numeric": "text", "uuid[]": "text[]", "numeric[]": "text[]"}

# PostgreSQL formats it in a fraction of the time that asyncpg takes to decode it;
# `rendering.instant_from_postgres` completes it.
_INSTANT = "timestamptz"


class Statement(NamedTuple):
    """Hold a statement and its arguments."""

    text: str
    args: tuple[Any, ...]


class Page(NamedTuple):
    """Hold the statement of one page, and how to read its rows.

    It returns one row more than the limit if there are more. A row begins with the values of the fields `names`, in
    this order; those of `instants` are text for `rendering.instant_from_postgres`. `keys` are the indexes of the values
    of its position. For a page before a cursor, the rows are in reverse order.
    """

    text: str
    args: tuple[Any, ...]
    names: tuple[str, ...]
    instants: tuple[str, ...]
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
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    seed: int | None = None
    _by_column: dict[str, Column] = field(init=False, repr=False, compare=False)
    _texts: dict[tuple[Any, ...], Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a field that would hide the version of its row."""
        object.__setattr__(self, "_by_column", {column.name: column for column in self.columns})
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
        *,
        text_instants: bool = False,
    ) -> Page:
        """Select one page: the rows after `position`, or before it if the query has `before`.

        With `text_instants`, instants are selected as text, which is faster than to decode and format them.
        """
        filters = (*query.filters, *extra)
        nulls = None if position is None else tuple([value is None for value in position])
        sort = tuple([(sort.field, sort.descending) for sort in query.sort])
        backwards = query.before is not None
        shape = (
            sort,
            filtering.shape(filters),
            query.fields,
            query.q is None,
            nulls,
            backwards,
            query.limit,
            text_instants,
        )
        text, *reading = self._text(("page", *shape), lambda: self._page(query, filters, nulls, text_instants))
        values = () if position is None else [value for value in position if value is not None]
        return Page(text, arguments_as_sent((*filtering.arguments(filters, query.q), *values)), *reading)

    def _page(
        self, query: Query, filters: tuple[Filter, ...], nulls: tuple[bool, ...] | None, text_instants: bool
    ) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
        backwards = query.before is not None
        keys = ordering.keys(query, self._key_column, filtering.RANK)
        shown = self._shown(query.fields)
        names, instants = _names(shown, text_instants)
        # A position consists of values, not of their text.
        hidden = [key for key in keys if key.name not in names or key.name in instants]
        indexes = tuple(
            len(names) + hidden.index(key) if key in hidden else names.index(key.name or "") for key in keys
        )
        selected = ", ".join(
            (*_selection(shown, text_instants), *(_as_text(key.expression, key.type) for key in hidden))
        )
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
            return texts[0], names, instants, indexes
        # PostgreSQL runs the parts one after the other, and only those needed to fill the page: parts with a LIMIT are
        # never run in parallel. Ordering the result again would make it run all of them.
        return " UNION ALL ".join(f"({text})" for text in texts) + f" LIMIT {query.limit + 1}", names, instants, indexes

    def stream(self, query: Query, extra: tuple[Filter, ...] = (), *, text_instants: bool = False) -> Page:
        """Select all items that match a query, up to its limit, in its order; `text_instants` as for a page."""
        filters = (*query.filters, *extra)
        arguments = filtering.arguments(filters, query.q)

        def write() -> tuple[str, tuple[str, ...], tuple[str, ...]]:
            shown = self._shown(query.fields)
            selected = ", ".join(_selection(shown, text_instants))
            order = ", ".join(key.order(False) for key in ordering.keys(query, self._key_column, filtering.RANK))
            where = _where(filtering.conditions(filters, 1, query.q))
            limit = parameter(len(arguments) + 1, "bigint")
            text = f"SELECT {selected} FROM {self.sql_name} AS t{where} ORDER BY {order} LIMIT {limit}"
            return text, *_names(shown, text_instants)

        sort = tuple([(sort.field, sort.descending) for sort in query.sort])
        shape = (sort, filtering.shape(filters), query.fields, query.q is None, text_instants)
        text, names, instants = self._text(("stream", *shape), write)
        return Page(text, arguments_as_sent((*arguments, query.limit)), names, instants)

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

    def insert_many(self, rows: Sequence[tuple[str | None, int, Mapping[str, Any]]]) -> Statement:
        """Insert a row for each (id, version, values), and return the items in the same order.

        A column that only some of the rows contain is null in the others. Either all rows have an id, or none has.
        """
        names = tuple(dict.fromkeys(name for _, _, values in rows for name in values))
        key = self._key_column.name
        with_ids = key not in names and all(id is not None for id, _, _ in rows)

        def write() -> str:
            fixed = self._managed(f"r.{quoted(key)}", f"r.{quoted(VERSION)}")
            if not with_ids:
                del fixed[key]
            types = {key: self._key_column.base_type, VERSION: "bigint"}
            types |= {name: self._by_column[name].base_type for name in names}
            record = ", ".join(f"{quoted(name)} {type_of}" for name, type_of in types.items())
            selected = ", ".join((*fixed.values(), *(f"r.{quoted(name)}" for name in names)))
            source = f"SELECT {selected} FROM json_to_recordset($1::text::json) AS r({record})"
            return self._insertion((*fixed, *names), source)

        records = [{key: id, VERSION: version, **values} for id, version, values in rows]
        text: str = self._text(("insert_many", with_ids, *names), write)
        return Statement(text, (rendering.dumps(records).decode(),))

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
            now = ", ".join(f"t.{quoted(name)}::{self._by_column[name].base_type}" for name in changes)
            # *<> compares the binary images: 1.0 equals 1.00, but clients see a difference. It supports every type.
            written = ", ".join(self._as_stored(name, value) for name, value in casts.items())
            changed = f"ROW({now})::record *<> ROW({written})::record" if changes else "false"
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

    def _as_stored(self, name: str, value: str) -> str:
        """Return a value as SQL, with the scale of its column if that has one, such as `numeric(10,2)`."""
        column = self._by_column[name]
        return f"({value})::{column.type}" if column.has_scale else value

    def _item(self) -> str:
        return ", ".join((*_selection(self._shown(None)), f"{self._version} AS {quoted(VERSION)}"))

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
    return Statement(text, arguments_as_sent(args))


def _where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(conditions) if conditions else ""


def _version_arguments(versions: Collection[int] | None) -> tuple[list[int], ...]:
    return () if versions is None else (list(versions),)


def _names(columns: Sequence[Column], text_instants: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the columns, and of those among them that are instants selected as text."""
    return (
        tuple(column.field for column in columns),
        tuple(column.field for column in columns if text_instants and column.base_type == _INSTANT),
    )


def _selection(columns: Iterable[Column], text_instants: bool = False) -> Iterator[str]:
    """Yield the SELECT list entry of each column; `text_instants` as for a page."""
    for column in columns:
        value = f"t.{quoted(column.name)}"
        is_text_instant = text_instants and column.base_type == _INSTANT
        expression = f"({value})::text" if is_text_instant else _as_text(value, column.base_type)
        yield f"{expression} AS {quoted(column.field)}"


def _as_text(expression: str, type_of: str) -> str:
    as_text = _AS_TEXT.get(type_of)
    return expression if as_text is None else f"({expression})::{as_text}"


def _values(keys: Sequence[ordering.Key], nulls: tuple[bool, ...], number: int) -> list[str | None]:
    """Return the values of a position as SQL; `number` is that of their first argument."""
    values: list[str | None] = []
    for key, null in zip(keys, nulls, strict=True):
        values.append(None if null else parameter(number, key.type))
        number += not null
    return values
