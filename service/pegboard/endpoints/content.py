"""The content of items over HTTP: GET and HEAD with ranges, and PUT, in bounded memory."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web

from pegboard import errors, rendering
from pegboard.api import content
from pegboard.api.content import Content, Stored, Upload, accepts, size_limit
from pegboard.api.context import Context
from pegboard.api.resource import Resource
from pegboard.http import conditions, digests, negotiation, ranges
from pegboard.http.conditions import Conditions, Outcome
from pegboard.http.disposition import POLICY, disposition
from pegboard.http.negotiation import accept, header_value
from pegboard.http.protocol import Response
from pegboard.http.request import STATE, raw_query, read_blocks
from pegboard.http.streaming import send_stream
from pegboard.postgres.conflicts import CONFLICTS
from pegboard.query.query import Query

SEGMENT = "content"
"""The segment of the path after the id."""

DEFAULT_TYPE = "application/octet-stream"
_MAX_TYPE_LENGTH = 255


class Transfer:
    """Serve the content of the items of one resource, mounted at `path`."""

    def __init__(self, resource: Resource, declared: Content, path: str) -> None:
        self._resource: Any = resource
        self._declared = declared
        self._max_size = size_limit(declared, resource.settings)
        self._path = path

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Respond with the content of an item, or with a range of it."""
        state = request[STATE]
        preconditions, _ = errors.gather(lambda: conditions.read(request.headers), lambda: _no_query(request))
        context = Context(state.client, state.id, Query(), traceparent=state.traceparent)
        stored = await self._resource.read_content(context, state.item_id)
        if stored is None:
            raise errors.NotFound("The item has no content yet.")
        accept(request, negotiation.media_type(stored.media_type))
        outcome = conditions.evaluate(preconditions, stored.tag, stored.modified, reading=True)
        if outcome is Outcome.FAILED:
            raise conditions.precondition_failed(preconditions, stored.tag)
        headers = _headers(stored)
        if outcome is Outcome.NOT_MODIFIED:
            return Response(304, headers)
        headers |= {"Content-Type": stored.media_type, "Accept-Ranges": "bytes"}
        part = None
        if request.method == "GET" and ranges.if_range_matches(header_value(request, "If-Range"), stored.tag):
            part = ranges.parse(header_value(request, "Range"), stored.size)
        if part is None:
            return await self._send(request, 200, headers, stored, 0, stored.size)
        headers["Content-Range"] = f"bytes {part[0]}-{part[1] - 1}/{stored.size}"
        return await self._send(request, 206, headers, stored, *part)

    async def _send(
        self, request: web.Request, status: int, headers: dict[str, str], stored: Stored, start: int, stop: int
    ) -> web.StreamResponse:
        chunks = stored.read(start, start if request.method == "HEAD" else stop)
        return await send_stream(request, status, headers, chunks, stop - start)

    async def write(self, request: web.Request) -> Response:
        """Replace an item's content, once the complete body has arrived."""
        state = request[STATE]
        id = state.item_id
        media_type = self._media_type(request)
        preconditions, sent, _ = errors.gather(
            lambda: conditions.read(request.headers), lambda: digests.read(request.headers), lambda: _no_query(request)
        )
        context = Context(state.client, state.id, Query(), traceparent=state.traceparent)
        # Checked before the upload, to save a futile one, and again in the transaction that writes.
        async with self._resource.transaction(context):
            await self._check(context, id, preconditions)
        async with content.receive(media_type, read_blocks(request, self._max_size)) as upload:
            digests.check(sent, upload.sha256)

            async def store() -> Response:
                async with self._resource.transaction(context):
                    return await self._store(context, id, upload, preconditions)

            try:
                return await store()
            except CONFLICTS as error:
                # The body cannot be read again, but the upload can.
                bulkhead = request[STATE].path.bulkhead
                response: Response = await bulkhead.retry(request, error, store)
                return response

    async def _store(self, context: Context, id: str, upload: Upload, preconditions: Conditions) -> Response:
        before = await self._check(context, id, preconditions)
        await self._resource.write_content(context, id, upload)
        headers = _headers(await self._resource.read_content(context, id))
        if before is None:
            return Response(201, headers | {"Location": f"{self._path}/{quote(id)}/{SEGMENT}"})
        return Response(204, headers)

    async def _check(self, context: Context, id: str, preconditions: Conditions) -> Stored | None:
        """Return the current content; raises `ApiError` 404, 412 and 428."""
        stored: Stored | None = await self._resource.read_content(context, id)
        if self._resource.needs_match and preconditions.if_match is None and stored is not None:
            raise errors.PreconditionRequired(header="If-Match")
        if stored is None:
            if preconditions.if_match is not None:
                raise errors.PreconditionFailed("The item has no content yet.", header="If-Match")
        elif conditions.evaluate(preconditions, stored.tag, stored.modified, reading=False) is Outcome.FAILED:
            raise conditions.precondition_failed(preconditions, stored.tag)
        return stored

    def _media_type(self, request: web.Request) -> str:
        """Return the `Content-Type`; raises `ApiError` 415 for an invalid type or a coding, and 400 for a range."""
        if "Content-Encoding" in request.headers:
            message = "Send the content as it is, without Content-Encoding."
            raise errors.UnsupportedMediaType(
                message, header="Content-Encoding", headers={"Accept-Encoding": "identity"}
            )
        if "Content-Range" in request.headers:
            raise errors.InvalidHeader("Send the complete content; PUT accepts no parts.", header="Content-Range")
        content_type = request.headers.get("Content-Type", DEFAULT_TYPE)
        types = self._declared.types
        media_type = negotiation.media_type(content_type)
        if (
            not media_type
            or "*" in media_type
            or len(content_type) > _MAX_TYPE_LENGTH
            or not content_type.isascii()
            or not accepts(self._declared, media_type)
        ):
            message = f"Send one of these as Content-Type: {', '.join(types)} (at most {_MAX_TYPE_LENGTH} characters)."
            raise errors.UnsupportedMediaType(message, header="Content-Type", headers={"Accept": ", ".join(types)})
        return content_type


def _headers(stored: Stored) -> dict[str, str]:
    """Return the headers of every response about stored content."""
    headers = {
        "ETag": f'"{stored.tag}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
        "Repr-Digest": digests.format_digest(stored.sha256),
        "Content-Disposition": disposition(stored.media_type, stored.name),
        "Content-Security-Policy": POLICY,
    }
    if stored.modified is not None:
        headers["Last-Modified"] = rendering.http_date(stored.modified)
    return headers


def _no_query(request: web.Request) -> None:
    if raw_query(request):
        name = unquote(raw_query(request).partition("&")[0].partition("=")[0])
        raise errors.UnknownParameter("Content takes no query parameters.", parameter=name)
