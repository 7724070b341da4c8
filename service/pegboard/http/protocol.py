"""What aiohttp does not offer: limits on heads and on slow clients, errors told as JSON, responses in one piece.

This is the one module that uses aiohttp's private names, tried with aiohttp 3.14.5. tests/http/test_private_names.py
lists them and fails when one changes, tests/http/test_server.py when one does something else. Without this protocol,
below somebody else's application, a `Response` is written by aiohttp itself.
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
from pegboard.http.cors import Cors, origin_of
from pegboard.http.request import (
    BLOCK,
    CONTINUE,
    STATE,
    BrokenBody,
    RequestIds,
    SlowBody,
    is_gone,
    reset,
    told_of,
)
from pegboard.settings import Settings

log = logging.getLogger("pegboard")

SERVER = "Pegboard"
_LONGEST_LINGERING = 10.0
_AT_ONCE = 64 * 1024
_BODILESS = frozenset((204, 304))
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_SHARED = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
_SENDABLE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*").fullmatch
_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n" for status, reason in _REASONS.items()}


class Response(web.Response):
    """Hold one response whose body is bytes.

    On a connection of ours it is written in one piece, once `on_response_prepare` has had its say; elsewhere, or where
    somebody has it compressed or chunked, as aiohttp writes any other.
    """

    _zlib_executor_size = 1024
    _zlib_executor = None

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        # What aiohttp's constructors come to, for bytes.
        self._state = {}
        self._headers = CIMultiDict(headers)
        self._status = status
        self._reason = _REASONS.get(status, "")
        self._body = body

    @property
    def size(self) -> int:
        """Return how many bytes the body has."""
        return len(cast(bytes, self._body))

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the response to `request`; one with a header that cannot be sent is replaced by 500."""
        protocol = request._protocol
        if (
            type(protocol) is not Protocol
            or self._eof_sent
            or self._compression
            or self._chunked
            or type(self._body) is not bytes
        ):
            return await super().prepare(request)
        # As aiohttp's `_prepare_hook` does, in fewer steps.
        if isinstance(request, web.Request) and request._match_info is not None:
            for app in request._match_info._apps:
                for receiver in app._on_response_prepare:
                    await receiver(request, self)
        if self._keep_alive is None:
            self._keep_alive = not (
                request._message.should_close or protocol._close or protocol._force_close or protocol.ends
            )
        try:
            head = self._head(request)
        except ValueError as error:
            self._replace(request, error)
            head = self._head(request)
        body = b"" if request._method == "HEAD" or self._status in _BODILESS else self._body
        self._eof_sent = True
        self._body_length = len(body)
        if len(body) <= _AT_ONCE:
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
            raise ValueError("a header holds a line break or a NUL")
        line = _STATUS_LINES.get(self._status)
        if line is None or self._reason is not _REASONS[self._status]:
            line = f"HTTP/1.1 {self._status} {self._reason}\r\n"
        stamp = _stamp(int(time()), hdrs.SERVER not in headers, hdrs.DATE not in headers)
        return f"{line}{stamp}{fields}{framing}\r\n".encode("latin-1")

    def _replace(self, request: web.BaseRequest, error: ValueError) -> None:
        """Become the 500 that is sent in place of a head that cannot be; pages of other origins may read it as well."""
        state = request.get(STATE)
        known = RequestIds().of(request.headers) if state is None else state.id
        log.error("request %s: its response has a header that cannot be sent", known, exc_info=error)
        other = error_response(errors.InternalError(), known)
        shared = {name: value for name in _SHARED if (value := self._headers.get(name)) and _SENDABLE(value)}
        self._status, self._reason, self._body = other._status, other._reason, other._body
        self._headers, self._cookies = CIMultiDict({**other._headers, **shared}), None


def error_response(error: ApiError, request_id: str) -> Response:
    """Return the response that tells `error`; one of 500 and above names the request, for whoever reads the log."""
    entries = [fault.as_json() for fault in error.details]
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


async def leave_expectation(request: web.Request) -> web.StreamResponse | None:
    """Be the `expect_handler` of a route: who waits for `100 Continue` gets it when the body is read, if it is.

    Returns 417 for any other expectation, which comes here only where the protocol is not ours.
    """
    if request.headers[hdrs.EXPECT].strip().lower() == "100-continue":
        return None
    return error_response(errors.ExpectationFailed(), RequestIds().of(request.headers))


def _send(request: web.BaseRequest, data: bytes) -> None:
    transport = request._protocol.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("The client went away.")
    transport.write(data)
    request._payload_writer.output_size += len(data)


def _half_close(request: web.BaseRequest) -> None:
    """Tell a client that may still be sending that its response is complete, before the connection ends."""
    transport = request.transport
    if transport is not None and not request._payload.is_eof() and transport.can_write_eof():
        transport.write_eof()


def _connection(request: web.BaseRequest, keep_alive: bool) -> str:
    if not keep_alive:
        return "Connection: close\r\n"
    return "" if request._version >= HttpVersion11 else "Connection: keep-alive\r\n"


