"""`TableResource`: actions on one table, each a single statement wherever possible."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import repeat
from typing import Any, ClassVar

import asyncpg

from pegboard import errors, rendering
from pegboard.api import references, versions
from pegboard.api.constraint_errors import Conflicts
from pegboard.api.context import Context
from pegboard.api.resource import Page, Representation, Resource, Services, list_pages, page
from pegboard.auth.clients import Client, sufficient_grants
from pegboard.errors import ApiError
from pegboard.query import mapping, sql
from pegboard.query.existing import Existing
from pegboard.query.query import Filter, Query, Rules
from pegboard.schema.ddl import OWNED_BY, OWNER, VERSION, Index, TableSpec, Unique, constraint_columns
from pegboard.schema.fields import Reference
from pegboard.schema.loading import default_of
from pegboard.uuid7 import uuid7

_READ_METHODS = ("list", "stream", "retrieve", "dump", "plain", "represent", "represent_all", "represent_lines")
_MIN_ESTIMATE = 10_000
_NO_VALUES: Mapping[str, Any] = {}
_BATCH_SIZE = 250
"""The number of rows fetched at a time when the entire collection is read."""


class TableResource(Resource):
    """Store items in a PostgreSQL table created from the schema; a subclass needs to set only `schema` and `verbs`.

    Every field except `Method`, `Function` and `Constant` is stored. To extend an action, override it and call
    `super()`.
    """

    checks_version: ClassVar[bool] = True
    unique: ClassVar[tuple[Unique, ...]] = ()
    """Unique constraints, such as `Unique("email", ignore_case=True)`; the 409 for a conflict points at the field."""
    indexes: ClassVar[tuple[str, ...]] = ()
    """The sort orders to index, written as for `sort`: `"name"`, `"-created_at,name"`."""
    search: ClassVar[tuple[str, ...]] = ()
    """The text fields that `q` searches; if there are none, `q` is not available."""
    owned: ClassVar[bool] = False
    """Whether each item belongs to the client that created it; others can access it only with the grant `NAME:any`."""
    table: ClassVar[str | Existing | None] = None
    """An existing table, which is neither created nor changed: `"SCHEMA.TABLE"`, or `Existing` if it has other columns
    than the service's own tables."""
    conflicts: ClassVar[Mapping[str, type[ApiError]]] = {}
    """The errors for violations of the author's own constraints, by the constraint's name."""

    def __init__(self, name: str, services: Services) -> None:
        super().__init__(name, services)
        spec = self.spec(name)
        self._existing = existing = self.existing()
        columns = mapping.columns(self._dumper, existing)
        self._generates_ids = existing is None or existing.type == "uuid"
        seed = int(services.secret.hex()[:15], 16) if existing and VERSION in existing.lacks else None
        self._table = sql.Table(spec.schema, spec.name, (*columns, OWNED_BY) if self.owned else columns, seed)
        self._any_grants = sufficient_grants(name, "any")
        self._references = {
            attribute: (mapping.name_of(field, attribute), field.resource)
            for attribute, field, _ in mapping.stored(self._dumper)
            if isinstance(field, Reference)
        }
        self._names = {"id": "id"} | {column.name: column.field for column in columns[1:]}
        constraints = {f"{spec.name}_pkey": (existing.key,) if existing else ()} | constraint_columns(spec)
        self._conflicts = Conflicts(self.conflicts, self._names, constraints, spec.name if self.owned else None)
        self._renamed = {name: column for column, name in self._names.items() if name != column}
        self._defaults = {
            attribute: field for attribute, field, _ in mapping.stored(self._dumper) if not field.dump_only
        }
        self._write_only = frozenset(
            attribute for attribute, field, _ in mapping.stored(self._dumper) if field.load_only
        )
        unchanged = all(getattr(type(self), action) is getattr(TableResource, action) for action in _READ_METHODS)
        self._plain = unchanged and mapping.is_plain(self._dumper)

    @classmethod
    def rules(cls) -> Rules:
        """Return the rules for queries of the resource."""
        columns = mapping.columns(cls.schema(), cls.existing())
        return replace(super().rules(), columns=columns, searchable=bool(cls.search))

    @classmethod
    def existing(cls) -> Existing | None:
        """Return the declaration of an existing table that differs from the service's own, or None."""
        return cls.table if isinstance(cls.table, Existing) else None

    @classmethod
    def has_uuids(cls) -> bool:
        """Return whether the ids are UUIDs."""
        existing = cls.existing()
        return cls.parse_id is TableResource.parse_id and (existing is None or existing.type == "uuid")

    def parse_id(self, text: str) -> str | None:
        """Return the id in a URL in the form that items have it, or None if it cannot be an id (404)."""
        return super().parse_id(text) if self._existing is None else self._existing.parse_id(text)

    @classmethod
    def spec(cls, name: str) -> TableSpec:
        """Return the declared table; raises `ValueError` if it is impossible."""
        own = mapping.table_columns(cls.schema())
        indexes = tuple(Index(tuple(part.strip() for part in index.split(","))) for index in cls.indexes)
        existing = cls.existing()
        qualified_name = existing.table if existing else str(cls.table or f"{name}.{name}")
        schema, _, table = qualified_name.rpartition(".")
        return TableSpec(schema, table, own, cls.unique, indexes, cls.search, cls.owned)

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncIterator[None]:
        """Run the body in one transaction; an item retrieved there is locked until the transaction ends."""
        if context.connection is not None:
            yield
            return
        try:
            async with self.database.write.transaction() as connection:
                context.begin(connection)
                yield
        except BaseException:
            context.end(committed=False)
            raise
        context.end(committed=True)

    def _visibility(self, client: Client) -> tuple[Filter, ...]:
        """Return the filters for the items that `client` can see."""
        if not self.owned or not client.grants.isdisjoint(self._any_grants):
            return ()
        return (Filter(OWNED_BY, "eq", client.id),)

    async def list(self, context: Context) -> Page:
        """Return one page of items."""
        query = context.query
        position = query.position(self._secret, self.name)
        extra = self._visibility(context.client)
        text_instants = self._selects_text_instants(context)
        statement = self._table.page(self._with_needed_fields(query), position, extra, text_instants=text_instants)
        source = context.connection or self.database.read
        rows = await source.fetch(statement.text, *statement.args)
        total = None if query.count is None else await self._count(source, query, extra)

        def cursor(row: asyncpg.Record) -> str:
            return query.cursor(self._secret, self.name, statement.position_of(row))

        found = page(rows, query, position, cursor)
        return Page(_dicts(found.items, statement), found.next, found.prev, total)

    async def stream(self, context: Context) -> AsyncGenerator[Page, None]:
        """Yield the entire collection in parts, from one snapshot."""
        query = context.query
        async with self.database.read.snapshot() as connection:
            context.connection = connection
            if type(self).list is not TableResource.list:
                # An overridden `list` may add or omit items, so it applies to streams, too.
                async for part in list_pages(self, context, _BATCH_SIZE):
                    yield part
                return
            extra = self._visibility(context.client)
            total = None if query.count is None else await self._count(connection, query, extra)
            text_instants = self._selects_text_instants(context)
            statement = self._table.stream(self._with_needed_fields(query), extra, text_instants=text_instants)
            # Prepared each time, because a migration may make a statement cached by asyncpg fail for minutes. It has no
            # name, because behind a pooler another process may already use the same one.
            prepared = await connection.prepare(statement.text, name="")
            cursor = await prepared.cursor(*statement.args)
            while True:
                rows = await cursor.fetch(_BATCH_SIZE)
                yield Page(_dicts(rows, statement), total=total)
                if len(rows) < _BATCH_SIZE:
                    return

    def _selects_text_instants(self, context: Context) -> bool:
        """Return whether PostgreSQL may format the instants, as listed items are rendered without being loaded."""
        return context._renders and self._plain and self._existing is None

    def _with_needed_fields(self, query: Query) -> Query:
        """Return the query with all fields that the requested ones need: if some are computed, with every field."""
        return query if self._plain or query.fields is None else replace(query, fields=None)

    async def _count(self, source: Any, query: Query, extra: tuple[Filter, ...]) -> int:
        # The planner's statistics cover the items of all clients.
        if query.count == "estimated" and not extra:
            statement = self._table.estimate(query)
            total = sql.estimated(await source.fetchval(statement.text, *statement.args))
            # Small estimates are unreliable, and small counts are fast.
            if total > _MIN_ESTIMATE:
                return total
        statement = self._table.count(query, extra)
        return int(await source.fetchval(statement.text, *statement.args))

    async def retrieve(self, context: Context, identity: str) -> dict[str, Any]:
        """Return one item, locked if inside a transaction."""
        connection = context.connection
        extra = self._visibility(context.client)
        statement = self._table.select(identity, extra=extra, lock=connection is not None and context.locks)
        row = await (connection or self.database.read).fetchrow(statement.text, *statement.args)
        if row is None:
            raise errors.NotFound
        return dict(row)

    async def retrieve_all(self, context: Context, identities: Sequence[str]) -> Sequence[dict[str, Any]]:
        """Return the existing items with these ids, by one statement and without locks."""
        if type(self).retrieve is not TableResource.retrieve:
            return await super().retrieve_all(context, identities)
        statement = self._table.select_all(identities, self._visibility(context.client))
        rows = await (context.connection or self.database.read).fetch(statement.text, *statement.args)
        return [dict(row) for row in rows]

    async def hidden(self, context: Context, identities: Collection[str]) -> set[str]:
        """Return those of `identities` that no item visible to the client has, if it cannot see all items."""
        return await self.missing(context, identities) if self._visibility(context.client) else set()

    async def missing(self, context: Context, identities: Collection[str]) -> set[str]:
        """Return those of `identities` that no item visible to the client has."""
        statement = self._table.select_all(identities, self._visibility(context.client))
        rows = await (context.connection or self.database.write).fetch(statement.text, *statement.args)
        return {*identities} - {row["id"] for row in rows}

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        """Create an item; `data` may contain its id."""
        if self._hashed:
            data = await self.hashed(data)
        if self._references and references.is_set(self._references, data):
            await references.check(context, self._references, self.resources, (data,))
        values = self._new_values(context, data)
        statement = self._table.insert(data.get("id") or self._new_id(), versions.new(), values)
        return dict(await self._write(context, statement, data))

    async def create_all(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        """Create all items, or none."""
        if type(self).create is not TableResource.create:
            return await self._create_each(context, data)
        if self._hashed:
            data = [await self.hashed(item) for item in data]
        if self._references:
            await references.check(context, self._references, self.resources, data, indexed=True)
        rows = [(self._new_id(), versions.new(), self._new_values(context, item)) for item in data]
        statement = self._table.insert_many(rows)
        try:
            rows = await self._insert_all(context, statement)
        except asyncpg.IntegrityConstraintViolationError as error:
            if isinstance(error, asyncpg.ForeignKeyViolationError) and self._references:
                await references.check(
                    context, self._references, self.resources, data, indexed=True, check_missing=True
                )
            # One of the items caused the error, and the statement does not report which.
            return await self._create_each(context, data)
        return [dict(row) for row in rows]

    async def _insert_all(self, context: Context, statement: sql.Statement) -> Any:
        if context.connection is None:
            return await self.database.write.fetch(statement.text, *statement.args)
        # In a savepoint, so that the transaction can continue if the statement fails.
        async with context.connection.transaction():
            return await context.connection.fetch(statement.text, *statement.args)

    async def _create_each(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        items = []
        async with self.transaction(context):
            for index, values in enumerate(data):
                try:
                    items.append(await self.create(context, values))
                except ApiError as error:
                    raise error.within(index) from error
        return items

    async def replace(self, context: Context, identity: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an item's fields; missing ones get their defaults, except for write-only ones, which are kept."""
        values = self._values(await self.hashed(data) if self._hashed else data)
        kept = self._write_only - data.keys()
        return await self._change(context, identity, {name: values[name] for name in values if name not in kept})

    async def update(self, context: Context, identity: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Update the fields in `data`."""
        return await self._change(context, identity, await self.hashed(data) if self._hashed else data)

    async def delete(self, context: Context, identity: str) -> None:
        """Delete an item."""
        allowed = versions.required(context.conditions)
        statement = self._table.delete(identity, self._visibility(context.client), versions=allowed)
        if await self._write(context, statement) is None:
            await self._refuse(context, identity, allowed)

    async def _change(self, context: Context, identity: str, values: Mapping[str, Any]) -> dict[str, Any]:
        allowed, extra = versions.required(context.conditions), self._visibility(context.client)
        if self._existing is not None:
            values = self._existing.without_key(values, identity, self._names)
        if self._references and references.is_set(self._references, values):
            await references.check(context, self._references, self.resources, (values,))
        statement = self._table.update(identity, versions.new(), values, extra, versions=allowed)
        row = await self._write(context, statement, values)
        if row is None:
            await self._refuse(context, identity, allowed)
        return dict(row)

    async def _refuse(self, context: Context, identity: str, allowed: Collection[int] | None) -> None:
        """Raise the error for a write that matched no row: 404, or 412 if the item has changed."""
        statement = self._table.select(identity, extra=self._visibility(context.client))
        row = await (context.connection or self.database.write).fetchrow(statement.text, *statement.args)
        if row is None or allowed is None:
            raise errors.NotFound
        raise errors.PreconditionFailed(header="If-Match", headers={"ETag": f'"{versions.tag(dict(row))}"'})

    async def _write(self, context: Context, statement: sql.Statement, values: Mapping[str, Any] = _NO_VALUES) -> Any:
        """Run a statement that writes `values` to one row; of several invalid references, all are reported."""
        connection = context.connection
        several = len(self._references) > 1 and sum(values.get(name) is not None for name in self._references) > 1
        try:
            if several and connection is not None:
                # In a savepoint, so that the references can be checked if the statement fails.
                async with connection.transaction():
                    return await connection.fetchrow(statement.text, *statement.args)
            return await (connection or self.database.write).fetchrow(statement.text, *statement.args)
        except asyncpg.ForeignKeyViolationError as error:
            if several:
                await references.check(context, self._references, self.resources, (values,), check_missing=True)
            raise self._conflicts.translate(error) from error
        except asyncpg.IntegrityConstraintViolationError as error:
            raise self._conflicts.translate(error) from error

    def _new_id(self) -> str | None:
        """Return a new id, or None if the table generates it."""
        return uuid7() if self._generates_ids else None

    def _new_values(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        values = self._values(data)
        if self._existing is not None:
            values = self._existing.without_key(values, data.get("id"), self._names)
        return values | {OWNER: context.client.id} if self.owned else values

    def _values(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for every column that clients write, and for other columns that are in `data`."""
        if data.keys() == self._defaults.keys():
            return {**data}
        values = {name: data[name] if name in data else default_of(field) for name, field in self._defaults.items()}
        return values | {name: data[name] for name in data if name in self._names and name != "id"}

    def dump(self, item: Any) -> dict[str, Any]:
        """Dump an item by the schema, which has fields by attribute, while rows have them by JSON name."""
        if self._renamed:
            item = {self._renamed.get(key, key): value for key, value in item.items()}
        return super().dump(item)

    def represent(self, item: Any, query: Query) -> Representation:
        """Return an item's representation, with its version as the entity tag."""
        tag, modified = versions.tag(item), item.get("updated_at")
        if self._plain:
            shown = {**item}
            del shown[VERSION]
        else:
            shown = self.dump(item)
        if query.fields is not None:
            shown = {key: value for key, value in shown.items() if key in query.fields}
        write = rendering.dumps_rows if self._plain else rendering.dumps
        return Representation(write(shown), tag, modified)

    def represent_all(self, items: Sequence[Any], query: Query) -> bytes:
        """Return the items of a page as a JSON array."""
        return rendering.dumps_rows(self.plain(items, query)) if self._plain else super().represent_all(items, query)

    def represent_lines(self, items: Sequence[Any], query: Query) -> bytes:
        """Return items as JSON lines."""
        if self._plain:
            return b"".join([rendering.dumps_rows(item) + b"\n" for item in self.plain(items, query)])
        return super().represent_lines(items, query)

    def shown(self, query: Query) -> tuple[str, ...]:
        """Return the names of the fields in the response, in order."""
        missing = self._existing.lacks if self._existing else ()
        return tuple(name for name in super().shown(query) if name not in missing)

    def plain(self, items: Sequence[Any], query: Query) -> Sequence[Mapping[str, Any]]:
        """Return the items as plain values, reduced to the fields that the query selects."""
        if not self._plain:
            return super().plain(items, query)
        if not items or VERSION not in items[0]:
            return items
        # These items come from a write, so they have all fields; those of a page have only the selected ones.
        wanted = self.shown(query)
        return [{name: item[name] for name in wanted} for item in items]


def _dicts(rows: Sequence[Any], statement: sql.Page) -> Sequence[dict[str, Any]]:
    """Return the fields of each row, without the values that only its position needs."""
    # Faster than to ask each row for its names.
    items: list[dict[str, Any]] = list(map(dict, map(zip, repeat(statement.names), rows)))
    for name in statement.instants:
        for item in items:
            if (text := item[name]) is not None:
                item[name] = rendering.instant_from_postgres(text)
    return items
