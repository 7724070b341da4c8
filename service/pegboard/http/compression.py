"""Compression of complete responses: which are compressed, their entity tags, and `Vary`."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from aiohttp import hdrs, web

from pegboard.http import negotiation
from pegboard.http.protocol import Response

THRESHOLD = 1024
"""Only larger bodies are compressed, in bytes."""
_THREAD_THRESHOLD = 256 * 1024


async def apply(request: web.Request, response: Response) -> int:
    """Compress the body of `response` if it is large enough and the client prefers it, and return its size."""
    body = cast(bytes, response.body)
    if len(body) <= THRESHOLD:
        if response.status == HTTPStatus.NOT_MODIFIED:
            _restore_gzip_tag(request, response)
        return len(body)
    headers = response.headers
    headers.setdefault(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    accepted = request.headers.get(hdrs.ACCEPT_ENCODING)
    if accepted is None or negotiation.encoding(accepted) != "gzip":
        return len(body)
    compress = negotiation.compress
    response.body = body = await asyncio.to_thread(compress, body) if len(body) > _THREAD_THRESHOLD else compress(body)
    headers[hdrs.CONTENT_ENCODING] = "gzip"
    tag = headers.get("ETag")
    if tag is not None:
        # A strong tag must differ from that of the uncompressed response.
        headers["ETag"] = f'{tag[:-1]}-gzip"'
    return len(body)


def _restore_gzip_tag(request: web.Request, response: Response) -> None:
    """Put the tag of the compressed response into a 304 if that is the one the client has (RFC 9111 §4.3.4)."""
    compressed = f'{response.headers["ETag"][:-1]}-gzip"'
    if any(compressed in tags for tags in request.headers.getall(hdrs.IF_NONE_MATCH, ())):
        response.headers["ETag"] = compressed
