"""Extensions of aiohttp: limits on heads and on slow clients, errors as JSON, responses written in one piece.

This is the only module that uses aiohttp's private names, tested with aiohttp 3.14.5. tests/http/test_private_names.py
lists them and fails if one changes, tests/http/test_server.py if the behaviour of one changes. If another application
mounts this one, its protocol is aiohttp's, which then also writes a `Response`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from math import inf
from time import time
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from multidict import CIMultiDict

from pegboard import errors, rendering
from pegboard.errors import ApiError
from pegboard.http import malformed
from pegboard.http.cors import Cors, parse_origin
from pegboard.http.pieces import Pieces
from pegboard.http.request import (
    BLOCK_SIZE,
    CONTINUE,
    STATE,
    BodyTimeout,
    IncompleteBody,
    RequestIds,
    body_error,
    is_disconnected,
    reset_connection,
)
from pegboard.settings import Settings

log = logging.getLogger("pegboard")

SERVER = "Pegboard"
_MAX_LINGERING = 10.0
_LAST_RESPONSE = 1.0
"""The seconds of a shutdown that are left for the responses to requests whose rest did not arrive."""
_SINGLE_WRITE_LIMIT = 64 * 1024
_BODILESS = frozenset((204, 304))
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_CORS_HEADERS = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
_SENDABLE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*").fullmatch
_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n" for status, reason in _REASONS.items()}


class Response(web.Response):
    """Represent a response whose body is bytes.

    On a connection of `Protocol` it is written in one piece, after the receivers of `on_response_prepare`; on another
    one, or with aiohttp's compression or chunking enabled, aiohttp writes it.
    """

    _zlib_executor_size = 1024
    _zlib_executor = None

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        # Equivalent to aiohttp's constructors, for bytes.
        self._state = {}
        self._headers = CIMultiDict(headers)
        self._status = status
        self._reason = _REASONS.get(status, "")
        self._body = body

    @property
    def size(self) -> int:
        """Return the number of bytes in the body."""
        return len(cast(bytes, self._body))

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the response to `request`; a response with an invalid header is replaced by 500."""
        protocol = request._protocol
        if (
            type(protocol) is not Protocol
            or self._eof_sent
            or self._compression
            or self._chunked
            or type(self._body) is not bytes
        ):
            return await super().prepare(request)
        # Equivalent to aiohttp's `_prepare_hook`, in fewer steps.
        if isinstance(request, web.Request) and request._match_info is not None:
            for app in request._match_info._apps:
                for receiver in app._on_response_prepare:
                    await receiver(request, self)
        if self._keep_alive is None:
            self._keep_alive = not (
                request._message.should_close or protocol._close or protocol._force_close or protocol.leaves_http
            )
        try:
            head = self._head(request)
        except ValueError as error:
            self._replace(request, error)
            head = self._head(request)
        body = b"" if request._method == "HEAD" or self._status in _BODILESS else self._body
        self._eof_sent = True
        self._body_length = len(body)
        if len(body) <= _SINGLE_WRITE_LIMIT:
            _send(request, head + body)
        else:
            _send(request, head)
            _send(request, body)
        if not self._keep_alive:
            _half_close(request)
        if protocol._paused:
            await protocol._drain_helper()
        return None

    def _head(self, request: web.BaseRequest) -> bytes:
        headers = self._headers
        if self._cookies:
            for cookie in self._cookies.values():
                headers.add(hdrs.SET_COOKIE, cookie.output(header="")[1:])
        if hdrs.CONTENT_LENGTH in headers:
            del headers[hdrs.CONTENT_LENGTH]
        framing = "" if self._status in _BODILESS else f"Content-Length: {len(cast(bytes, self._body))}\r\n"
        if not self._keep_alive or request._version is not HttpVersion11:
            framing = _connection(request, bool(self._keep_alive)) + framing
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        lines = len(headers)
        if fields.count("\n") != lines or fields.count("\r") != lines or "\0" in fields:
            raise ValueError("a header contains a line break or a NUL")
        line = _STATUS_LINES.get(self._status)
        if line is None or self._reason is not _REASONS[self._status]:
            line = f"HTTP/1.1 {self._status} {self._reason}\r\n"
        stamp = _common_headers(int(time()), hdrs.SERVER not in headers, hdrs.DATE not in headers)
        return f"{line}{stamp}{fields}{framing}\r\n".encode("latin-1")

    def _replace(self, request: web.BaseRequest, error: ValueError) -> None:
        """Turn this response into a 500, which keeps the CORS headers."""
        state = request.get(STATE)
        request_id = RequestIds().of(request.headers) if state is None else state.id
        log.error("request %s: its response has a header that cannot be sent", request_id, exc_info=error)
        other = error_response(errors.InternalError(), request_id)
        cors = {name: value for name in _CORS_HEADERS if (value := self._headers.get(name)) and _SENDABLE(value)}
        self._status, self._reason, self._body = other._status, other._reason, other._body
        self._headers, self._cookies = CIMultiDict({**other._headers, **cors}), None


