"""The statements of one table, as texts with their arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from pegboard import rendering
from pegboard.query import filtering, ordering
from pegboard.query.query import Filter, Query
from pegboard.schema.column import INTEGER_KEY, Column, parameter, quoted
from pegboard.schema.ddl import CREATED_AT, UPDATED_AT, VERSION

_NOW = "date_trunc('second', now())"
_CACHED = 1_000

# In PostgreSQL's own text of these nothing is lost, and nothing is left for us to convert.
_AS_TEXT = {"uuid": "text", INTEGER_KEY: "text", "numeric": "text", "uuid[]": "text[]", "numeric[]": "text[]"}

# PostgreSQL writes it in a fraction of the time that asyncpg takes to read it; `rendering.instant_from_postgres`
# finishes it.
_INSTANT = "timestamptz"


class Statement(NamedTuple):
    """Hold the text of a statement and its arguments."""

    text: str
    args: tuple[Any, ...]


class Page(NamedTuple):
    """Hold the statement of one page, and how to read its rows.

    There is one more than the limit, where there are as many. A row begins with the values of the fields `names`, in
    this order, those of `instants` as `rendering.instant_from_postgres` takes them; `keys` says where in it the values
    of its place are. Of a page before a cursor the last row comes first.
    """

    text: str
    args: tuple[Any, ...]
    names: tuple[str, ...]
    instants: tuple[str, ...]
    keys: tuple[int, ...] = ()

    def place(self, row: Any) -> tuple[Any, ...]:
        """Return the place of a row, for a cursor."""
        return tuple([row[index] for index in self.keys])


@dataclass(frozen=True, slots=True)
class Table:
    """Describe a table and write its statements.

    `columns` are all that statements name, in the order in which fields are shown: the id first, and `CREATED_AT` and
    `UPDATED_AT` among them where the table has them. Beyond those it has "_version", a number that each change
    replaces, and, where it can be searched, "_search". With a `seed` a digest of the row stands for the version that it
    does not have. Values to write are given by SQL column. `extra` filters stand beside those of a query: they are for
    what the client does not decide. A text is made once and kept.
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
    def _identity(self) -> Column:
        return self.columns[0]

    @property
    def _version(self) -> str:
        """Return the version of a row as SQL: from 0 to 2^63-1."""
        if self.seed is None:
            return f"t.{quoted(VERSION)}"
        return f"(hashtextextended((t.*)::text, {self.seed}) & {2**63 - 1})"

    @property
    def sql_name(self) -> str:
        """Return the table's quoted name with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def select(self, identity: str, extra: tuple[Filter, ...] = (), *, lock: bool = False) -> Statement:
        """Read one item and its "_version"; `lock` keeps others from changing it until the transaction ends."""

        def write() -> str:
            ending = " FOR NO KEY UPDATE" if lock else ""
            return f"SELECT {self._item()} FROM {self.sql_name} AS t{self._one(extra, 2)}{ending}"

        text: str = self._text(("select", filtering.shape(extra), lock), write)
        return _statement(text, identity, *filtering.arguments(extra))

    def select_all(self, identities: Collection[str], extra: tuple[Filter, ...] = ()) -> Statement:
        """Read the items of these ids that there are, in any order, each with its "_version"."""

        def write() -> str:
            key = self._identity
            listed = f"t.{quoted(key.name)} = ANY({parameter(1, f'{key.query_type}[]')})"
            where = _where([listed, *filtering.conditions(extra, 2)])
            return f"SELECT {self._item()} FROM {self.sql_name} AS t{where}"

        text: str = self._text(("select_all", filtering.shape(extra)), write)
        return _statement(text, list(identities), *filtering.arguments(extra))

    def page(
        self,
        query: Query,
        position: tuple[Any, ...] | None = None,
        extra: tuple[Filter, ...] = (),
        *,
        written: bool = False,
    ) -> Page:
        """Read one page: what follows `position`, or comes before it where the query says `before`.

        With `written` instants come as text, which is faster than to read and write them.
        """
        filters = (*query.filters, *extra)
        nulls = None if position is None else tuple([value is None for value in position])
        sort = tuple([(sort.column.field, sort.descending) for sort in query.sort])
        backwards = query.before is not None
        shape = (sort, filtering.shape(filters), query.fields, query.q is None, nulls, backwards, query.limit, written)
        text, *reading = self._text(("page", *shape), lambda: self._page(query, filters, nulls, written))
        place = () if position is None else [value for value in position if value is not None]
        return Page(text, _sent((*filtering.arguments(filters, query.q), *place)), *reading)

    def _page(
        self, query: Query, filters: tuple[Filter, ...], nulls: tuple[bool, ...] | None, written: bool
    ) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
        backwards = query.before is not None
        keys = ordering.keys(query, self._identity, filtering.RANK)
        shown = self._shown(query.fields)
        names, instants = _names(shown, written)
        # A place is made of values, not of what is written of them.
        hidden = [key for key in keys if key.name not in names or key.name in instants]
        places = tuple(len(names) + hidden.index(key) if key in hidden else names.index(key.name or "") for key in keys)
        selected = ", ".join((*_selection(shown, written), *(_as_text(key.expression, key.type) for key in hidden)))
        order = ", ".join(key.order(backwards) for key in keys)
        # The limit stands in the text: PostgreSQL would plan anew each time for one that it does not know.
        ending = f" ORDER BY {order} LIMIT {query.limit + 1}"
        conditions = filtering.conditions(filters, 1, query.q)
        branches: list[list[str]] = [[]]
        if nulls is not None:
            number = 1 + len(filtering.arguments(filters, query.q))
            branches = [[condition] for condition in ordering.beyond(keys, _values(keys, nulls, number), backwards)]
        texts = [
            f"SELECT {selected} FROM {self.sql_name} AS t{_where(conditions + branch)}{ending}" for branch in branches
        ]
        if len(texts) == 1:
            return texts[0], names, instants, places
        # PostgreSQL runs the parts one after the other, and none that is not needed to fill the page: parts that have
        # a LIMIT are never run in parallel. To order the whole once more would make it run them all.
        return " UNION ALL ".join(f"({text})" for text in texts) + f" LIMIT {query.limit + 1}", names, instants, places

    def whole(self, query: Query, extra: tuple[Filter, ...] = (), *, written: bool = False) -> Page:
        """Read all that a query finds, up to its limit, in its order; `written` as for a page."""
        filters = (*query.filters, *extra)
        found = filtering.arguments(filters, query.q)

        def write() -> tuple[str, tuple[str, ...], tuple[str, ...]]:
            shown = self._shown(query.fields)
            selected = ", ".join(_selection(shown, written))
            order = ", ".join(key.order(False) for key in ordering.keys(query, self._identity, filtering.RANK))
            where = _where(filtering.conditions(filters, 1, query.q))
            limit = parameter(len(found) + 1, "bigint")
            text = f"SELECT {selected} FROM {self.sql_name} AS t{where} ORDER BY {order} LIMIT {limit}"
            return text, *_names(shown, written)

        sort = tuple([(sort.column.field, sort.descending) for sort in query.sort])
        shape = (sort, filtering.shape(filters), query.fields, query.q is None, written)
        text, names, instants = self._text(("whole", *shape), write)
        return Page(text, _sent((*found, query.limit)), names, instants)

    def count(self, query: Query, extra: tuple[Filter, ...] = ()) -> Statement:
        """Count what a query finds on all its pages."""
        return self._found("SELECT count(*)", query, extra)

    def estimate(self, query: Query, extra: tuple[Filter, ...] = ()) -> Statement:
        """Ask the planner how much a query finds; `estimated` reads its answer."""
        return self._found("EXPLAIN (FORMAT JSON) SELECT", query, extra)

    def _found(self, start: str, query: Query, extra: tuple[Filter, ...]) -> Statement:
        filters = (*query.filters, *extra)

        def write() -> str:
            return f"{start} FROM {self.sql_name} AS t{_where(filtering.conditions(filters, 1, query.q))}"

        text: str = self._text((start, filtering.shape(filters), query.q is None), write)
        return _statement(text, *filtering.arguments(filters, query.q))

    def insert(self, identity: str | None, version: int, values: Mapping[str, Any]) -> Statement:
        """Make one row and give its item with "_version"; without an identity the row gets it from its table."""
        if self._identity.name in values:
            identity = None
        first = [] if identity is None else [identity]
        versions = [version] if self.seed is None else []

        def write() -> str:
            fixed = self._fixed(parameter(1, self._identity.query_type), f"${len(first) + 1}::bigint")
            if identity is None:
                del fixed[self._identity.name]
            casts = self._casts(values, len(first) + len(versions) + 1)
            source = f"VALUES ({', '.join((*fixed.values(), *casts.values()))})"
            return (
                self._insertion((*fixed, *values), source) if fixed or values else self._insertion((), "DEFAULT VALUES")
            )

        text: str = self._text(("insert", identity is None, *values), write)
        return _statement(text, *first, *versions, *values.values())

    def insert_many(self, rows: Sequence[tuple[str | None, int, Mapping[str, Any]]]) -> Statement:
        """Make a row of each (id, version, values) in one statement and give the items in the same order.

        A column that only some of the rows name is null in the others; no row has an id, or all have one.
        """
        names = tuple(dict.fromkeys(name for _, _, values in rows for name in values))
        key = self._identity.name
        is_given = key not in names and all(identity is not None for identity, _, _ in rows)

        def write() -> str:
            fixed = self._fixed(f"r.{quoted(key)}", f"r.{quoted(VERSION)}")
            if not is_given:
                del fixed[key]
            types = {key: self._identity.base_type, VERSION: "bigint"}
            types |= {name: self._by_column[name].base_type for name in names}
            record = ", ".join(f"{quoted(name)} {type_of}" for name, type_of in types.items())
            selected = ", ".join((*fixed.values(), *(f"r.{quoted(name)}" for name in names)))
            source = f"SELECT {selected} FROM json_to_recordset($1::text::json) AS r({record})"
            return self._insertion((*fixed, *names), source)

        given = [{key: identity, VERSION: version, **values} for identity, version, values in rows]
        text: str = self._text(("insert_many", is_given, *names), write)
        return Statement(text, (rendering.dumps(given).decode(),))

    def _fixed(self, identity: str, version: str) -> dict[str, str]:
        """Return the columns that the service fills in a new row, and their values as SQL."""
        found = {self._identity.name: identity}
        found |= {column.name: _NOW for column in (CREATED_AT, UPDATED_AT) if column in self.columns}
        return found | ({VERSION: version} if self.seed is None else {})

    def _insertion(self, names: Collection[str], source: str) -> str:
        columns = f" ({', '.join(map(quoted, names))})" if names else ""
        return f"INSERT INTO {self.sql_name} AS t{columns} {source} RETURNING {self._item()}"

    def update(
        self,
        identity: str,
        version: int,
        changes: Mapping[str, Any],
        extra: tuple[Filter, ...] = (),
        *,
        versions: Collection[int] | None = None,
    ) -> Statement:
        """Change one row and give its item with "_version", or no row: there is none, or it has none of `versions`.

        The version and `updated_at` change only when a value does.
        """
        own = [version] if self.seed is None else []
        first = 2 + len(own)

        def write() -> str:
            casts = self._casts(changes, first)
            now = ", ".join(f"t.{quoted(name)}::{self._by_column[name].base_type}" for name in changes)
            # *<> compares what is stored: 1.0 equals 1.00, but is not what the client reads; and it takes every type.
            changed = f"ROW({now})::record *<> ROW({', '.join(casts.values())})::record" if changes else "false"
            sets = [f"{quoted(name)} = {value}" for name, value in casts.items()]
            if own:
                sets.append(f'"_version" = CASE WHEN {changed} THEN $2::bigint ELSE t."_version" END')
            if UPDATED_AT in self.columns:
                later = f'greatest({_NOW}, t."updated_at")'
                sets.append(f'"updated_at" = CASE WHEN {changed} THEN {later} ELSE t."updated_at" END')
            where = self._one(extra, first + len(changes), versions)
            if not sets:
                return f"SELECT {self._item()} FROM {self.sql_name} AS t{where} FOR NO KEY UPDATE"
            return f"UPDATE {self.sql_name} AS t SET {', '.join(sets)}{where} RETURNING {self._item()}"

        text: str = self._text(("update", tuple(changes), filtering.shape(extra), versions is None), write)
        return _statement(text, identity, *own, *changes.values(), *filtering.arguments(extra), *_given(versions))

    def delete(
        self, identity: str, extra: tuple[Filter, ...] = (), *, versions: Collection[int] | None = None
    ) -> Statement:
        """Delete one row and give true, or no row: there is none, or it has none of `versions`."""

        def write() -> str:
            return f"DELETE FROM {self.sql_name} AS t{self._one(extra, 2, versions)} RETURNING true"

        text: str = self._text(("delete", filtering.shape(extra), versions is None), write)
        return _statement(text, identity, *filtering.arguments(extra), *_given(versions))

    def _one(self, extra: tuple[Filter, ...], number: int, versions: Collection[int] | None = None) -> str:
        """Return what finds one row: its id, then what `extra` demands, from argument `number` on, then its version."""
        key = self._identity
        identified = f"t.{quoted(key.name)} = {parameter(1, key.query_type)}"
        conditions = [identified, *filtering.conditions(extra, number)]
        if versions is not None:
            conditions.append(f"{self._version} = ANY(${number + len(filtering.arguments(extra))}::bigint[])")
        return _where(conditions)

    def _casts(self, names: Collection[str], first: int) -> dict[str, str]:
        return {name: parameter(number, self._by_column[name].base_type) for number, name in enumerate(names, first)}

    def _item(self) -> str:
        return ", ".join((*_selection(self._shown(None)), f"{self._version} AS {quoted(VERSION)}"))

    def _shown(self, wanted: frozenset[str] | None) -> list[Column]:
        readable = [column for column in self.columns if column.readable]
        return readable if wanted is None else [c for c in readable if c.field == "id" or c.field in wanted]

    def _text(self, shape: tuple[Any, ...], write: Callable[[], Any]) -> Any:
        """Return what was written for a statement of this shape, and write it when it is new."""
        text = self._texts.get(shape)
        if text is None:
            if len(self._texts) >= _CACHED:
                self._texts.clear()
            text = self._texts[shape] = write()
        return text


def estimated(plan: Any) -> int:
    """Return the number of rows that the planner's answer to `Table.estimate` tells, be it text or read already."""
    read = json.loads(plan) if isinstance(plan, str) else plan
    return int(read[0]["Plan"]["Plan Rows"])


