"""The handlers of one resource: created with the resource, and called through its plugin's bulkhead."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from pegboard.api.resource import Resource
from pegboard.api.table import TableResource
from pegboard.endpoints.content import Transfer
from pegboard.endpoints.describe.declaration import Declaration
from pegboard.endpoints.idempotency import Idempotency
from pegboard.endpoints.operation import Operator
from pegboard.endpoints.read import Reader
from pegboard.endpoints.write import Writer
from pegboard.http.request import STATE
from pegboard.postgres import conflicts
from pegboard.postgres.conflicts import CONFLICTS
from pegboard.settings import Settings

_IDEMPOTENT = ("list", "retrieve", "replace", "delete", "me.retrieve", "content.read", "content.write")
"""The handlers of methods that have the same effect if they are called again."""


def resource_handlers(
    resource: Resource, declared: Declaration, idempotency: Idempotency, settings: Settings, path: str
) -> dict[str, Handler]:
    """Return the handlers of `resource` by the names that its endpoints use; `path` is that of its collection."""
    rules = declared.rules if declared.has_uuids else declared.rules.with_id_parser(resource.parse_id)
    reader = Reader(resource, rules, path)
    writer = Writer(resource, rules, path, idempotency, settings.max_nesting)
    own_writer = Writer(resource, rules, path, idempotency, settings.max_nesting, resource.me_writable)
    handlers_by_name: dict[str, Handler] = {
        "list": reader.list,
        "retrieve": reader.retrieve,
        "create": writer.create,
        "replace": writer.replace,
        "update": writer.update,
        "delete": writer.delete,
        "me.retrieve": _for_own_item(resource, reader.retrieve),
        "me.update": _for_own_item(resource, own_writer.update),
    }
    if declared.content is not None:
        transfer = Transfer(resource, declared.content, path)
        handlers_by_name |= {"content.read": transfer.read, "content.write": transfer.write}
    for name, operation in declared.operations.items():
        handlers_by_name[f"operation.{name}"] = Operator(resource, operation, rules, writer, settings.max_nesting).serve
    if isinstance(resource, TableResource):
        return handlers_by_name
    return {name: handler if name in _IDEMPOTENT else _once(handler) for name, handler in handlers_by_name.items()}


def _once(handler: Handler) -> Handler:
    """Return `handler` without retries after conflicts: what its actions did before may be committed."""

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except CONFLICTS as error:
            raise conflicts.final(error) from error

    return serve


def _for_own_item(resource: Resource, handler: Handler) -> Handler:
    """Return `handler` for the client's own item."""

    async def serve(request: web.Request) -> web.StreamResponse:
        state = request[STATE]
        state.item_id = resource.get_own_id(state.client)
        return await handler(request)

    return serve