def error_response(error: ApiError, request_id: str) -> Response:
    """Return the response for `error`; a status of 500 or above includes the request id, to find it in the log."""
    entries = [detail.as_json() for detail in error.details]
    if error.status >= 500:
        for entry in entries:
            entry["message"] = f"{entry['message']} Request ID: {request_id}."
    headers = {
        "Content-Type": "application/json",
        "X-Request-Id": request_id,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        **error.headers,
    }
    return Response(error.status, headers, rendering.dumps({"errors": entries}))


async def defer_continue(request: web.Request) -> web.StreamResponse | None:
    """Defer `100 Continue` until the body is read: the `expect_handler` of a route.

    Returns 417 for any other expectation, which only a protocol of aiohttp's lets through.
    """
    if request.headers[hdrs.EXPECT].strip().lower() == "100-continue":
        return None
    return error_response(errors.ExpectationFailed(), RequestIds().of(request.headers))


def is_last(request: web.BaseRequest) -> bool:
    """Return whether no other request of the connection waits for its response."""
    return not request._protocol._messages


def _send(request: web.BaseRequest, data: bytes) -> None:
    transport = request._protocol.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("The client disconnected.")
    transport.write(data)
    request._payload_writer.output_size += len(data)


def _half_close(request: web.BaseRequest) -> None:
    """Signal the end of the response to a client that may still be sending, before the connection is closed."""
    transport = request.transport
    if transport is not None and not request._payload.is_eof() and transport.can_write_eof():
        transport.write_eof()


def _connection(request: web.BaseRequest, keep_alive: bool) -> str:
    if not keep_alive:
        return "Connection: close\r\n"
    return "" if request._version >= HttpVersion11 else "Connection: keep-alive\r\n"


@lru_cache(maxsize=4)
def _common_headers(second: int, server: bool, date: bool) -> str:
    """Return the headers that all responses of one second share; `server` and `date` select those not already set."""
    return f"Server: {SERVER}\r\n" * server + f"Date: {formatdate(second, usegmt=True)}\r\n" * date


