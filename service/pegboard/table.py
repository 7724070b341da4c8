"""`TableResource`: the actions on one table, each a single statement wherever one will do."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

import asyncpg

from pegboard import database, errors, mapping, rendering, sql
from pegboard.ddl import VERSION, Index, TableSpec, Unique, constraint_columns
from pegboard.errors import ApiError, Fault
from pegboard.loading import default_of
from pegboard.query import Query, Rules
from pegboard.resource import Context, Page, Representation, Resource, Services, listed, page
from pegboard.uuid7 import uuid7

_READING = ("list", "retrieve", "dump")
_LONGEST_INDEXED = 600  # characters; PostgreSQL refuses an index entry of more than 2,704 bytes
_LITTLE = 10_000
_PART = 250
"""So many rows are fetched at once where all are read."""


class TableResource(Resource):
    """Keep the items in a PostgreSQL table made from the schema; a subclass needs `schema` and `verbs` and no more.

    Every field but `Method`, `Function` and `Constant` is stored. An action that does more than its verb says calls
    `super()`.
    """

    checks_version: ClassVar[bool] = True
    unique: ClassVar[tuple[Unique, ...]] = ()
    """What no two items may share, as `Unique("email", ignore_case=True)`; a conflict is 409 and names the field."""
    indexes: ClassVar[tuple[str, ...]] = ()
    """The sorts that are made fast, as `sort` would name them: `"name"`, `"-created_at,name"`."""
    search: ClassVar[tuple[str, ...]] = ()
    """The text fields that `q` searches; none means that there is no `q`."""

    def __init__(self, name: str, services: Services) -> None:
        super().__init__(name, services)
        spec = self.spec(name)
        self._table = sql.Table(spec.schema, spec.name, mapping.columns(self._dumper))
        self._names = {column.column: column.name for column in self._table.columns}
        self._constraints = constraint_columns(spec)
        self._defaults = {
            attribute: field for attribute, field, _ in mapping.stored(self._dumper) if not field.dump_only
        }
        unchanged = all(getattr(type(self), action) is getattr(TableResource, action) for action in _READING)
        self._plain = unchanged and mapping.is_plain(self._dumper)

    @classmethod
    def rules(cls) -> Rules:
        """Return what the queries of the resource may ask for."""
        return replace(super().rules(), searchable=bool(cls.search))

    @classmethod
    def spec(cls, name: str) -> TableSpec:
        """Return the table that is made where there are no migrations; raises `ValueError` for an impossible one."""
        own = mapping.table_columns(cls.schema())
        indexes = tuple(Index(tuple(part.strip() for part in index.split(","))) for index in cls.indexes)
        return TableSpec(name, name, own, cls.unique, indexes, cls.search)

    @classmethod
    def mistake(cls) -> str | None:
        """Return what is wrong with the declaration and how to mend it; None for a sound one."""
        for attribute, _, type_of in mapping.stored(cls.schema()):
            if type_of is None:
                return f"the field {attribute} has no column type: take one of pegboard.fields, or name it in metadata"
            if attribute in ("id", "created_at", "updated_at"):
                return f"the field {attribute} is one that the service gives every item: leave it out of the schema"
        return cls._index_mistake()

    @classmethod
    def _index_mistake(cls) -> str | None:
        """Refuse an index over text that may be too long for one: the insert itself would fail."""
        lengths = {column.name: column.max_length for column in mapping.table_columns(cls.schema()) if column.is_text}
        for name in (part.strip().removeprefix("-") for index in cls.indexes for part in index.split(",")):
            if name in lengths and not 0 < (lengths[name] or 0) <= _LONGEST_INDEXED:
                return f"an index over {name} needs validate.Length(max=...) on the field, at most {_LONGEST_INDEXED}"
        return None

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncIterator[None]:
        """Do what is inside in one transaction; an item that is retrieved there is locked until its end."""
        if context.connection is not None:
            yield
            return
        async with self.database.write.transaction() as connection:
            context.connection = connection
            try:
                yield
            finally:
                context.connection = None

    async def list(self, context: Context) -> Page:
        """Read one page."""
        query = context.query
        position = query.position(self._secret, self.name)
        statement = self._table.page(query, position)
        source = context.connection or self.database.read
        rows = await source.fetch(statement.text, *statement.args)
        total = None if query.count is None else await self._count(source, query)

        def cursor(row: asyncpg.Record) -> str:
            return query.cursor(self._secret, self.name, statement.place(tuple(row)))

        found = page(rows, query, position, cursor)
        return replace(found, items=_dicts(found.items, statement), total=total)

    async def stream(self, context: Context) -> AsyncGenerator[Page, None]:
        """Read the whole collection as it is at one moment, in parts."""
        query = context.query
        async with self.database.read.snapshot() as connection:
            if type(self).list is not TableResource.list:
                # What it leaves out or adds, it leaves out or adds here too.
                context.connection = connection
                async for part in listed(self, context, _PART):
                    yield part
                return
            total = None if query.count is None else await self._count(connection, query)
            statement = self._table.whole(query)
            # Prepared each time: of what asyncpg remembers, a migration may make something that fails for minutes.
            prepared = await connection.prepare(statement.text)
            cursor = await prepared.cursor(*statement.args)
            while True:
                rows = await cursor.fetch(_PART)
                yield Page([dict(row) for row in rows], total=total)
                if len(rows) < _PART:
                    return

    async def _count(self, source: Any, query: Query) -> int:
        if query.count == "estimated":
            statement = self._table.estimate(query)
            total = sql.estimated(await source.fetchval(statement.text, *statement.args))
            # What the planner says of little is a guess, and little is quickly counted.
            if total > _LITTLE:
                return total
        statement = self._table.count(query)
        return int(await source.fetchval(statement.text, *statement.args))

    async def retrieve(self, context: Context, identity: str) -> dict[str, Any]:
        """Read one item; inside a transaction it is locked."""
        connection = context.connection
        statement = self._table.select(identity, lock=connection is not None)
        row = await (connection or self.database.read).fetchrow(statement.text, *statement.args)
        if row is None:
            raise ApiError(errors.NOT_FOUND)
        return dict(row)

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        """Make an item; `data` may bring its id."""
        statement = self._table.insert(data.get("id") or uuid7(), _version(), self._values(data))
        return dict(await self._write(context, statement))

    async def create_all(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        """Make all items, or none."""
        if type(self).create is not TableResource.create:
            return await self._create_each(context, data)
        statement = self._table.insert_many([(uuid7(), _version(), self._values(one)) for one in data])
        try:
            rows = await (context.connection or self.database.write).fetch(statement.text, *statement.args)
        except asyncpg.IntegrityConstraintViolationError:
            if context.connection is not None:
                raise
            # One of them is at fault, and the statement does not tell which.
            return await self._create_each(context, data)
        return [dict(row) for row in rows]

    async def _create_each(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        items = []
        async with self.transaction(context):
            for index, one in enumerate(data):
                try:
                    items.append(await self.create(context, one))
                except ApiError as error:
                    raise _within(error, index) from error
        return items

    async def replace(self, context: Context, identity: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an item's fields; those that `data` lacks go back to their defaults."""
        return await self._change(context, identity, self._values(data))

    async def update(self, context: Context, identity: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Change the fields that `data` has."""
        return await self._change(context, identity, data)

    async def delete(self, context: Context, identity: str) -> None:
        """Delete an item."""
        versions = _versions(context)
        statement = self._table.delete(identity, versions=versions)
        if await self._write(context, statement) is None:
            await self._refuse(context, identity, versions)

    async def _change(self, context: Context, identity: str, values: Mapping[str, Any]) -> dict[str, Any]:
        versions = _versions(context)
        statement = self._table.update(identity, _version(), values, versions=versions)
        row = await self._write(context, statement)
        if row is None:
            await self._refuse(context, identity, versions)
        return dict(row)

    async def _refuse(self, context: Context, identity: str, versions: Collection[int] | None) -> None:
        """Raise why a write found no row: 404, or 412 for one that has changed."""
        statement = self._table.select(identity)
        row = await (context.connection or self.database.write).fetchrow(statement.text, *statement.args)
        if row is None or versions is None:
            raise ApiError(errors.NOT_FOUND)
        raise ApiError(errors.PRECONDITION_FAILED, header="If-Match", headers={"ETag": f'"{_tag(dict(row))}"'})

    async def _write(self, context: Context, statement: sql.Statement) -> Any:
        try:
            return await (context.connection or self.database.write).fetchrow(statement.text, *statement.args)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise self._explained(error) from error

    def _explained(self, error: asyncpg.IntegrityConstraintViolationError) -> Exception:
        """Return the conflict with pointers to the fields that its constraint is about."""
        known = database.translate(error)
        fields = self._constraints.get(getattr(error, "constraint_name", None) or "", ())
        if known is None or not fields:
            return known or error
        message = known.faults[0].message
        code = known.kind.code
        places = [errors.pointer((self._names[name],)) for name in fields]
        return ApiError(known.kind, faults=tuple(Fault(code, message, pointer) for pointer in places))

    def _values(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for every column that clients write, and for the others that `data` has."""
        values = {name: data[name] if name in data else default_of(field) for name, field in self._defaults.items()}
        return values | {name: data[name] for name in data if name in self._names and name != "id"}

    def represent(self, item: Any, query: Query) -> Representation:
        """Return an item as it goes out, its tag made of its version."""
        tag, modified = _tag(item), item["updated_at"]
        shown = {key: value for key, value in item.items() if key != VERSION} if self._plain else self.dump(item)
        if query.fields is not None:
            shown = {key: value for key, value in shown.items() if key in query.fields}
        write = rendering.dumps_rows if self._plain else rendering.dumps
        return Representation(write(shown), tag, modified)

    def represent_all(self, items: Sequence[Any], query: Query) -> bytes:
        """Return the items of a page as a JSON array."""
        return rendering.dumps_rows(items) if self._plain else super().represent_all(items, query)

    def represent_lines(self, items: Sequence[Any], query: Query) -> bytes:
        """Return the items of a part of the collection as lines of JSON."""
        if self._plain:
            return b"".join([rendering.dumps_rows(item) + b"\n" for item in items])
        return super().represent_lines(items, query)

    def plain(self, items: Sequence[Any], query: Query) -> Sequence[Mapping[str, Any]]:
        """Return the items' values as they go out."""
        return items if self._plain else super().plain(items, query)


def _dicts(rows: Sequence[Any], statement: sql.Page) -> Sequence[dict[str, Any]]:
    """Return the fields of each row, without the values that only its place needs."""
    if max(statement.keys) < len(statement.names):
        return [dict(row) for row in rows]
    return [dict(zip(statement.names, row, strict=False)) for row in rows]


def _version() -> int:
    """Return a version that no state of the item had before."""
    return random.getrandbits(63)


def _tag(item: Mapping[str, Any]) -> str:
    return f"{item[VERSION]:x}"


def _versions(context: Context) -> list[int] | None:
    """Return the versions of which the item must have one; None where any will do."""
    demanded = context.conditions.if_match
    if demanded is None or demanded.anything:
        return None
    return [int(tag, 16) for tag in demanded.strong if _is_version(tag)]


def _is_version(tag: str) -> bool:
    return len(tag) <= 16 and all(digit in "0123456789abcdef" for digit in tag) and tag != "" and int(tag, 16) < 2**63


def _within(error: ApiError, index: int) -> ApiError:
    """Return the same error with pointers that begin at the item `index` of an array."""
    faults = tuple(
        Fault(fault.code, fault.message, f"/{index}{fault.pointer or ''}", fault.parameter, fault.header)
        for fault in error.faults
    )
    return ApiError(error.kind, faults=faults, headers=error.headers)
