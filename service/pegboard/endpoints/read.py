"""GET and HEAD on a resource: items, pages and exports with their headers, and 304 if the client has them already."""

from __future__ import annotations

import inspect
import re
from urllib.parse import quote, unquote

from aiohttp import hdrs, web

from pegboard import errors, rendering
from pegboard.api.backend import backend_of
from pegboard.api.context import Context
from pegboard.api.listing import not_an_item
from pegboard.api.page import Page
from pegboard.api.resource import Resource
from pegboard.api.serializer import Representation
from pegboard.endpoints import export
from pegboard.endpoints.expand import Expander
from pegboard.http import conditions, negotiation
from pegboard.http.conditions import Conditions, Outcome
from pegboard.http.negotiation import JSON, VARY, accept, header_value
from pegboard.http.protocol import Response
from pegboard.http.request import STATE, raw_query
from pegboard.http.streaming import send_stream
from pegboard.query.parsing import parse, parse_item
from pegboard.query.query import Rules

_UNQUOTED = "%=&,:;+-._~!*'()/?@$[]"
_NEEDS_NO_QUOTING = re.compile(rf"[0-9A-Za-z{re.escape(_UNQUOTED)}]*").fullmatch


class Reader:
    """Handle the reading methods of one resource, mounted at `path`."""

    def __init__(self, resource: Resource, rules: Rules, path: str) -> None:
        self._resource = resource
        self._backend = backend_of(resource)
        self._serializer = self._backend.serializer
        self._rules = rules
        self._streaming = rules.streaming()
        self._path = path
        self._expander = Expander(resource)

    async def retrieve(self, request: web.Request) -> Response:
        """Respond with one item."""
        state, raw = request[STATE], raw_query(request)
        accept(request, JSON)
        if raw:
            query, preconditions = errors.gather(
                lambda: parse_item(raw, self._rules), lambda: conditions.read(request.headers)
            )
            if query.expand:
                self._expander.check(state.client, query)
        else:
            query, preconditions = self._rules.default_query, conditions.read(request.headers)
        context = Context(state.client, state.id, query, preconditions, traceparent=state.traceparent)
        item = await self._resource.retrieve(context, state.item_id)  # type: ignore[attr-defined]  # it exists, as its verb is declared
        shown = self._serializer.represent(item, query)
        if query.expand:
            shown = await self._expander.item(context, shown)
        return conditional(Response(200, item_headers(shown), shown.body), shown, preconditions)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Respond with one page of the collection, or with all of it if the client prefers a stream."""
        media_type = accept(request, JSON, export.NDJSON, export.CSV)
        if media_type != JSON:
            return await self._stream(request, media_type)
        state = request[STATE]
        query, preconditions = errors.gather(
            lambda: parse(raw_query(request), self._rules), lambda: conditions.read(request.headers)
        )
        if query.expand:
            self._expander.check(state.client, query)
        context = Context(state.client, state.id, query, preconditions, traceparent=state.traceparent, renders=True)
        result = await self._resource.list(context)  # type: ignore[attr-defined]  # it exists, as its verb is declared
        if inspect.iscoroutine(result) or result is None:
            raise TypeError(not_an_item(result))
        page = result if isinstance(result, Page) else self._backend.paginate(list(result), query)
        items = self._serializer.page(page.items, query)
        if query.expand:
            items = await self._expander.items(context, items)
        links = self._links(request, page)
        parts = [
            b'{"items":', items,
            b',"next":', rendering.dumps(links.get("next")), b',"prev":', rendering.dumps(links.get("prev")),
        ]  # fmt: skip
        headers = {"Content-Type": JSON, "Vary": VARY, "Cache-Control": "private, no-cache"}
        headers["Link"] = ", ".join([f'<{url}>; rel="{relation}"' for relation, url in links.items()])
        if page.total is not None:
            headers["X-Total-Count"] = str(page.total)
            parts += [b',"total":', str(page.total).encode()]
        body = b"".join((*parts, b"}"))
        tag = rendering.digest(body)
        headers["ETag"] = f'"{tag}"'
        return conditional(Response(200, headers, body), Representation(body, tag, None), preconditions)

    async def _stream(self, request: web.Request, media_type: str) -> web.StreamResponse:
        state = request[STATE]
        query, preconditions = errors.gather(
            lambda: parse(raw_query(request), self._streaming), lambda: conditions.read(request.headers)
        )
        if query.expand:
            if media_type == export.CSV:
                raise errors.InvalidParameter("CSV cannot contain expanded items.", parameter="expand")
            self._expander.check(state.client, query)
        # An export has no entity tag, so none can match.
        if conditions.evaluate(preconditions, "", None, reading=True) is Outcome.FAILED:
            raise errors.PreconditionFailed(header="If-Match")
        context = Context(state.client, state.id, query, preconditions, traceparent=state.traceparent, renders=True)
        pages = self._backend.stream(context)
        first = await anext(pages, Page(()))
        headers = {"Content-Type": export.CONTENT_TYPES[media_type], "Vary": VARY}
        if first.total is not None:
            headers["X-Total-Count"] = str(first.total)
        chunks = export.serialize(self._serializer, query, media_type, first, pages)
        if query.expand:
            chunks = self._expander.lines(context, chunks)
        if negotiation.encoding(header_value(request, hdrs.ACCEPT_ENCODING)) == "gzip":
            headers["Content-Encoding"] = "gzip"
            chunks = export.compressed(chunks)
        return await send_stream(request, 200, headers, chunks)

    def _links(self, request: web.Request, page: Page) -> dict[str, str]:
        """Return the URLs of the pages next to `page` and of the first page, which an empty cursor also refers to."""
        parts = raw_query(request).split("&")
        kept = "&".join([part for part in parts if part and _name_of(part) not in ("after", "before")])
        first = f"{self._path}?{_quoted(kept)}" if kept else self._path
        further = f"{first}{'&' if kept else '?'}"
        links = {}
        if page.next is not None:
            links["next"] = f"{further}after={_quoted(page.next)}" if page.next else first
        if page.prev is not None:
            links["prev"] = f"{further}before={_quoted(page.prev)}" if page.prev else first
        links["first"] = first
        return links


def _name_of(part: str) -> str:
    name = part.partition("=")[0]
    return unquote(name) if "%" in name else name


def _quoted(text: str) -> str:
    return text if _NEEDS_NO_QUOTING(text) else quote(text, safe=_UNQUOTED)


def item_headers(shown: Representation) -> dict[str, str]:
    """Return the headers of a response with an item."""
    headers = {
        "Content-Type": JSON,
        "ETag": f'"{shown.tag}"',
        "Cache-Control": "private, no-cache",
        "Vary": VARY,
    }
    if shown.modified is not None:
        headers["Last-Modified"] = rendering.http_date(shown.modified)
    return headers


def conditional(response: Response, shown: Representation, preconditions: Conditions) -> Response:
    """Return `response`, or a 304 instead; raises `ApiError` 412."""
    if preconditions is conditions.NONE:
        return response
    outcome = conditions.evaluate(preconditions, shown.tag, shown.modified, reading=True)
    if outcome is Outcome.FAILED:
        raise conditions.precondition_failed(preconditions, shown.tag)
    if outcome is Outcome.NOT_MODIFIED:
        response.headers.pop("Content-Type")
        return Response(304, response.headers)
    return response
