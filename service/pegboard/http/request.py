"""The state of a request, and the reading of its body."""

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
from pegboard.http.headers import REQUEST_ID_PATTERN

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""The methods that resources may serve."""
METHODS = frozenset((*VERBS, "OPTIONS", "TRACE", "CONNECT"))
"""The methods of RFC 9110 and RFC 5789; the response to any other is 501."""

_X_REQUEST_ID = istr("X-Request-Id")
_VALID_ID = re.compile(REQUEST_ID_PATTERN).fullmatch
BLOCK_SIZE = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODY_CONSUMED = "a middleware has consumed the body of the request: read it by request.read(), which keeps it"
_RESET = struct.pack("ii", 1, 0)


class IncompleteBody(TimeoutError):
    """Signal that the rest of a body will not arrive.

    It is a `TimeoutError`, since aiohttp ignores that one while it waits for the rest of an unread body.
    """


class BodyTimeout(IncompleteBody):
    """Signal that the rest of a body did not arrive in time."""


class ResponseAborted(ConnectionResetError):
    """Signal that a response was aborted: its connection was reset, so no error response can be sent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limit the body of a request: its size in bytes, and the seconds that it may take to arrive."""

    max_body: int = 10 * 1024 * 1024
    receive_timeout: float = 30.0


class RequestState:
    """Hold the state of one request; it is stored in the request under `STATE`.

    `path` and `endpoint` are the ones of the table of endpoints that the request is for; `client` is the authenticated
    client, None before authentication; `item_id` is the id of the item in the path. `traceparent` identifies the trace
    (W3C Trace Context). `closing` is set if the connection cannot serve another request. `body` is the
    complete body once it was read.

    The deadline of a plugin uses the others: `receiving` is set while the body is read, and `streaming` while the
    response is sent; `since` is the time from which the deadline counts, and `cancelled` how often the request was
    cancelled at it. `record` counts and logs a response whose status and size are known only once it starts.
    """

    # Class attributes as defaults: most requests set few of them.
    endpoint: Any = None
    client: Any = None
    item_id: str = ""
    traceparent: str | None = None
    closing: bool = False
    body: bytes | None = None
    receiving: bool = False
    streaming: bool = False
    since: float = 0.0
    cancelled: int = 0
    sent: int = 0
    record: Callable[[int, int], None] | None = None

    def __init__(self, id: str, limits: Limits, path: Any) -> None:
        self.id = id
        self.limits = limits
        self.path = path
        self.received = perf_counter()


STATE = web.RequestKey("pegboard_state", RequestState)
"""The key of a request's `RequestState`, set by the first middleware."""


class RequestIds:
    """Generate the ids of requests, which differ between processes."""

    def __init__(self) -> None:
        self._prefix = token_hex(5)
        self._numbers = count(1)

    def of(self, headers: CIMultiDictProxy[str]) -> str:
        """Return the id that the client supplied if it is valid, else a new one."""
        supplied = headers.get(_X_REQUEST_ID)
        if supplied is not None and _VALID_ID(supplied):
            return supplied
        return f"{self._prefix}-{next(self._numbers):x}"


def raw_path(request: web.BaseRequest) -> str:
    """Return the path as it was sent, percent-encoded and without the query; `*` for `OPTIONS *`."""
    return request.rel_url.raw_path or "/"


def raw_query(request: web.BaseRequest) -> str:
    """Return the query as it was sent, percent-encoded and without its `?`."""
    return request.rel_url.raw_query_string


def awaits_continue(request: web.BaseRequest) -> bool:
    """Return whether the client sent `Expect` and its body is not complete: it may or may not follow."""
    return hdrs.EXPECT in request.headers and not request.content.is_eof()


async def read_body(request: web.Request) -> bytes:
    """Return the complete body, which is empty if there is none; it is kept for a retry.

    Only now is `100 Continue` sent to a client that expects it. Raises `ApiError` 411 for a head with `Content-Type`
    but without a length (RFC 9110 §8.6), 413 for a body that is too large, 408 for one that is too slow and 400 for one
    with invalid framing, and `ConnectionError` if the client has disconnected.
    """
    state, content = request[STATE], request.content
    if state.body is not None:
        return state.body
    max_size = state.limits.max_body
    _check_length(request, max_size)
    if content.at_eof():
        # There is none, or a middleware has read it and aiohttp has kept it.
        return _complete(request, await request.read())
    if content.is_eof() and content.total_bytes <= max_size:
        return _complete(request, content.read_nowait())
    await _send_continue(request)
    body = await _read(request, max_size + 1)
    if len(body) > max_size:
        raise _too_large(request, max_size)
    return _complete(request, body)