class Protocol(RequestHandler):
    """Read the requests of one connection.

    Adds to aiohttp's: limits on the size of a complete head and on the time it takes, errors as JSON, and a timeout
    for clients that do not read.
    """

    __slots__ = (
        *("_body", "_body_deadline", "_body_seen", "_cors", "_deadline", "_failed", "_head_size", "_continue_sent"),
        *("_draining", "_origin", "_pieces", "_received", "_settings", "_stalled_since", "_unsent", "leaves_http"),
        "measures_heads",
    )

    def __init__(
        self, manager: Server, settings: Settings, cors: Cors | None, *, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        # At its own limit, the parser pauses, and then loses what follows an `Upgrade`.
        self._max_msg_queue_size -= 1
        self._cors = cors
        self._origin: str | None = None
        self._pieces = Pieces()
        self._received = b""
        self._settings = settings
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_deadline = inf
        self._body_seen = 0
        self._draining: asyncio.Future[None] | None = None
        self._continue_sent = False
        self._failed = False
        self._head_size = 0
        self._deadline = loop.time() + settings.receive_timeout
        self._unsent = 0
        self._stalled_since = loop.time()
        self.measures_heads = False
        self.leaves_http = False

    def data_received(self, data: bytes) -> None:
        """Parse the data; on a connection with an `Upgrade`, which the service ignores (RFC 9110 §7.8), in pieces.

        aiohttp calls this method without data when it continues to read, which it may stop after any piece.
        """
        if self._failed:
            return
        pieces = self._pieces
        if data:
            pieces.add(data, self._received_body())
        if pieces.divides:
            self._parse_pieces(pieces)
        else:
            self._parse(data)
        self.close_if_served()

    def _parse_pieces(self, pieces: Pieces) -> None:
        # What the parser has kept while it was paused comes first.
        piece = b""
        while True:
            self._parse(piece)
            self.leaves_http = self.leaves_http or pieces.exhausted
            if self._upgraded and not pieces.in_tunnel and self._parser is not None:
                self._parser.set_upgraded(False)
                self._upgraded = False
            is_full = len(self._messages) >= self._max_msg_queue_size
            if not pieces or self._failed or self._reading_paused or is_full:
                return
            piece = pieces.next(self._received_body())

    def _received_body(self) -> int | None:
        """Return how much has been received of the last request's body; None if it is complete."""
        return None if self._body.is_eof() else self._body.total_bytes

    def _parse(self, data: bytes) -> None:
        """Parse data, and check the size of a head that is incomplete.

        The parser does not report where in `data` a head ends. Heads are measured one by one (`measures_heads`) only
        after data that was large enough to contain one that is too large.
        """
        body, requests = self._body, self._request_count
        in_head = body.is_eof()
        super().data_received(data)
        if len(data) > self._settings.max_head >> 2:
            self.measures_heads = True
        if self._request_count != requests:
            self._head_ended(body, data)
        elif in_head and data and not (self._close or self._force_close or self._buffer_paused or self._upgraded):
            self._head_grew(data)

    def _head_ended(self, body: StreamReader, data: bytes) -> None:
        message, payload = self._messages[-1]
        received, self._received = self._received, b""
        self._head_size = 0
        self._deadline = self._body_deadline = inf
        self._continue_sent = False
        self._body = payload
        if isinstance(message, _ErrInfo):
            if not body.is_eof():
                body.set_exception(IncompleteBody())
            self._messages.pop()
            self._received = received + data
            self._fail(message)
        elif not payload.is_eof():
            self._pieces.follow(message)

    def _head_grew(self, data: bytes) -> None:
        self._head_size += len(data)
        if self._cors is not None:
            self._received += data
        if self._head_size > self._settings.max_head >> 2:
            self.measures_heads = True
        if self._head_size > self._settings.max_head:
            self._send_error(errors.HeadersTooLarge)
        elif self._deadline == inf:
            self._deadline = self._loop.time() + self._settings.receive_timeout

    def _send_error(self, kind: type[ApiError]) -> None:
        self._fail(_ErrInfo(status=kind.status, exc=kind(), message=kind.message))

    def _fail(self, error: _ErrInfo) -> None:
        """Queue the response for `error` after those of earlier requests, and ignore all further data.

        It is queued with a body that never ends: so aiohttp continues to read for a while, and a client that is still
        sending can read the response before the connection is closed.
        """
        self._failed = True
        self._deadline = inf
        if self._cors is not None:
            self._origin = parse_origin(self._received)
        self._body = StreamReader(self, 2**16, loop=self._loop)
        self._messages.append((error, self._body))
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def inspect(self, now: float, transport: asyncio.Transport) -> None:
        """Send a client whose head or body is too slow an error, and disconnect one that has stopped reading."""
        if now > self._deadline and self._waiter is not None and not self._waiter.done():
            self._send_error(errors.RequestTimeout)
        self._inspect_body(now)
        unsent = transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._stalled_since = now
        elif now - self._stalled_since > self._settings.receive_timeout:
            log.debug("closed the connection of a client that did not read its response")
            transport.abort()
        self._unsent = unsent

    def _inspect_body(self, now: float) -> None:
        """Limit the time of a body that third-party code reads, and send `100 Continue` for it.

        As in `read_blocks`, each 64 KiB may take `receive_timeout`. That time does not run while no code waits for the
        body, nor once the response has started.
        """
        request, body = self._current_request, self._body
        if request is None or body.is_eof() or body._waiter is None or request.writer.output_size > 0:
            self._body_deadline = inf
            return
        state = request.get(STATE)
        if state is not None and state.receiving:
            return
        if hdrs.EXPECT in request.headers and not self._continue_sent and self.transport is not None:
            self._continue_sent = True
            self.transport.write(CONTINUE)
        if self._body_deadline == inf or body.total_bytes - self._body_seen >= BLOCK_SIZE:
            self._body_deadline, self._body_seen = now + self._settings.receive_timeout, body.total_bytes
        elif now > self._body_deadline:
            body.set_exception(BodyTimeout())

    def resume_writing(self) -> None:
        """Resume writing: the client has read, so the time for it starts anew."""
        super().resume_writing()
        self._unsent = sys.maxsize

    @property
    def _awaits_service(self) -> bool:
        """Return whether a request has arrived in part, or waits for its turn; a response may be the last one."""
        arrives = not self._failed and (self._head_size > 0 or not self._body.is_eof())
        return self._keepalive and not self._close and (bool(self._messages) or arrives)

    def drain(self) -> None:
        """Serve the requests that have begun to arrive, and then close the connection."""
        self._draining = self._loop.create_future()
        self.close_if_served()

    def close_if_served(self) -> None:
        """Close a connection that is drained once all requests have arrived, after the response to the last one."""
        if self._draining is None or self._draining.done() or self._awaits_service:
            return
        self.close()
        self._draining.set_result(None)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - as aiohttp calls it
        """Wait for the requests of this connection; a client that does not send the rest of one in time gets a 408."""
        end = inf if timeout is None else self._loop.time() + timeout
        if self._draining is not None and not self._draining.done():
            seconds = None if timeout is None else timeout - min(_LAST_RESPONSE, timeout / 4)
            await asyncio.wait((self._draining,), timeout=seconds)
            self._refuse_rest()
        # aiohttp waits twice: for the handler, and again after it has aborted the body that is being read; and without
        # end if the time is 0.
        await super().shutdown(max(end - self._loop.time(), 0.01) / 2 if end < inf else None)

    def _refuse_rest(self) -> None:
        if self._head_size and self._waiter is not None and not self._waiter.done():
            self._send_error(errors.RequestTimeout)
        elif not self._body.is_eof():
            self._body.set_exception(BodyTimeout())

    def _process_keepalive(self) -> None:
        # A head that has started has its own deadline.
        if self._deadline != inf:
            self._next_keepalive_close_time = max(self._next_keepalive_close_time, self._deadline + 1)
        super()._process_keepalive()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wake the code that waits for the rest of a body."""
        if self._current_request is None and not self._body.is_eof():
            self._body.set_exception(IncompleteBody())
        super().connection_lost(exc)
        if self._draining is not None and not self._draining.done():
            self._draining.set_result(None)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that could not be parsed or handled, and close the connection after it."""
        if exc is not None and is_disconnected(request, exc):
            raise exc
        server = cast(Server, self._manager)
        state = request.get(STATE)
        request_id = server.ids.of(request.headers) if state is None else state.id
        if request.writer.output_size > 0:
            log.error("request %s failed while its response was sent", request_id, exc_info=exc)
            raise reset_connection(request)
        broken = request.content.exception()
        if status == HTTPStatus.GATEWAY_TIMEOUT and isinstance(broken, IncompleteBody):
            # aiohttp maps every TimeoutError to 504.
            error = body_error(broken)
        else:
            error = malformed.explain(status, exc, self.max_line_size)
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request %s failed", request_id, exc_info=exc)
        # A head that could not be parsed becomes a request without headers.
        origin = request.headers.get(hdrs.ORIGIN) if request.headers else self._origin
        return server.refuse(request, error, request_id, origin)


class Server(web.Server):
    """Create a protocol for each connection, and pass its requests to `app`, except those with a malformed head.

    The `options` are aiohttp's; the limits are those of `settings`. `refusals` counts, by status, the requests that are
    not passed to the application.
    """

    def __init__(
        self, app: web.Application, settings: Settings, ids: RequestIds, refusals: Counter[int], **options: Any
    ) -> None:
        options |= {
            "keepalive_timeout": settings.keepalive_timeout,
            "max_line_size": settings.max_url,
            # Different from the limit of the URL, to distinguish the two errors.
            "max_field_size": max(settings.max_head, settings.max_url + 1),
            "max_headers": malformed.MAX_HEADERS,
            "lingering_time": min(settings.receive_timeout, _MAX_LINGERING),
            "auto_decompress": False,
            # A request is completed even if its client disconnects.
            "handler_cancellation": False,
        }
        super().__init__(cast(Any, self._handle), request_factory=cast(Any, self._make_request), **options)
        self.ids = ids
        self._app = app
        self._refusals = refusals
        self._settings = settings
        self._cors = Cors(settings.cors_origins) if settings.cors_origins else None
        self._period = min(1.0, settings.receive_timeout / 4)
        self._inspection: asyncio.TimerHandle | None = None

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return Protocol(self, self._settings, self._cors, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Add a connection; while there are any, they are inspected periodically."""
        super().connection_made(handler, transport)
        if self._inspection is None:
            self._inspection = self._loop.call_later(self._period, self._inspect)

    def _inspect(self) -> None:
        self._inspection = None
        now = self._loop.time()
        for protocol, transport in list(self._connections.items()):
            cast(Protocol, protocol).inspect(now, transport)
        if self._connections:
            self._inspection = self._loop.call_later(self._period, self._inspect)

    def pre_shutdown(self) -> None:
        """Close the idle connections, and the others once their requests are served."""
        for protocol in list(self._connections):
            cast(Protocol, protocol).drain()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as aiohttp calls it
        """Wait up to `timeout` for the requests that have begun to arrive, and close all connections."""
        await super().shutdown(timeout)
        if self._inspection is not None:
            self._inspection.cancel()

    def _make_request(  # type: ignore[override]  # every protocol is one of ours
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: Protocol,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.Request:
        if message.method == hdrs.METH_CONNECT:
            protocol.leaves_http = True
        protocol.close_if_served()
        url = message.url
        if url.absolute and not url.relative().raw_path:
            # `GET http://example.com` requests the root (RFC 9112 §3.2.2).
            message = message._replace(url=url.with_path("/", keep_query=True))
        return self._app._make_request(message, payload, protocol, writer, task)

    def _handle(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        message = request._message
        protocol = cast(Protocol, request._protocol)
        error = malformed.check(message)
        if protocol.measures_heads and _head_size(message) > self._settings.max_head:
            error = errors.HeadersTooLarge
        return self._app._handle(request) if error is None else self._refuse(request, error)

    async def _refuse(self, request: web.Request, error: type[ApiError]) -> Response:
        return self.refuse(request, error(), self.ids.of(request.headers), request.headers.get(hdrs.ORIGIN))

    def refuse(self, request: web.BaseRequest, error: ApiError, request_id: str, origin: str | None) -> Response:
        """Return the response to a request that is not passed to the application, and close the connection after it."""
        self._refusals[error.status] += 1
        log.debug("request %s from %s was refused: %s", request_id, request.remote, error)
        response = error_response(error, request_id)
        if self._cors is not None:
            self._cors.add_headers(response.headers, origin)
        response.force_close()
        return response


def _head_size(message: RawRequestMessage) -> int:
    fields = sum(len(name) + len(value) + len(": \r\n") for name, value in message.raw_headers)
    return len(message.method) + len(message.path) + len("  HTTP/1.1\r\n\r\n") + fields


def install(app: web.Application, settings: Settings, ids: RequestIds, refusals: Counter[int]) -> None:
    """Make every runner of aiohttp's serve `app` by `Protocol`."""

    def make_handler(*, loop: asyncio.AbstractEventLoop | None = None, **options: Any) -> Server:
        app._set_loop(loop)
        app.freeze()
        return Server(app, settings, ids, refusals, loop=app._loop, **options)

    # aiohttp warns when an application gets a custom attribute; this one replaces its own.
    object.__setattr__(app, "_make_handler", make_handler)
