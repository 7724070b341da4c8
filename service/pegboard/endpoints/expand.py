"""`?expand=`: referenced items, embedded in place of their ids."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import orjson

from pegboard import errors, rendering
from pegboard.api.backend import backend_of
from pegboard.api.context import Context, derive
from pegboard.api.listing import id_of
from pegboard.api.resource import Resource
from pegboard.api.serializer import Representation
from pegboard.auth.clients import Client, sufficient_grants
from pegboard.errors import ApiError, ErrorDetail
from pegboard.query import mapping
from pegboard.query.query import Query

_FULL_QUERY = Query()

Representations = Mapping[str, Mapping[str, Representation]]  # by resource and id


class Expander:
    """Embed the items that those of one resource refer to.

    Each is represented by its own resource. It is null if it does not exist: it was deleted after the referring item
    was read.
    """

    def __init__(self, resource: Resource) -> None:
        self._resources = backend_of(resource).services.resources
        self._targets = mapping.references(resource.schema())
        self._grants = {name: sufficient_grants(target, "GET") for name, target in self._targets.items()}

    def check(self, client: Client, query: Query) -> None:
        """Raise `ApiError`: 403 if the client may not read what `query` expands, 503 if its plugin is not available."""
        errors.gather(*(partial(self._check_grants, client, name) for name in query.expand))
        for name in query.expand:
            self._readable_target(name)

    async def item(self, context: Context, shown: Representation) -> Representation:
        """Return an item with the items that it refers to.

        Its entity tag is that of the item, a dot, and a digest of the embedded items: it changes with either, but
        `If-Match` compares the first part only. Its time of change is the latest of all these items.
        """
        item = orjson.loads(shown.body)
        referenced = await self._read(context, (item,))
        parts = {name: self._representation(item, name, referenced) for name in sorted(context.query.expand)}
        tags = [(name, part and part.tag) for name, part in parts.items()]
        changes = [part.modified for part in (shown, *parts.values()) if part and part.modified]
        self._embed(item, context.query, referenced)
        tag = f"{shown.tag}.{rendering.digest(rendering.dumps(tags))}"
        return Representation(rendering.dumps(item), tag, max(changes, default=None))

    async def items(self, context: Context, body: bytes) -> bytes:
        """Return a JSON array of items with the items that they refer to."""
        items = orjson.loads(body)
        referenced = await self._read(context, items)
        for item in items:
            self._embed(item, context.query, referenced)
        return rendering.dumps(items)

    async def lines(self, context: Context, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield chunks of NDJSON, with the items that theirs refer to; `chunks` is always closed."""
        async with aclosing(chunks):
            async for chunk in chunks:
                items = [orjson.loads(line) for line in chunk.splitlines()]
                referenced = await self._read(context, items)
                for item in items:
                    self._embed(item, context.query, referenced)
                yield b"".join([rendering.dumps(item) + b"\n" for item in items])

    async def _read(self, context: Context, items: Sequence[Mapping[str, Any]]) -> Representations:
        """Read the items that `items` refer to, all of one resource at once."""
        ids_of: dict[str, set[str]] = {}
        for name in context.query.expand:
            ids = {item[name] for item in items if isinstance(item.get(name), str)}
            ids_of.setdefault(self._targets[name], set()).update(ids)
        return {target: await self._represent_all(context, target, ids) for target, ids in ids_of.items()}

    async def _represent_all(self, context: Context, target: str, ids: Collection[str]) -> dict[str, Representation]:
        if not ids:
            return {}
        backend = backend_of(self._resources(target))
        items = await backend.retrieve_many(derive(context, _FULL_QUERY), sorted(ids))
        return {id_of(item): backend.serializer.represent(item, _FULL_QUERY) for item in items}

    def _representation(self, item: Mapping[str, Any], name: str, referenced: Representations) -> Representation | None:
        id = item.get(name)
        return referenced[self._targets[name]].get(id) if isinstance(id, str) else None

    def _embed(self, item: dict[str, Any], query: Query, referenced: Representations) -> None:
        for name in query.expand:
            if name not in item:
                continue
            shown = self._representation(item, name, referenced)
            item[name] = None if shown is None else orjson.Fragment(shown.body)

    def _check_grants(self, client: Client, name: str) -> None:
        if client.grants.isdisjoint(self._grants[name]) and not self._is_public(name):
            raise self._forbidden(name)

    def _is_public(self, name: str) -> bool:
        try:
            return "GET" in self._resources(self._targets[name]).public
        except ApiError:
            return False

    def _readable_target(self, name: str) -> Resource:
        try:
            resource: Resource = self._resources(self._targets[name])
        except ApiError as error:
            message = f"`{name}` cannot be expanded: {error}"
            raise error.with_details((ErrorDetail(error.code, message, parameter="expand"),)) from error
        if "GET" not in (resource.verbs or ()) or not hasattr(resource, "retrieve"):
            raise self._forbidden(name)
        return resource

    def _forbidden(self, name: str) -> ApiError:
        message = f"`{name}` cannot be expanded: the client may not read `{self._targets[name]}`."
        return errors.Forbidden(message, parameter="expand")
