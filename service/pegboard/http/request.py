"""What one request carries on its way through the middlewares, and how its body is read."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from time import perf_counter
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from multidict import CIMultiDictProxy, istr

from pegboard import errors
from pegboard.errors import ApiError

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))
"""The methods of RFC 9110 and RFC 5789; any other is answered with 501."""

_X_REQUEST_ID = istr("X-Request-Id")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
BLOCK = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TAKEN = "a middleware has consumed the body of the request: read it by request.read(), which keeps it"
_RESET = struct.pack("ii", 1, 0)


class BrokenBody(TimeoutError):
    """Say that the rest of a body will not come.

    A `TimeoutError`, as that is what aiohttp takes in silence while it waits for the rest of a body nobody has read.
    """


class SlowBody(BrokenBody):
    """Say that the rest of a body was not there in time."""


class BrokenOff(ConnectionResetError):
    """Say that a response was broken off on the way: its connection was reset, and nothing can be told any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound the body of a request: its size in bytes, and the seconds that it may take to arrive."""

    max_body: int = 10 * 1024 * 1024
    receive_timeout: float = 30.0


class RequestState:
    """Hold what is known of one request; it stands in the request under `STATE`.

    `path` is where it goes and `endpoint` what serves it there, as the table of endpoints has them; `client` is who has
    sent it, None until that is known; `item_id` says which item it is about. `traceparent` says which trace it belongs
    to (W3C Trace Context). `closing` is set where the connection cannot serve another request after this one.

    The rest is for the deadline of a plugin: `receiving` is set while the body is awaited, `streaming` while the
    response flows; `since` is when its time began to run, `cancelled` how often it was cancelled as that was over.
    `account` counts and logs a response, by its status and size, that these are known of only when it begins.
    """

    # Defaults of the class, as most requests set few of them.
    endpoint: Any = None
    client: Any = None
    item_id: str = ""
    traceparent: str | None = None
    closing: bool = False
    receiving: bool = False
    streaming: bool = False
    since: float = 0.0
    cancelled: int = 0
    sent: int = 0
    account: Callable[[int, int], None] | None = None

    def __init__(self, id: str, limits: Limits, path: Any) -> None:
        self.id = id
        self.limits = limits
        self.path = path
        self.received = perf_counter()


STATE = web.RequestKey("pegboard_state", RequestState)
"""Where a request has its `RequestState`, from the first middleware on."""


class RequestIds:
    """Make the ids of requests; those of two processes never meet."""

    def __init__(self) -> None:
        self._prefix = token_hex(5)
        self._numbers = count(1)

    def of(self, headers: CIMultiDictProxy[str]) -> str:
        """Return the id that the client supplied, where it is sane, or a new one."""
        supplied = headers.get(_X_REQUEST_ID)
        if supplied is not None and _SANE_ID(supplied):
            return supplied
        return f"{self._prefix}-{next(self._numbers):x}"


def raw_path(request: web.BaseRequest) -> str:
    """Return the path as it was sent, percent-encoded and without the query; `*` for `OPTIONS *`."""
    return request.rel_url.raw_path or "/"


def raw_query(request: web.BaseRequest) -> str:
    """Return the query as it was sent, percent-encoded and without its `?`."""
    return request.rel_url.raw_query_string


def awaits_continue(request: web.BaseRequest) -> bool:
    """Tell whether the client waits for a word on its body that it never got: whether that follows is unknown."""
    return hdrs.EXPECT in request.headers and not request.content.is_eof()


async def read_body(request: web.Request) -> bytes:
    """Return the whole body, empty if there is none.

    Only now is a client that waits for it (`Expect: 100-continue`) told to send it.
    Raises `ApiError` 411 where the head has its type but no length (RFC 9110 §8.6), 413 for one that is too large,
    408 for one that is too slow and 400 for one that is framed wrongly; `ConnectionError` when the client is gone.
    """
    state, content = request[STATE], request.content
    most = state.limits.max_body
    _check_length(request, most)
    if content.at_eof():
        # There was none, or a middleware has read it; aiohttp remembers it then.
        return _complete(request, await request.read())
    if content.is_eof() and content.total_bytes <= most:
        return _complete(request, content.read_nowait())
    blocks, size = [], 0
    state.receiving = True
    try:
        await _invite(request)
        async with asyncio.timeout(state.limits.receive_timeout):
            while size <= most and (block := await content.readany()):
                blocks.append(block)
                size += len(block)
    except (OSError, RuntimeError, web.RequestPayloadError) as error:
        raise broken_body(request, error) from error
    finally:
        state.receiving = False
    if size > most:
        raise _too_large(request, most)
    return _complete(request, b"".join(blocks))


async def read_blocks(request: web.Request, most: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, in blocks of 64 KiB and more but for the last; nothing of it is kept.

    Each block has the time that else a whole body has. Raises as `read_body` does, 413 for more than `most` bytes.
    """
    _check_length(request, most)
    if request.content.at_eof():
        # As in `read_body`.
        if body := _complete(request, await request.read()):
            yield body
        return
    size = 0
    await _invite(request)
    while block := await _block(request):
        size += len(block)
        if size > most:
            raise _too_large(request, most)
        yield block
    if size != request.content.total_bytes:
        raise RuntimeError(_TAKEN)