def _statement(text: str, *args: Any) -> Statement:
    return Statement(text, _sent(args))


def _sent(args: Iterable[Any]) -> tuple[Any, ...]:
    """Return arguments as `columns.parameter` wants them: days as text."""
    return tuple([_plain(value) if type(value) is date or type(value) is list else value for value in args])


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [part.isoformat() if type(part) is date else part for part in value]
    return value.isoformat()


def _where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(conditions) if conditions else ""


def _given(versions: Collection[int] | None) -> tuple[list[int], ...]:
    return () if versions is None else (list(versions),)


def _names(columns: Sequence[Column], written: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the columns, and of those among them that come as text though they are instants."""
    return (
        tuple(column.field for column in columns),
        tuple(column.field for column in columns if written and column.base_type == _INSTANT),
    )


def _selection(columns: Iterable[Column], written: bool = False) -> Iterator[str]:
    """Yield how each of the columns is selected; `written` as for a page."""
    for column in columns:
        value = f"t.{quoted(column.name)}"
        is_written = written and column.base_type == _INSTANT
        shown = f"({value})::text" if is_written else _as_text(value, column.base_type)
        yield f"{shown} AS {quoted(column.field)}"


def _as_text(expression: str, type_of: str) -> str:
    as_text = _AS_TEXT.get(type_of)
    return expression if as_text is None else f"({expression})::{as_text}"


def _values(keys: Sequence[ordering.Key], nulls: tuple[bool, ...], number: int) -> list[str | None]:
    """Return how the values of a place stand in the text, its arguments beginning with `number`."""
    values: list[str | None] = []
    for key, null in zip(keys, nulls, strict=True):
        values.append(None if null else parameter(number, key.type))
        number += not null
    return values
