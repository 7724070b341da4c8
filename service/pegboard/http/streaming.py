"""Streamed responses: exports and the content of items."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from pegboard.http.protocol import SERVER
from pegboard.http.request import STATE, reset_connection

log = logging.getLogger("pegboard")


async def send_stream(
    request: web.Request,
    status: int,
    headers: Mapping[str, str],
    chunks: AsyncGenerator[bytes, None],
    length: int | None = None,
) -> web.StreamResponse:
    """Send the `chunks`, no faster than the client reads them, and return the response, which is then complete.

    An error before the first chunk is raised, and an error response can still be sent. A later error resets the
    connection, so that the client never takes a partial response for a complete one, and raises `ResponseAborted`.
    `chunks` is always closed. `length` is the size of the body in bytes, if known.
    """
    async with aclosing(chunks):
        first = await anext(chunks, b"")
        response = web.StreamResponse(status=status, headers={**headers, hdrs.SERVER: SERVER})
        if length is not None:
            response.content_length = length
        elif request.version < HttpVersion11:
            # Without chunked encoding, only the end of the connection marks the end of the body.
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _send(request, response, first, chunks, length)
        await response.write_eof()
    return response


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    first: bytes,
    chunks: AsyncGenerator[bytes, None],
    length: int | None,
) -> None:
    state = request[STATE]
    state.streaming, state.since = True, 0.0
    size = len(first)
    try:
        if first:
            await response.write(first)
        async for chunk in chunks:
            size += len(chunk)
            # An empty chunk would end the body.
            if chunk:
                await response.write(chunk)
        if length is not None and size != length:
            raise EOFError(f"the response has {size} bytes, not {length}")
    except BaseException as error:
        if request.transport is not None and isinstance(error, Exception):
            log.error("request %s failed while its response was sent", state.id, exc_info=error)
        aborted = reset_connection(request)
        if isinstance(error, Exception):
            raise aborted from error
        raise
