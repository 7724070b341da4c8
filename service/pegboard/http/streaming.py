"""Responses whose body is made while it is sent: exports and the content of items."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from pegboard.http.protocol import SERVER
from pegboard.http.request import STATE, reset

log = logging.getLogger("pegboard")


async def send_stream(
    request: web.Request,
    status: int,
    headers: Mapping[str, str],
    chunks: AsyncGenerator[bytes, None],
    length: int | None = None,
) -> web.StreamResponse:
    """Send what `chunks` yield, no faster than the client takes it, and return the response, which is over then.

    What fails before the first chunk is there is raised: it can still be answered. A failure after that resets the
    connection, so that what was sent never looks whole, and raises `BrokenOff`. `chunks` is closed in any
    case. `length` is how many bytes there will be, where that is known.
    """
    async with aclosing(chunks):
        first = await anext(chunks, b"")
        response = web.StreamResponse(status=status, headers={**headers, hdrs.SERVER: SERVER})
        if length is not None:
            response.content_length = length
        elif request.version < HttpVersion11:
            # Without chunks, only the end of the connection says where the body ends.
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
            # An empty chunk would be the last one.
            if chunk:
                await response.write(chunk)
        if length is not None and size != length:
            raise EOFError(f"the response has {size} bytes, not {length}")
    except BaseException as error:
        if request.transport is not None and isinstance(error, Exception):
            log.error("request %s failed while its response was sent", state.id, exc_info=error)
        broken = reset(request)
        if isinstance(error, Exception):
            raise broken from error
        raise