@lru_cache(maxsize=4)
def _stamp(second: int, server: bool, date: bool) -> str:
    """Return the headers that are the same for every response of one second, of which somebody may have set one."""
    return f"Server: {SERVER}\r\n" * server + f"Date: {formatdate(second, usegmt=True)}\r\n" * date


class Protocol(RequestHandler):
    """Read the requests of one connection.

    Adds to aiohttp's: limits on the size of a whole head and on the time it takes, errors told as JSON, and an
    end for clients that do not read.
    """

    __slots__ = (
        *("_body", "_body_deadline", "_body_seen", "_cors", "_deadline", "_failed", "_head_size", "_invited"),
        *("_origin", "_received", "_settings", "_stalled_since", "_unsent", "ends", "measures"),
    )

    def __init__(
        self, manager: Server, settings: Settings, cors: Cors | None, *, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        self._cors = cors
        self._origin: str | None = None
        self._received = b""
        self._settings = settings
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_deadline = inf
        self._body_seen = 0
        self._invited = False
        self._failed = False
        self._head_size = 0
        self._deadline = loop.time() + settings.receive_timeout
        self._unsent = 0
        self._stalled_since = loop.time()
        self.measures = False
        self.ends = False

    def data_received(self, data: bytes) -> None:
        """Parse what came, and watch how the head that is being received grows.

        The parser does not say where in `data` a head ends. So heads are measured one by one (`measures`) only
        once something came that was large enough to hide one that is too large.
        """
        if self._failed:
            return
        body, requests = self._body, self._request_count
        in_head = body.is_eof()
        super().data_received(data)
        if len(data) > self._settings.max_head >> 2:
            self.measures = True
        if self._request_count != requests:
            self._head_ended(body, data)
        elif in_head and data and not (self._close or self._force_close or self._buffer_paused or self._upgraded):
            self._head_grew(data)

    def _head_ended(self, body: StreamReader, data: bytes) -> None:
        message, payload = self._messages[-1]
        received, self._received = self._received, b""
        self._head_size = 0
        self._deadline = self._body_deadline = inf
        self._invited = False
        self._body = payload
        if isinstance(message, _ErrInfo):
            if not body.is_eof():
                body.set_exception(BrokenBody())
            self._messages.pop()
            self._received = received + data
            self._fail(message)

    def _head_grew(self, data: bytes) -> None:
        self._head_size += len(data)
        if self._cors is not None:
            self._received += data
        if self._head_size > self._settings.max_head >> 2:
            self.measures = True
        if self._head_size > self._settings.max_head:
            self._tell(errors.HeadersTooLarge)
        elif self._deadline == inf:
            self._deadline = self._loop.time() + self._settings.receive_timeout

    def _tell(self, kind: type[ApiError]) -> None:
        self._fail(_ErrInfo(status=kind.status, exc=kind(), message=kind.message))

    def _fail(self, error: _ErrInfo) -> None:
        """Have `error` told after the answers that are due before it, and take nothing more.

        It comes with a body that never ends: so aiohttp goes on reading for a while, and the client, which may still be
        sending, is not cut off before it has read what was wrong.
        """
        self._failed = True
        self._deadline = inf
        if self._cors is not None:
            self._origin = origin_of(self._received)
        self._body = StreamReader(self, 2**16, loop=self._loop)
        self._messages.append((error, self._body))
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def inspect(self, now: float, transport: asyncio.Transport) -> None:
        """Tell a client whose head or body is too slow, and cut one that has stopped reading."""
        if now > self._deadline and self._waiter is not None and not self._waiter.done():
            self._tell(errors.RequestTimeout)
        self._inspect_body(now)
        unsent = transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._stalled_since = now
        elif now - self._stalled_since > self._settings.receive_timeout:
            log.debug("closed the connection of a client that did not read its response")
            transport.abort()
        self._unsent = unsent

    def _inspect_body(self, now: float) -> None:
        """Bound the time of a body that a middleware or a handler of somebody else's reads, and ask for it.

        As in `read_blocks`, each 64 KiB have their time. It does not run while nobody waits for the body, nor once the
        response has begun.
        """
        request, body = self._current_request, self._body
        if request is None or body.is_eof() or body._waiter is None or request.writer.output_size > 0:
            self._body_deadline = inf
            return
        state = request.get(STATE)
        if state is not None and state.receiving:
            return
        if hdrs.EXPECT in request.headers and not self._invited and self.transport is not None:
            self._invited = True
            self.transport.write(CONTINUE)
        if self._body_deadline == inf or body.total_bytes - self._body_seen >= BLOCK:
            self._body_deadline, self._body_seen = now + self._settings.receive_timeout, body.total_bytes
        elif now > self._body_deadline:
            body.set_exception(SlowBody())

    def resume_writing(self) -> None:
        """Go on writing: the client reads, whatever is written to it next."""
        super().resume_writing()
        self._unsent = sys.maxsize

    def _process_keepalive(self) -> None:
        # A head that has begun has its own time.
        if self._deadline != inf:
            self._next_keepalive_close_time = max(self._next_keepalive_close_time, self._deadline + 1)
        super()._process_keepalive()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wake whoever waits for the rest of a body."""
        if self._current_request is None and not self._body.is_eof():
            self._body.set_exception(BrokenBody())
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to what could not be parsed, or whose handling failed; the connection ends with it."""
        if exc is not None and is_gone(request, exc):
            raise exc
        server = cast(Server, self._manager)
        state = request.get(STATE)
        known = server.ids.of(request.headers) if state is None else state.id
        if request.writer.output_size > 0:
            log.error("request %s failed while its response was sent", known, exc_info=exc)
            raise reset(request)
        broken = request.content.exception()
        if status == HTTPStatus.GATEWAY_TIMEOUT and isinstance(broken, BrokenBody):
            # To aiohttp it is any other TimeoutError.
            error = told_of(broken)
        else:
            error = malformed.explain(status, exc, self.max_line_size)
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request %s failed", known, exc_info=exc)
        # What could not be parsed comes as a request without headers.
        origin = request.headers.get(hdrs.ORIGIN) if request.headers else self._origin
        return server.refuse(request, error, known, origin)


class Server(web.Server):
    """Make a protocol for each connection, and let `app` answer what comes of it but for heads that are not sound.

    Each of `options` is one of aiohttp's; the limits are those of `settings`. `refusals` counts, by status, what never
    comes to the application.
    """

    def __init__(
        self, app: web.Application, settings: Settings, ids: RequestIds, refusals: Counter[int], **options: Any
    ) -> None:
        options |= {
            "keepalive_timeout": settings.keepalive_timeout,
            "max_line_size": settings.max_url,
            # Apart from the limit of the URL, by which the two errors are told apart.
            "max_field_size": max(settings.max_head, settings.max_url + 1),
            "max_headers": malformed.MOST_HEADERS,
            "lingering_time": min(settings.receive_timeout, _LONGEST_LINGERING),
            "auto_decompress": False,
            # What was begun is done as a whole, whether its client waits for it or not.
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
        """Take a connection in; while there are any, they are inspected."""
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

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as aiohttp calls it
        """Let the requests under way end within `timeout`, and close all connections."""
        # aiohttp waits twice: for the handler, and once more after it has cut off the body that is being read.
        await super().shutdown(None if timeout is None else timeout / 2)
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
        if message.upgrade:
            protocol.ends = _leaves_http(message)
        url = message.url
        if url.absolute and not url.relative().raw_path:
            # `GET http://elsewhere` asks for the root (RFC 9112 §3.2.2).
            message = message._replace(url=url.with_path("/", keep_query=True))
        return self._app._make_request(message, payload, protocol, writer, task)

    def _handle(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        message = request._message
        protocol = cast(Protocol, request._protocol)
        error = malformed.check(message)
        if protocol.measures and _head_size(message) > self._settings.max_head:
            error = errors.HeadersTooLarge
        return self._app._handle(request) if error is None else self._refuse(request, error)

    async def _refuse(self, request: web.Request, error: type[ApiError]) -> Response:
        return self.refuse(request, error(), self.ids.of(request.headers), request.headers.get(hdrs.ORIGIN))

    def refuse(self, request: web.BaseRequest, error: ApiError, known: str, origin: str | None) -> Response:
        """Return the response to a request that never comes to the application; the connection ends with it."""
        self._refusals[error.status] += 1
        log.debug("request %s from %s was refused: %s", known, request.remote, error)
        response = error_response(error, known)
        if self._cors is not None:
            self._cors.add_headers(response.headers, origin)
        response.force_close()
        return response


def _leaves_http(message: RawRequestMessage) -> bool:
    """Return whether what follows `message` is kept back by aiohttp, as it may be no HTTP: for `h2c` it is not."""
    wanted = message.headers.get(hdrs.UPGRADE, "").lower()
    return message.method == hdrs.METH_CONNECT or wanted in ("websocket", "tcp")


def _head_size(message: RawRequestMessage) -> int:
    fields = sum(len(name) + len(value) + len(": \r\n") for name, value in message.raw_headers)
    return len(message.method) + len(message.path) + len("  HTTP/1.1\r\n\r\n") + fields


def install(app: web.Application, settings: Settings, ids: RequestIds, refusals: Counter[int]) -> None:
    """Have `app` served by our protocol, whichever of aiohttp's runners serves it."""

    def make_handler(*, loop: asyncio.AbstractEventLoop | None = None, **options: Any) -> Server:
        app._set_loop(loop)
        app.freeze()
        return Server(app, settings, ids, refusals, loop=app._loop, **options)

    # Past aiohttp's warning against attributes of one's own, which this is not.
    object.__setattr__(app, "_make_handler", make_handler)
