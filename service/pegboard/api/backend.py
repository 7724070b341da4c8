"""Backends: what the service calls on a resource besides the actions and hooks of its author."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pegboard import errors
from pegboard.api import listing
from pegboard.api.changes import BackgroundTasks
from pegboard.api.context import Context
from pegboard.api.page import Page, page
from pegboard.api.serializer import ItemSerializer
from pegboard.auth.passwords import Hash, Passwords, prepare
from pegboard.postgres.share import Shares
from pegboard.query.query import Query, cursor_to, requested_position
from pegboard.schema.fields import Password
from pegboard.schema.schema import Schema


@dataclass(frozen=True, slots=True)
class Services:
    """Hold what the service provides to every resource.

    `database` is the plugin's share of the connection pools. `secret` signs cursors and is the same in all workers.
    `resources` returns the resource served under a name, and raises `ApiError` 503 if there is none or before all
    resources are created. `storage` is the name of the PostgreSQL schema, `settings` are those of the
    resource's own plugin.
    """

    database: Shares
    secret: bytes
    resources: Callable[[str], Any]
    passwords: Passwords
    background_tasks: BackgroundTasks
    storage: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Backend:
    """Serve a resource that has its own data source; `resource` has the author's actions."""

    accepts_arrays = False

    def __init__(self, resource: Any, services: Services, serializer: ItemSerializer) -> None:
        self.resource = resource
        self.services = services
        self.serializer = serializer
        self.secrets = password_fields(serializer.schema)

    async def hash_passwords(self, data: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
        """Return `data` with the passwords in the fields `names` replaced by their hashes."""
        hashes = {
            name: await self.services.passwords.hash(prepare(data[name]))
            for name in names
            if data.get(name) is not None and not isinstance(data[name], Hash)
        }
        return {**data, **hashes} if hashes else data

    async def create_many(self, context: Context, data: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Create all items, or none."""
        raise NotImplementedError

    async def retrieve_many(self, context: Context, ids: Sequence[str]) -> Sequence[Any]:
        """Return the existing items with these ids, to expand references to them."""
        items = []
        for id in ids:
            try:
                items.append(await self.resource.retrieve(context, id))
            except errors.NotFound:
                continue
        return items

    async def hidden_ids(self, context: Context, ids: Collection[str]) -> set[str]:
        """Return the ids of items that are hidden from the client, which therefore cannot refer to them."""
        return set()

    def stream(self, context: Context) -> AsyncGenerator[Page, None]:
        """Yield the entire collection in parts, the first of them with the count if it was requested."""
        return self.list_pages(context, context.query.limit)

    async def list_pages(self, context: Context, page_size: int) -> AsyncGenerator[Page, None]:
        """Yield the pages that the action `list` returns, of at most `page_size` items, up to the query's limit."""
        query = context.query
        left = query.limit
        while True:
            context.query = replace(query, limit=min(left, page_size))
            listed = await self.resource.list(context)
            part = listed if isinstance(listed, Page) else self.paginate(list(listed), context.query)
            yield replace(part, items=part.items[:left])
            left -= len(part.items)
            if not part.next or left <= 0:
                return
            query = replace(query, after=part.next, count=None)

    def paginate(self, items: Sequence[Any], query: Query) -> Page:
        """Return the page that `query` requests of `items`, which must be all of them."""
        secret, name = self.services.secret, self.resource.name
        matching = listing.matching(items, query)
        position = requested_position(query, secret, name)
        remaining = matching if position is None else listing.continue_from(matching, query, position)
        if query.before is not None:
            remaining.reverse()

        def cursor(item: Any) -> str:
            return cursor_to(query, secret, name, listing.position_of(item, query))

        return replace(page(remaining, query, position, cursor), total=len(matching) if query.count else None)


def password_fields(schema: Schema) -> tuple[str, ...]:
    """Return the attributes of the fields that hold passwords."""
    return tuple(f.attribute or name for name, f in schema.fields.items() if isinstance(f, Password))


def backend_of(resource: Any) -> Any:
    """Return the backend of a resource."""
    return resource._pegboard
