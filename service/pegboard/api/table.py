"""`TableResource`: a resource whose items are the rows of a PostgreSQL table."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import asyncpg

from pegboard.api import declared
from pegboard.api.backend import Services
from pegboard.api.context import Context, begin, connection_of, end
from pegboard.api.page import Page
from pegboard.api.resource import Resource
from pegboard.api.table_backend import TableBackend
from pegboard.errors import ApiError
from pegboard.query.existing import ExistingTable, parse_key
from pegboard.schema.ddl import Unique


class TableResource(Resource):
    """Store items in a PostgreSQL table created from the schema; a subclass needs to set only `schema`.

    Every field except `Method`, `Function` and `Constant` is stored. To extend an action, override it and call
    `super()`.
    """

    checks_version: ClassVar[bool] = True
    unique: ClassVar[Sequence[Unique]] = ()
    """Unique constraints, such as `Unique("email", ignore_case=True)`; the 409 for a conflict points at the field."""
    indexes: ClassVar[Sequence[str]] = ()
    """The sort orders to index, written as for `sort`: `"name"`, `"-created_at,name"`."""
    search_fields: ClassVar[Sequence[str]] = ()
    """The text fields that `q` searches; if there are none, `q` is not available."""
    owned: ClassVar[bool] = False
    """Whether each item belongs to the client that created it; others can access it only with the grant `NAME:any`."""
    table: ClassVar[str | ExistingTable | None] = None
    """An existing table, which is neither created nor changed: `"SCHEMA.TABLE"`, or `ExistingTable` if it has other
    columns than the service's own tables."""
    constraint_errors: ClassVar[Mapping[str, type[ApiError]]] = {}
    """The errors for violations of the author's own constraints, by the constraint's name."""
    _pegboard: TableBackend
    _pegboard_stores_content: ClassVar[bool] = False

    def _pegboard_backend(self, services: Services) -> TableBackend:
        return TableBackend(self, services)

    def parse_id(self, text: str) -> str | None:
        """Return the id in a URL in the form that items have it, or None if it cannot be an id (404)."""
        existing = declared.existing_table(type(self))
        return super().parse_id(text) if existing is None else parse_key(existing, text)

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncGenerator[asyncpg.Connection]:
        """Run the body in one transaction, on its connection; an item retrieved there is locked until it ends."""
        current = connection_of(context)
        if current is not None:
            yield current
            return
        try:
            async with self.database.write.transaction() as connection:
                begin(context, connection)
                yield connection
        except BaseException:
            end(context, committed=False)
            raise
        end(context, committed=True)

    async def list(self, context: Context) -> Page:
        """Return one page of items."""
        return await self._pegboard.list(context)

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        """Create an item; `data` may contain its id."""
        return await self._pegboard.create(context, data)

    async def retrieve(self, context: Context, id: str) -> dict[str, Any]:
        """Return one item, locked if inside a transaction."""
        return await self._pegboard.retrieve(context, id)

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an item's fields; missing ones get their defaults, except for write-only ones, which are kept."""
        return await self._pegboard.replace(context, id, data)

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Update the fields in `data`."""
        return await self._pegboard.update(context, id, data)

    async def delete(self, context: Context, id: str) -> None:
        """Delete an item."""
        await self._pegboard.delete(context, id)

    async def dangling_ids(self, context: Context, ids: Collection[str]) -> set[str]:
        """Return those of `ids` that no item visible to the client has; references to them are refused."""
        return await self._pegboard.dangling_ids(context, ids)