async def _block(request: web.Request) -> bytes:
    state, parts, size = request[STATE], [], 0
    state.receiving = True
    try:
        async with asyncio.timeout(state.limits.receive_timeout):
            while size < BLOCK and (part := await request.content.readany()):
                parts.append(part)
                size += len(part)
    except (OSError, RuntimeError, web.RequestPayloadError) as error:
        raise broken_body(request, error) from error
    finally:
        state.receiving = False
    return b"".join(parts)


def _complete(request: web.Request, body: bytes) -> bytes:
    """Return the body; raise `RuntimeError` where somebody has taken a part of it."""
    if len(body) != request.content.total_bytes:
        raise RuntimeError(_TAKEN)
    return body


def _check_length(request: web.Request, most: int) -> None:
    headers = request.headers
    length = headers.get(hdrs.CONTENT_LENGTH)
    if length is not None:
        if int(length) > most:
            raise _too_large(request, most)
    elif hdrs.CONTENT_TYPE in headers and hdrs.TRANSFER_ENCODING not in headers:
        # HTTP takes such a head for one without a body. What follows may be that body.
        request[STATE].closing = True
        raise errors.LengthRequired(header="Content-Length")


async def _invite(request: web.Request) -> None:
    """Tell a client that waits for it to send the body; one of HTTP/1.0 knows no such thing."""
    if awaits_continue(request) and request.version >= HttpVersion11 and request.transport is not None:
        await request.writer.write(CONTINUE)
        # As aiohttp's own handler does: the response has not begun.
        request.writer.output_size = 0


def _too_large(request: web.Request, most: int) -> ApiError:
    request[STATE].closing = not request.content.is_eof()
    return errors.BodyTooLarge(f"The body is larger than {most} bytes.")


def broken_body(request: web.Request, error: Exception) -> Exception:
    """Return what to raise for an `error` that ended the reading of the body."""
    if request.transport is None:
        return ConnectionResetError("The client went away.")
    request[STATE].closing = True
    told = told_of(error)
    if told.status == errors.RequestTimeout.status:
        request.content.set_exception(BrokenBody())
    return told


def told_of(error: Exception) -> ApiError:
    """Return the 408 or the 400 that tells why the rest of a body will not come."""
    slow = isinstance(error, TimeoutError) and (isinstance(error, SlowBody) or not isinstance(error, BrokenBody))
    return errors.RequestTimeout() if slow else errors.BadRequest("The body is not framed as HTTP requires.")


def has_progressed(request: web.BaseRequest) -> bool:
    """Tell whether something was sent since this was last asked, or the client has yet to take what was."""
    state, size = request[STATE], request.writer.output_size
    before, state.sent = state.sent, size
    return before != size or request.protocol.writing_paused


def reset(request: web.BaseRequest) -> BrokenOff:
    """Reset the connection, and return what to raise: closed in the usual way, half a response could look whole."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return BrokenOff("The response was aborted.")


def is_gone(request: web.BaseRequest, error: BaseException | None) -> bool:
    """Tell whether `error` says no more than that nobody is there to be answered."""
    return isinstance(error, BrokenOff) or (isinstance(error, ConnectionError) and request.transport is None)
