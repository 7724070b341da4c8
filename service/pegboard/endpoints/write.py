"""POST, PUT, PATCH and DELETE on a resource: load, act, respond; and the order in which errors are reported."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any
from urllib.parse import quote

import asyncpg
import orjson
from aiohttp import web
from multidict import istr

from pegboard import errors
from pegboard.api import declared
from pegboard.api.backend import backend_of
from pegboard.api.changes import Change
from pegboard.api.context import Context, begin, end, use_savepoints
from pegboard.api.listing import id_of
from pegboard.api.resource import Resource
from pegboard.api.serializer import Representation
from pegboard.api.table import TableResource
from pegboard.auth.clients import ANONYMOUS, sufficient_grants
from pegboard.endpoints import hooks
from pegboard.endpoints.expand import Expander
from pegboard.endpoints.idempotency import HEADER, Idempotency, key_of
from pegboard.endpoints.read import item_headers
from pegboard.errors import ApiError, ErrorDetail
from pegboard.http import conditions, negotiation, payload
from pegboard.http.conditions import Conditions, Outcome
from pegboard.http.negotiation import JSON, accept, header_value
from pegboard.http.protocol import Response
from pegboard.http.request import STATE, raw_query, read_body
from pegboard.query.parsing import parse_item
from pegboard.query.query import Rules
from pegboard.schema import patching
from pegboard.schema.loading import Loader

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
PATCHES = (JSON, MERGE_PATCH, JSON_PATCH)
MAX_ITEMS = 1_000
_WITH_ITEM = ("create", "replace", "update")
_ACTIONS = (*_WITH_ITEM, "delete")
_NO_TRANSACTION = nullcontext()
_PREFER = istr("Prefer")
_UNQUOTED = "!$&'()*+,;=:@"
"""The characters that a path segment may contain unquoted (RFC 3986 §3.3), besides letters, digits and `-._~`."""
_NEEDS_NO_QUOTING = re.compile(rf"[0-9A-Za-z._~{re.escape(_UNQUOTED)}-]*").fullmatch


class Writer:
    """Handle the writing methods of one resource, mounted at `path`.

    PATCH may change the fields in `writable`; None means all.
    """

    def __init__(
        self,
        resource: Resource,
        rules: Rules,
        path: str,
        idempotency: Idempotency,
        max_nesting: int,
        writable: Collection[str] | None = None,
    ) -> None:
        self._resource: Any = resource
        self._backend = backend_of(resource)
        self._serializer = self._backend.serializer
        self._secrets = self._backend.secrets
        self._hooks = hooks.wrap(resource)
        # Without hooks, the actions are called directly.
        self._actions: Any = self._hooks or resource
        self._idempotency = idempotency
        self._rules = rules
        self._path = path
        self._max_nesting = max_nesting
        self._writable = writable
        self._loader = Loader(resource.schema)
        self._create_grants = sufficient_grants(resource.name, "POST")
        self._expander = Expander(resource)
        is_table = isinstance(resource, TableResource)
        self._overridden = {name for name in _ACTIONS if is_table and declared.overrides(type(resource), name)}
        computed = is_table and not self._serializer.is_plain
        self._atomic = {*self._overridden, *(_WITH_ITEM if computed else ())}

    async def create(self, request: web.Request) -> Response:
        """Create one item, or all items of an array."""
        state = request[STATE]
        accept(request, JSON)
        negotiation.check_content(request.headers, (JSON,), "Accept")
        body = await read_body(request)
        query, key, value = errors.gather(
            lambda: parse_item(raw_query(request), self._rules),
            lambda: key_of(request.headers),
            lambda: self._check_new(payload.parse(body, self._max_nesting, exact=self._loader.exact)),
        )
        if query.expand:
            self._expander.check(state.client, query)
        context = Context(state.client, state.id, query, traceparent=state.traceparent)
        work = self._create_all if isinstance(value, list) else self._create
        if key is None:
            return await work(request, context, value)
        return await self.run_once(request, context, key, body, lambda: work(request, context, value))

    @asynccontextmanager
    async def _transaction(self, action: str, context: Context) -> AsyncIterator[None]:
        async with self._resource.transaction(context):
            if action in self._overridden:
                use_savepoints(context)
            yield

    def _scope(self, action: str, context: Context) -> AbstractAsyncContextManager[None]:
        """Return the scope of an action and its response: a transaction if code other than ours takes part in them.

        If the item cannot be represented, nothing is stored.
        """
        if action in self._atomic or context.query.expand:
            return self._transaction(action, context)
        return _NO_TRANSACTION

    async def run_once(
        self,
        request: web.Request,
        context: Context,
        key: str,
        body: bytes,
        work: Callable[[], Awaitable[Response]],
    ) -> Response:
        """Run `work` in a transaction that stores its response by an idempotency key, or replay the stored response."""
        if request[STATE].client is ANONYMOUS:
            # Clients without credentials cannot be distinguished: one could receive the response of another.
            raise errors.InvalidHeader(f"{HEADER} requires credentials.", header=HEADER)
        if context.query.expand:
            # A stored response is replayed only to a request that expands the same references, and so may read them.
            body += b"\n" + ",".join(context.query.expand).encode()

        async def within(connection: asyncpg.Connection) -> Response:
            begin(context, connection)
            return await work()

        response = await self._idempotency.run_once(request, key, body, within)
        end(context, committed=True)
        return response

    async def _create(self, request: web.Request, context: Context, value: dict[str, Any]) -> Response:
        return await self._create_loaded(request, context, self._loader.create(value))

    async def _create_loaded(self, request: web.Request, context: Context, data: Mapping[str, Any]) -> Response:
        data = await self._hashed(data)
        async with self._scope("create", context):
            item = await self._actions.create(context, data)
            return await self.item_response(request, item, context, created=True)

    def _check_new(self, value: Any) -> Any:
        """Return `value`, which must be an object, or an array if the resource accepts one."""
        if not isinstance(value, list):
            return _object(value)
        if not self._backend.accepts_arrays:
            raise errors.InvalidBody("Send one JSON object; this resource does not accept arrays.", pointer="")
        return value

    async def _create_all(self, request: web.Request, context: Context, values: list[Any]) -> Response:
        if not values:
            raise errors.TooShort("Send at least one item.", pointer="")
        if len(values) > MAX_ITEMS:
            raise errors.BodyTooLarge(f"Send at most {MAX_ITEMS} items at once.", pointer="")
        loads = [lambda index=index, value=value: self._load_item(index, value) for index, value in enumerate(values)]
        data = [await self._hashed(item) for item in errors.gather(*loads)] if self._secrets else errors.gather(*loads)
        async with self._scope("create", context):
            items = await (self._hooks or self._backend).create_many(context, data)
            if wants_minimal(request):
                return Response(201, {"Preference-Applied": "return=minimal"})
            body = self._serializer.page(items, context.query)
            if context.query.expand:
                body = await self._expander.items(context, body)
        return Response(201, {"Content-Type": JSON}, b'{"items":' + body + b"}")

    def _load_item(self, index: int, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise errors.WrongType("Not a valid object.", pointer=f"/{index}")
        return self._loader.create(value, (index,))

    async def replace(self, request: web.Request) -> Response:
        """Replace an item, or create it if the resource declares that PUT does."""
        id = request[STATE].item_id
        _, body, context = await self._receive(request, (JSON,), "Accept")

        def load() -> dict[str, Any]:
            return self._loader.replace(body, id)

        try:
            return await self._write(request, context, "replace", load)
        except errors.NotFound:
            if not self._may_create(request, context):
                raise
        value = self._loader.replace(body, id, new=True) | {"id": id}
        try:
            return await self._create_loaded(request, context, value)
        except (errors.Conflict, errors.NotFound) as conflict:
            # The item may have been created meanwhile.
            try:
                return await self._write(request, context, "replace", load)
            except errors.NotFound:
                # The id may belong to an item that the client may not see: then it is not found again.
                raise conflict from None

    def _may_create(self, request: web.Request, context: Context) -> bool:
        preconditions = context.conditions
        return (
            self._resource.creates_by_put
            and preconditions.if_match is None
            and not request[STATE].client.grants.isdisjoint(self._create_grants)
        )

    async def update(self, request: web.Request) -> Response:
        """Change the fields that a patch names."""
        id = request[STATE].item_id
        kind, value, context = await self._receive(request, PATCHES, "Accept-Patch")
        if self._writable is not None:
            targets = patching.targets(value) if kind == JSON_PATCH else [(name, name) for name in value]
            _check_writable(targets, self._writable)
        if kind == JSON_PATCH:
            return await self._patch_item(request, context, lambda current: patching.apply(current, value))
        if self._loader.needs_item(value):
            return await self._patch_item(request, context, lambda current: _merge(current, value))
        return await self._write(request, context, "update", lambda: self._loader.update(value, id))

    async def delete(self, request: web.Request) -> Response:
        """Delete an item."""
        state = request[STATE]
        query, preconditions = errors.gather(
            lambda: parse_item(raw_query(request), self._rules), lambda: conditions.read(request.headers)
        )
        context = Context(state.client, state.id, query, preconditions, traceparent=state.traceparent)
        return await self._write(request, context, "delete", dict)

    async def _receive(self, request: web.Request, types: tuple[str, ...], header: str) -> tuple[str, Any, Context]:
        """Return the media type and the value of the body, and the context, of a write to an item."""
        state = request[STATE]
        accept(request, JSON)
        kind = negotiation.check_content(request.headers, types, header)
        check_shape = patching.operations if kind == JSON_PATCH else _object
        body = await read_body(request)
        query, preconditions, value = errors.gather(
            lambda: parse_item(raw_query(request), self._rules),
            lambda: conditions.read(request.headers),
            lambda: check_shape(payload.parse(body, self._max_nesting, exact=self._loader.exact)),
        )
        if query.expand:
            self._expander.check(state.client, query)
        return kind, value, Context(state.client, state.id, query, preconditions, traceparent=state.traceparent)

    async def _write(
        self, request: web.Request, context: Context, action: str, load: Callable[[], Mapping[str, Any]]
    ) -> Response:
        """Run one action that writes to the item in the path.

        If its statement can contain the conditions, that is all; else they are first checked against the item, in the
        same transaction. Errors of `load` are raised only after a 404, 412 or 428: that is the order of errors.
        """
        id, preconditions = request[STATE].item_id, context.conditions
        if self._resource.needs_match and preconditions.if_match is None:
            await self.check(context, id)
            raise errors.PreconditionRequired(header="If-Match")
        try:
            data = load()
        except ApiError:
            await self.check(context, id)
            raise
        if preconditions is conditions.NONE or (self._resource.checks_version and _only_if_match(preconditions)):
            data = await self._hashed(data)
            async with self._scope(action, context):
                return await self._act(request, context, action, data)
        async with self._transaction(action, context):
            await self.check(context, id)
            return await self._act(request, context, action, await self._hashed(data))

    async def _act(self, request: web.Request, context: Context, action: str, data: Mapping[str, Any]) -> Response:
        id = request[STATE].item_id
        if action == "delete":
            await self._actions.delete(context, id)
            return Response(204, {})
        item = await getattr(self._actions, action)(context, id, data)
        return await self.item_response(request, item, context)

    async def _patch_item(self, request: web.Request, context: Context, patch: Callable[[Any], Any]) -> Response:
        """Change an item by a patch that depends on it: read, patch, write the difference, in one transaction."""
        id = request[STATE].item_id
        if self._resource.needs_match and context.conditions.if_match is None:
            await self.check(context, id)
            raise errors.PreconditionRequired(header="If-Match")
        async with self._transaction("update", context):
            item, shown = await self.check(context, id)
            before = self._loader.with_hidden(orjson.loads(shown.body), self._serializer.by_attribute(item))
            after = patch(before)
            if not isinstance(after, dict):
                raise errors.WrongType("The patched item is not an object.", pointer="")
            if payload.exceeds_depth(after, self._max_nesting):
                raise errors.InvalidValue(
                    f"The patched item is nested deeper than {self._max_nesting} levels.", pointer=""
                )
            data = await self._hashed(self._loader.change(before, after, id))
            return await self._act(request, context, "update", data)

    async def _hashed(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `data` with its passwords hashed."""
        return await self._backend.hash_passwords(data, self._secrets) if self._secrets else data

    async def check(self, context: Context, id: str) -> tuple[Any, Representation]:
        """Check the conditions against the current item, and return it and its representation; raises 404 and 412."""
        item = await self._resource.retrieve(context, id)
        shown = self._serializer.represent(item, self._rules.default_query)
        outcome = conditions.evaluate(context.conditions, shown.tag, shown.modified, reading=False)
        if outcome is Outcome.FAILED:
            raise conditions.precondition_failed(context.conditions, shown.tag)
        return item, shown

    async def notify(self, context: Context, change: Change) -> None:
        """Call the hooks of the resource, if any, for a change in the transaction of `context`."""
        if self._hooks is not None:
            await self._hooks.notify(context, change)

    def path_of(self, item: Any) -> str:
        """Return the path of an item."""
        id = id_of(item)
        return f"{self._path}/{id if _NEEDS_NO_QUOTING(id) else quote(id, safe=_UNQUOTED)}"

    async def item_response(
        self, request: web.Request, item: Any, context: Context, *, created: bool = False
    ) -> Response:
        """Respond with the current item, or without a body if the client prefers that.

        Call it in the transaction of the write if the query expands references: only the connection that has written an
        item is sure to read it.
        """
        shown = self._serializer.represent(item, context.query)
        if context.query.expand:
            shown = await self._expander.item(context, shown)
        headers = item_headers(shown)
        if created:
            headers["Location"] = self.path_of(item)
        if wants_minimal(request):
            headers.pop("Content-Type")
            headers["Preference-Applied"] = "return=minimal"
            return Response(201 if created else 204, headers)
        return Response(201 if created else 200, headers, shown.body)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise errors.InvalidBody("Send a JSON object.", pointer="")
    return value


def _merge(current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item changed by a merge patch; a null for a field that is never shown is kept, so that it is reset."""
    hidden = {key: value for key, value in patch.items() if value is None and key not in current}
    merged: dict[str, Any] = patching.merge(current, patch)
    return merged | hidden


def _check_writable(targets: Collection[tuple[str | int, str]], writable: Collection[str]) -> None:
    """Raise `ApiError` 403 that points at every part of a patch that changes a field not in `writable`."""
    message = f"Only {', '.join(writable)} can be changed here."
    steps = dict.fromkeys(step for step, name in targets if name not in writable)
    details = tuple(ErrorDetail(errors.Forbidden.code, message, errors.pointer((step,))) for step in steps)
    if details:
        raise errors.Forbidden(details=details)


def _only_if_match(preconditions: Conditions) -> bool:
    return preconditions.unmodified_since is None and preconditions.if_none_match is None


def wants_minimal(request: web.Request) -> bool:
    """Return whether the client prefers a response without a body (RFC 7240)."""
    preference = header_value(request, _PREFER)
    return preference is not None and "return=minimal" in negotiation.preferences(preference)
