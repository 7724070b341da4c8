"""Operations over HTTP: load, act in one transaction, respond; errors have the same order as those of any write."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from pegboard import errors, rendering
from pegboard.api.backend import backend_of, password_fields
from pegboard.api.changes import Change
from pegboard.api.context import Context
from pegboard.api.operation import Operation
from pegboard.api.resource import Resource
from pegboard.endpoints.expand import Expander
from pegboard.endpoints.idempotency import key_of
from pegboard.endpoints.write import Writer, wants_minimal
from pegboard.http import conditions, negotiation, payload
from pegboard.http.negotiation import JSON, VARY, accept
from pegboard.http.protocol import Response
from pegboard.http.request import STATE, raw_query, read_body
from pegboard.query.parsing import parse_item
from pegboard.query.query import Rules
from pegboard.schema.loading import Loader
from pegboard.schema.schema import Schema

_NO_PARAMETERS = Rules(())


class Operator:
    """Handle one operation of a resource; `writer` checks and represents its items."""

    def __init__(
        self, resource: Resource, operation: Operation, rules: Rules, writer: Writer, max_nesting: int
    ) -> None:
        self._resource = resource
        self._operation = operation
        self._act: Any = getattr(resource, operation.name)
        self._on_item = operation.on == "item"
        self._rules = rules if operation.response == "item" else _NO_PARAMETERS
        self._writer = writer
        self._max_nesting = max_nesting
        self._needs_body = operation.request is not None
        self._loader = Loader(operation.request or Schema, ())
        self._secrets = password_fields((operation.request or Schema)())
        self._backend = backend_of(resource)
        self._dumper = operation.response() if isinstance(operation.response, type) else None
        self._expander = Expander(resource)

    async def serve(self, request: web.Request) -> Response:
        """Run the operation, on the item in the path if it is an operation on items."""
        state = request[STATE]
        if self._operation.response is not None:
            accept(request, JSON)
        # The type of an empty, optional body is ignored: clients send any.
        if self._needs_body or request.can_read_body:
            negotiation.check_content(request.headers, (JSON,), "Accept")
        body = await read_body(request)
        query, key, preconditions, body_data = errors.gather(
            lambda: parse_item(raw_query(request), self._rules),
            lambda: key_of(request.headers),
            lambda: conditions.read(request.headers) if self._on_item else conditions.NONE,
            lambda: self._parse_body(body),
        )
        if query.expand:
            self._expander.check(state.client, query)
        context = Context(state.client, state.id, query, preconditions, traceparent=state.traceparent)

        async def work() -> Response:
            async with self._resource.transaction(context):
                return await self._run(request, context, state.item_id, body_data)

        return await (work() if key is None else self._writer.run_once(request, context, key, body, work))

    def _parse_body(self, body: bytes) -> dict[str, Any]:
        if not self._needs_body and (not body or body.isspace()):
            return {}
        return payload.parse_object(body, self._max_nesting, exact=self._loader.exact)

    async def _run(self, request: web.Request, context: Context, id: str, body_data: dict[str, Any]) -> Response:
        before = None
        if self._on_item:
            before, _ = await self._writer.check(context, id)
            if self._resource.needs_match and context.conditions.if_match is None:
                raise errors.PreconditionRequired(header="If-Match")
            # They were checked against the item, which is locked; actions that it calls must not check them again.
            context.conditions = conditions.NONE
        target = (id,) if self._on_item else ()
        data = await self._backend.hash_passwords(self._loader.load(body_data), self._secrets)
        result = await self._act(context, *target, data)
        await self._writer.notify(context, Change(self._operation.name, id or None, before, result))
        return await self._response(request, context, result)

    async def _response(self, request: web.Request, context: Context, result: Any) -> Response:
        if self._operation.response == "item":
            response = await self._writer.item_response(request, result, context)
            response.headers["Content-Location"] = self._writer.path_of(result)
            return response
        if self._dumper is None:
            return Response(204, {})
        if result is None:
            raise TypeError(f"the operation {self._operation.name} returned no data for the response")
        body = rendering.dumps(self._dumper.dump(result))
        if wants_minimal(request):
            return Response(204, {"Preference-Applied": "return=minimal"})
        return Response(200, {"Content-Type": JSON, "Vary": VARY}, body)