async def read_blocks(request: web.Request, max_size: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives, in blocks of at least 64 KiB except for the last; none of it is kept.

    Each block may take `receive_timeout`. Raises as `read_body` does, but 413 for more than `max_size` bytes.
    """
    _check_length(request, max_size)
    if request.content.at_eof():
        # As in `read_body`.
        if body := _complete(request, await request.read()):
            yield body
        return
    size = 0
    await _send_continue(request)
    while block := await _read(request, BLOCK_SIZE):
        size += len(block)
        if size > max_size:
            raise _too_large(request, max_size)
        yield block
    if size != request.content.total_bytes:
        raise RuntimeError(_BODY_CONSUMED)


async def _read(request: web.Request, enough: int) -> bytes:
    """Return the next bytes of the body: `enough` or more, or fewer if it ends; they may take `receive_timeout`."""
    state, parts, size = request[STATE], [], 0
    state.receiving = True
    try:
        async with asyncio.timeout(state.limits.receive_timeout):
            while size < enough and (part := await request.content.readany()):
                parts.append(part)
                size += len(part)
    except (OSError, RuntimeError, web.RequestPayloadError) as error:
        raise body_read_error(request, error) from error
    finally:
        state.receiving = False
    return b"".join(parts)


def _complete(request: web.Request, body: bytes) -> bytes:
    """Return the body and keep it; raises `RuntimeError` if other code has consumed a part of it."""
    if len(body) != request.content.total_bytes:
        raise RuntimeError(_BODY_CONSUMED)
    request[STATE].body = body
    return body


def _check_length(request: web.Request, max_size: int) -> None:
    headers = request.headers
    length = headers.get(hdrs.CONTENT_LENGTH)
    if length is not None:
        if int(length) > max_size:
            raise _too_large(request, max_size)
    elif hdrs.CONTENT_TYPE in headers and hdrs.TRANSFER_ENCODING not in headers:
        # By HTTP this request has no body. What follows may be one nevertheless.
        request[STATE].closing = True
        raise errors.LengthRequired(header="Content-Length")


async def _send_continue(request: web.Request) -> None:
    """Send `100 Continue` if the client expects it, which one of HTTP/1.0 cannot."""
    if awaits_continue(request) and request.version >= HttpVersion11 and request.transport is not None:
        await request.writer.write(CONTINUE)
        # As in aiohttp's default handler: the response has not started.
        request.writer.output_size = 0


def _too_large(request: web.Request, max_size: int) -> ApiError:
    request[STATE].closing = not request.content.is_eof()
    return errors.BodyTooLarge(f"The body is larger than {max_size} bytes.")


def body_read_error(request: web.Request, error: Exception) -> Exception:
    """Return the exception to raise for an `error` that occurred while the body was read."""
    if request.transport is None:
        return ConnectionResetError("The client disconnected.")
    request[STATE].closing = True
    api_error = body_error(error)
    if api_error.status == errors.RequestTimeout.status:
        request.content.set_exception(IncompleteBody())
    return api_error


def body_error(error: Exception) -> ApiError:
    """Return the 408 or the 400 for a body whose rest will not arrive."""
    slow = isinstance(error, TimeoutError) and (isinstance(error, BodyTimeout) or not isinstance(error, IncompleteBody))
    return errors.RequestTimeout() if slow else errors.BadRequest("The body is not framed as HTTP requires.")


def has_progressed(request: web.BaseRequest) -> bool:
    """Return whether data was sent since the last call, or waits for a slow client."""
    state, size = request[STATE], request.writer.output_size
    before, state.sent = state.sent, size
    return before != size or request.protocol.writing_paused


def reset_connection(request: web.BaseRequest) -> ResponseAborted:
    """Reset the connection, and return the exception to raise.

    If it were closed normally, the client could take a partial response for a complete one.
    """
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return ResponseAborted("The response was aborted.")


def is_open(request: web.BaseRequest) -> bool:
    """Return whether a response can still be sent: none has started, and the client has not disconnected."""
    transport = request.transport
    return transport is not None and not transport.is_closing() and not request.writer.output_size


def is_disconnected(request: web.BaseRequest, error: BaseException | None) -> bool:
    """Return whether `error` only means that the client has disconnected or that its connection was reset."""
    return isinstance(error, ResponseAborted) or (isinstance(error, ConnectionError) and request.transport is None)
