"""Compression of whole responses: what is worth it, how the entity tag says so, and `Vary`."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from aiohttp import hdrs, web

from pegboard.http import negotiation
from pegboard.http.protocol import Response

FROM = 1024
"""Bodies of more bytes than these are worth it."""
_LARGE = 256 * 1024


async def apply(request: web.Request, response: Response) -> int:
    """Compress the body of `response` where it is large enough and the client would have it so; return its size."""
    body = cast(bytes, response.body)
    if len(body) <= FROM:
        if response.status == HTTPStatus.NOT_MODIFIED:
            _keep_variant(request, response)
        return len(body)
    headers = response.headers
    headers.setdefault(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    accepted = request.headers.get(hdrs.ACCEPT_ENCODING)
    if accepted is None or negotiation.encoding(accepted) != "gzip":
        return len(body)
    compress = negotiation.compress
    response.body = body = await asyncio.to_thread(compress, body) if len(body) > _LARGE else compress(body)
    headers[hdrs.CONTENT_ENCODING] = "gzip"
    tag = headers.get("ETag")
    if tag is not None:
        # It differs from the plain one's by a suffix.
        headers["ETag"] = f'{tag[:-1]}-gzip"'
    return len(body)


def _keep_variant(request: web.Request, response: Response) -> None:
    """Tell a client that has the compressed form of what has not changed the tag of that form (RFC 9111 §4.3.4)."""
    compressed = f'{response.headers["ETag"][:-1]}-gzip"'
    if any(compressed in tags for tags in request.headers.getall(hdrs.IF_NONE_MATCH, ())):
        response.headers["ETag"] = compressed
