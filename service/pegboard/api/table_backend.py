"""`TableBackend`: the actions on one table, each a single statement wherever possible."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any

import asyncpg

from pegboard import errors
from pegboard.api import declared, references, versions
from pegboard.api.backend import Backend, Services
from pegboard.api.constraint_errors import ConstraintErrors
from pegboard.api.context import Context, begin, connection_of, has_savepoints
from pegboard.api.page import Page, page
from pegboard.api.serializer import RowSerializer
from pegboard.auth.clients import Client, sufficient_grants
from pegboard.errors import ApiError, ErrorDetail
from pegboard.query import existing as existing_tables
from pegboard.query import mapping, sql
from pegboard.query.query import Filter, Query, cursor_to, requested_position
from pegboard.schema.ddl import OWNED_BY, OWNER, UPDATED_AT, VERSION, constraint_columns
from pegboard.schema.fields import Reference
from pegboard.schema.loading import default_of
from pegboard.uuid7 import uuid7

_MIN_ESTIMATE = 10_000
_NO_VALUES: Mapping[str, Any] = {}
_BATCH_SIZE = 250
"""The number of rows fetched at a time when the entire collection is read."""


class TableBackend(Backend):
    """Serve a resource whose items are the rows of a table."""

    serializer: RowSerializer
    accepts_arrays = True

    def __init__(self, resource: Any, services: Services) -> None:
        schema = resource.schema()
        spec = declared.table_spec(resource, services.storage)
        self._existing = existing = declared.existing_table(resource)
        without = existing.without if existing else ()
        key = existing_tables.key_column(existing) if existing else None
        columns = mapping.columns(schema, without, *([key] if key else []))
        self._names = {"id": "id"} | {column.name: column.field for column in columns[1:]}
        # The service itself sets the time of a change.
        self._changeable = self._names.keys() - {"id", UPDATED_AT.name} | ({existing.key} if existing else set())
        renamed = {field: name for name, field in self._names.items() if name != field}
        plain = mapping.is_plain(schema) and not declared.overrides(type(resource), "list", "retrieve")
        super().__init__(resource, services, RowSerializer(schema, resource.name, renamed, without, plain=plain))
        self._read, self._write_pool = services.database.read, services.database.write
        self._generates_ids = existing is None or existing.key_type == "uuid"
        self._overrides_list = declared.overrides(type(resource), "list")
        self._overrides_create = declared.overrides(type(resource), "create")
        self._overrides_retrieve = declared.overrides(type(resource), "retrieve")
        self._owned = resource.owned
        seed = int(services.secret.hex()[:15], 16) if VERSION in without else None
        self._table = sql.Table(spec.schema, spec.name, (*columns, OWNED_BY) if self._owned else columns, seed)
        self._rendered = replace(self._table, rendered=True)
        self._any_grants = sufficient_grants(resource.name, "any")
        fields = [(attribute, field) for attribute, field, _ in mapping.stored(schema)]
        self._references = {
            attribute: (mapping.name_of(field, attribute), field.resource)
            for attribute, field in fields
            if isinstance(field, Reference)
        }
        self._defaults = {attribute: field for attribute, field in fields if not field.dump_only}
        self._normalizers = [(column.name, column.normalize) for column in columns if column.normalize is not None]
        self._write_only = frozenset(attribute for attribute, field in fields if field.load_only)
        constraints = {f"{spec.name}_pkey": (existing.key,) if existing else ()} | constraint_columns(spec)
        table = spec.name if self._owned else None
        self._constraint_errors = ConstraintErrors(resource.constraint_errors, self._names, constraints, table)

    def _visibility(self, client: Client) -> tuple[Filter, ...]:
        """Return the filters for the items that `client` can see."""
        if not self._owned or not client.grants.isdisjoint(self._any_grants):
            return ()
        return (Filter(OWNED_BY, "eq", client.id),)

    async def list(self, context: Context) -> Page:
        """Return one page of items."""
        query = context.query
        secret, name = self.services.secret, self.resource.name
        position = requested_position(query, secret, name)
        extra = self._visibility(context.client)
        table = self._table_for(context)
        statement = table.page(self._with_needed_fields(query), position, extra)
        source = connection_of(context) or self._read
        rows = await source.fetch(statement.text, *statement.args)
        total = None if query.count is None else await self._count(source, query, extra)

        def cursor(row: asyncpg.Record) -> str:
            return cursor_to(query, secret, name, statement.position_of(row))

        found = page(rows, query, position, cursor)
        return Page(_items(table, found.items, statement), found.next, found.prev, total)

    async def stream(self, context: Context) -> AsyncGenerator[Page, None]:
        """Yield the entire collection in parts, from one snapshot."""
        query = context.query
        async with self._read.snapshot() as connection:
            if self._overrides_list:
                # An overridden `list` may add or omit items, so it applies to streams, too.
                begin(context, connection)
                async for part in self.list_pages(context, _BATCH_SIZE):
                    yield part
                return
            extra = self._visibility(context.client)
            total = None if query.count is None else await self._count(connection, query, extra)
            table = self._table_for(context)
            statement = table.stream(self._with_needed_fields(query), extra)
            # Prepared each time, because a migration may make a statement cached by asyncpg fail for minutes. It has no
            # name, because behind a pooler another process may already use the same one.
            prepared = await connection.prepare(statement.text, name="")
            cursor = await prepared.cursor(*statement.args)
            while True:
                rows = await cursor.fetch(_BATCH_SIZE)
                yield Page(_items(table, rows, statement), total=total)
                if len(rows) < _BATCH_SIZE:
                    return

    def _table_for(self, context: Context) -> sql.Table:
        """Return the table whose statements select what `context` needs: text, if items are only rendered."""
        return self._rendered if context._renders and self.serializer.is_plain else self._table

    def _with_needed_fields(self, query: Query) -> Query:
        """Return the query with all fields that the requested ones need: if some are computed, with every field."""
        return query if self.serializer.is_plain or query.fields is None else replace(query, fields=None)

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

    async def retrieve(self, context: Context, id: str) -> dict[str, Any]:
        """Return one item, locked if inside a transaction."""
        connection = connection_of(context)
        extra = self._visibility(context.client)
        statement = self._table.select(id, extra=extra, lock=connection is not None and context._locks)
        row = await (connection or self._read).fetchrow(statement.text, *statement.args)
        if row is None:
            raise errors.NotFound
        return dict(row)

    async def retrieve_many(self, context: Context, ids: Sequence[str]) -> Sequence[dict[str, Any]]:
        """Return the existing items with these ids, by one statement and without locks."""
        if self._overrides_retrieve:
            return await super().retrieve_many(context, ids)
        statement = self._table.select_all(ids, self._visibility(context.client))
        rows = await (connection_of(context) or self._read).fetch(statement.text, *statement.args)
        return [dict(row) for row in rows]

    async def hidden_ids(self, context: Context, ids: Collection[str]) -> set[str]:
        """Return the ids that no item visible to the client has, if it cannot see all items."""
        found: set[str] = await self.resource.dangling_ids(context, ids) if self._visibility(context.client) else set()
        return found

    async def dangling_ids(self, context: Context, ids: Collection[str]) -> set[str]:
        """Return the ids that no item visible to the client has."""
        statement = self._table.select_all([*map(str, ids)], self._visibility(context.client))
        rows = await (connection_of(context) or self._write_pool).fetch(statement.text, *statement.args)
        found = {row["id"] for row in rows}
        # What the schema loads has UUIDs, items have text.
        return {id for id in ids if str(id) not in found}

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        """Create an item; `data` may contain its id."""
        if self.secrets:
            data = await self.hash_passwords(data, self.secrets)
        if self._references and references.is_set(self._references, data):
            await references.check(context, self._references, self.services.resources, (data,))
        values = self._new_values(context, data)
        statement = self._table.insert(data.get("id") or self._new_id(), versions.new(), values)
        return dict(await self._write(context, statement, data))

    async def create_many(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        """Create all items, or none."""
        if self._overrides_create:
            return await self._create_each(context, data)
        if self._references:
            await references.check(context, self._references, self.services.resources, data, indexed=True)
        statements = [
            self._table.insert(self._new_id(), versions.new(), self._new_values(context, item)) for item in data
        ]
        try:
            rows = await self._insert_all(context, statements)
        except asyncpg.IntegrityConstraintViolationError as error:
            if isinstance(error, asyncpg.ForeignKeyViolationError) and self._references:
                await references.check(
                    context, self._references, self.services.resources, data, indexed=True, check_missing=True
                )
            # One of the items caused the error, and PostgreSQL does not report which.
            return await self._create_each(context, data)
        return [dict(row) for row in rows]

    async def _insert_all(self, context: Context, statements: Sequence[sql.Statement]) -> Sequence[Any]:
        """Run statements that insert one row each, in one batch for each text, and return the rows."""
        rows: Sequence[Any] = ()
        # In a savepoint, so that a transaction of the caller can continue if a statement fails.
        async with self.resource.transaction(context) as connection, connection.transaction():
            for text, batch in groupby(statements, itemgetter(0)):
                # Prepared each time, as asyncpg would keep it in each session, where a migration makes it stale.
                prepared = await connection.prepare(text, name="")
                rows = [*rows, *await prepared.fetchmany([statement.args for statement in batch])]
        return rows

    async def _create_each(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        items = []
        async with self.resource.transaction(context):
            for index, values in enumerate(data):
                try:
                    items.append(await self.resource.create(context, values))
                except ApiError as error:
                    raise error.within(index) from error
        return items

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an item's fields; missing ones get their defaults, except for write-only ones, which are kept."""
        values = self._values(await self.hash_passwords(data, self.secrets) if self.secrets else data)
        kept = self._write_only - data.keys()
        return await self.change(context, id, {name: values[name] for name in values if name not in kept})

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Update the fields in `data`; other keys are ignored."""
        data = await self.hash_passwords(data, self.secrets) if self.secrets else data
        return await self.change(context, id, {name: data[name] for name in data if name in self._changeable})

    async def delete(self, context: Context, id: str) -> None:
        """Delete an item."""
        allowed = versions.required(context.conditions)
        statement = self._table.delete(id, self._visibility(context.client), versions=allowed)
        if await self._write(context, statement) is None:
            await self._refuse(context, id, allowed)

    async def change(self, context: Context, id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Write the values of columns to an item."""
        allowed, extra = versions.required(context.conditions), self._visibility(context.client)
        values = self._normalized(values)
        if self._existing is not None:
            values = existing_tables.without_key(self._existing, values, id, self._names)
        if self._references and references.is_set(self._references, values):
            await references.check(context, self._references, self.services.resources, (values,))
        statement = self._table.update(id, versions.new(), values, extra, versions=allowed)
        row = await self._write(context, statement, values)
        if row is None:
            await self._refuse(context, id, allowed)
        return dict(row)

    async def _refuse(self, context: Context, id: str, allowed: Collection[int] | None) -> None:
        """Raise the error for a write that matched no row: 404, or 412 if the item has changed."""
        statement = self._table.select(id, extra=self._visibility(context.client))
        row = await (connection_of(context) or self._write_pool).fetchrow(statement.text, *statement.args)
        if row is None or allowed is None:
            raise errors.NotFound
        raise errors.PreconditionFailed(header="If-Match", headers={"ETag": f'"{versions.tag(dict(row))}"'})

    async def _write(self, context: Context, statement: sql.Statement, values: Mapping[str, Any] = _NO_VALUES) -> Any:
        """Run a statement that writes `values` to one row; of several invalid references, all are reported."""
        connection = connection_of(context)
        several = len(self._references) > 1 and sum(values.get(name) is not None for name in self._references) > 1
        try:
            if connection is not None and (several or has_savepoints(context)):
                # In a savepoint, so that the transaction can continue if the statement fails.
                async with connection.transaction():
                    return await connection.fetchrow(statement.text, *statement.args)
            return await (connection or self._write_pool).fetchrow(statement.text, *statement.args)
        except asyncpg.ForeignKeyViolationError as error:
            if several:
                resources = self.services.resources
                await references.check(context, self._references, resources, (values,), check_missing=True)
            raise self._constraint_errors.translate(error) from error
        except asyncpg.IntegrityConstraintViolationError as error:
            raise self._constraint_errors.translate(error) from error

    def _new_id(self) -> str | None:
        """Return a new id, or None if the table generates it."""
        return uuid7() if self._generates_ids else None

    def _new_values(self, context: Context, data: Mapping[str, Any]) -> Mapping[str, Any]:
        values = self._normalized(self._values(data))
        if self._existing is not None:
            values = existing_tables.without_key(self._existing, values, data.get("id"), self._names)
        return {**values, OWNER: context.client.id} if self._owned else values

    def _normalized(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return values in the form in which they are stored; raises `ApiError` 422 for one that cannot be stored."""
        changed, details = {}, []
        for name, normalize in self._normalizers:
            value = values.get(name)
            if value is None:
                continue
            try:
                normal = normalize(value)
            except ValueError as error:
                pointer = errors.pointer((self._names[name],))
                details.append(ErrorDetail(errors.InvalidValue.code, f"It cannot be stored: {error}.", pointer))
            else:
                if normal is not value:
                    changed[name] = normal
        if details:
            raise errors.InvalidValue(details=tuple(details))
        return {**values, **changed} if changed else values

    def _values(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for every column that clients write, and for other columns that are in `data`."""
        if data.keys() == self._defaults.keys():
            return {**data}
        values = {name: data[name] if name in data else default_of(field) for name, field in self._defaults.items()}
        return values | {name: data[name] for name in data if name in self._names and name != "id"}


def _items(table: sql.Table, rows: Sequence[Any], statement: sql.Page) -> Sequence[dict[str, Any]]:
    """Return the fields of each row, without the values that only its position needs."""
    # Faster than to ask each row for its names.
    items: list[dict[str, Any]] = list(map(dict, map(zip, repeat(statement.names), rows)))
    table.complete(items)
    return items
