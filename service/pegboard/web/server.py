"""The server: connections, what they may cost, and the errors that are told before there is a request."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from itertools import count
from math import inf
from secrets import token_hex
from time import perf_counter
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from multidict import istr

from pegboard import errors
from pegboard.errors import ApiError, ErrorCode
from pegboard.settings import Settings
from pegboard.web import tracecontext
from pegboard.web.cors import Cors, origin_of
from pegboard.web.http import BrokenBody, Request, Response, error_response

Pipeline = Callable[[Request], Awaitable[Response]]
PIPELINE: web.AppKey[Pipeline] = web.AppKey("pipeline")
"""Where an application holds what answers its requests; to be there when its start is over."""
REFUSALS: web.AppKey[Counter[int]] = web.AppKey("refusals", Counter)
"""Where an application may have counted, by status, what never came to its pipeline."""

log = logging.getLogger("pegboard")

_X_REQUEST_ID = istr("X-Request-Id")
_TRACEPARENT = istr("traceparent")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch
_REQUEST_LINE = re.compile(r"""b['"][!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/\d\.\d['"]""").search

_LONGEST_LINGERING = 10.0
_MOST_HEADERS = 128

_FAULTS: tuple[tuple[str, ErrorCode, str | None], ...] = (
    ("Invalid HTTP version", errors.HTTP_VERSION, None),
    ("PRI", errors.HTTP_VERSION, None),
    ("Too many headers", errors.HEAD_TOO_LARGE, f"More than {_MOST_HEADERS} headers."),
    ("Missing 'Host'", errors.BAD_REQUEST, "The Host header is missing."),
    ("Duplicate", errors.BAD_REQUEST, "A header that may stand only once is there twice."),
    ("can't be present with", errors.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other."),
    ("Transfer-Encoding", errors.BAD_REQUEST, "Transfer-Encoding can only be chunked."),
    ("Content-Length", errors.BAD_REQUEST, "Content-Length is not a number that can be used."),
    ("chunk", errors.BAD_REQUEST, "The body is not framed as HTTP asks."),
    ("header", errors.BAD_REQUEST, "A header has a name or a value that is not allowed in HTTP."),
    ("url", errors.BAD_REQUEST, "The target of the request is not a URL."),
)
"""What a reason of the parser means, read from top to bottom."""


class Protocol(RequestHandler):
    """Read the requests of one connection.

    Adds to aiohttp's: limits on the size of a whole head and on the time it takes, errors told as JSON, and an
    end for clients that do not read.
    """

    __slots__ = (
        *("_body", "_cors", "_deadline", "_failed", "_head_size", "_origin", "_received", "_settings"),
        *("_stalled_since", "_unsent", "measures"),
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
        self._failed = False
        self._head_size = 0
        self._deadline = loop.time() + settings.receive_timeout
        self._unsent = 0
        self._stalled_since = loop.time()
        self.measures = False

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
        self._deadline = inf
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
            self._tell(errors.HEAD_TOO_LARGE)
        elif self._deadline == inf:
            self._deadline = self._loop.time() + self._settings.receive_timeout

    def _tell(self, kind: ErrorCode) -> None:
        self._fail(_ErrInfo(status=kind.status, exc=ApiError(kind), message=kind.message))

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
        """Tell a client whose head is too slow, and cut one that has stopped reading."""
        if now > self._deadline and self._waiter is not None and not self._waiter.done():
            self._tell(errors.TOO_SLOW)
        unsent = transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._stalled_since = now
        elif now - self._stalled_since > self._settings.receive_timeout:
            log.debug("cut a client that did not read")
            transport.abort()
        self._unsent = unsent

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

    def handle_error(  # type: ignore[override]  # its answer is written in our own way
        self, request: Request, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Response:
        """Return the answer to what could not be parsed, or whose handling failed; the connection ends with it."""
        if isinstance(exc, ConnectionError) and request.transport is None:
            raise exc
        if request.writer.output_size > 0:
            log.error("request %s failed while its answer was sent", request.id, exc_info=exc)
            request.cut()
            raise ConnectionResetError("The answer was broken off.")
        request.closing = True
        error = self._told(status, exc)
        cast(Server, self._manager).refusals[error.status] += 1
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request %s failed", request.id, exc_info=exc)
        else:
            log.debug("request %s from %s was refused: %s", request.id, request.remote, error)
        answer = error_response(error, request.id)
        if self._cors is not None:
            # What could not be parsed comes as a request without headers.
            self._cors.tell(answer.headers, request.headers.get(hdrs.ORIGIN) if request.headers else self._origin)
        return answer

    def _told(self, status: int, exc: BaseException | None) -> ApiError:
        if isinstance(exc, ApiError):
            return exc
        if isinstance(exc, LineTooLong):
            too_long = exc.args[1] == self.max_line_size
            return ApiError(errors.URL_TOO_LONG if too_long else errors.HEAD_TOO_LARGE)
        if isinstance(exc, HttpProcessingError):
            return _parsing_error(exc)
        return ApiError(errors.TIMED_OUT if status == HTTPStatus.GATEWAY_TIMEOUT else errors.INTERNAL)


def _parsing_error(exc: HttpProcessingError) -> ApiError:
    """Return what to tell for a fault of the parser, whose own words repeat what was sent."""
    if isinstance(exc, BadHttpMethod):
        known = _REQUEST_LINE(exc.message) is not None
        return ApiError(errors.METHOD_NOT_IMPLEMENTED if known else errors.BAD_REQUEST)
    reason = exc.message.partition("\n\n")[0]
    for part, kind, message in _FAULTS:
        if part in reason and isinstance(exc, BadHttpMessage):
            return ApiError(kind, message)
    return ApiError(errors.BAD_REQUEST)


class Server(web.Server):
    """Make a protocol for each connection and a `Request` of each message, and answer it with `pipeline`."""

    def __init__(self, pipeline: Pipeline, settings: Settings, refusals: Counter[int]) -> None:
        super().__init__(
            cast(Any, self._handle),
            keepalive_timeout=settings.keepalive_timeout,
            max_line_size=settings.max_url,
            # Apart from the limit of the URL, by which the two faults are told apart.
            max_field_size=max(settings.max_head, settings.max_url + 1),
            max_headers=_MOST_HEADERS,
            lingering_time=min(settings.receive_timeout, _LONGEST_LINGERING),
            auto_decompress=False,
            access_log=None,
        )
        self.refusals = refusals
        self._pipeline = pipeline
        self._settings = settings
        self._cors = Cors(settings.cors_origins) if settings.cors_origins else None
        self._prefix = token_hex(5)
        self._numbers = count(1)
        self._period = min(1.0, settings.receive_timeout / 4)
        self._inspection: asyncio.TimerHandle | None = None
        self.draining = False
        """Whether each answer is the last one of its connection, so that clients go elsewhere."""

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
    ) -> Request:
        settings = self._settings
        request = Request(message, payload, protocol, writer, task, self._loop, client_max_size=settings.max_body)
        supplied = message.headers.get(_X_REQUEST_ID)
        if supplied is not None and _SANE_ID(supplied):
            request.id = supplied
        else:
            request.id = f"{self._prefix}-{next(self._numbers):x}"
        if _TRACEPARENT in message.headers:
            request.traceparent = tracecontext.parse(message.headers.getall(_TRACEPARENT))
        request.received = perf_counter()
        request.receive_timeout = settings.receive_timeout
        if message.upgrade:
            request.closing = _leaves_http(message)
        if self.draining:
            request.closing = True
        fault = _fault(message)
        if protocol.measures and _head_size(message) > settings.max_head:
            fault = errors.HEAD_TOO_LARGE
        if fault is not None:
            request.fault = fault
        return request

    def _handle(self, request: Request) -> Awaitable[Response]:
        return self._pipeline(request) if request.fault is None else self._refuse(request, request.fault)

    async def _refuse(self, request: Request, fault: ErrorCode) -> Response:
        request.closing = True
        self.refusals[fault.status] += 1
        log.debug("request %s from %s was refused: %s", request.id, request.remote, fault.message)
        answer = error_response(ApiError(fault), request.id)
        if self._cors is not None:
            self._cors.tell(answer.headers, request.headers.get(hdrs.ORIGIN))
        return answer


def _fault(message: RawRequestMessage) -> ErrorCode | None:
    """Return what is wrong with a head that the parser took."""
    headers = message.headers
    if message.version is not HttpVersion11 and message.version is not HttpVersion10:
        return errors.HTTP_VERSION
    if not _HOST(headers.get(hdrs.HOST, "")):
        return errors.BAD_REQUEST
    if message.chunked and (
        message.version is HttpVersion10 or headers.get(hdrs.TRANSFER_ENCODING, "").lower() != "chunked"
    ):
        return errors.BAD_REQUEST
    expectation = headers.get(hdrs.EXPECT)
    if expectation is not None and expectation.lower() != "100-continue":
        return errors.EXPECTATION
    return None


def _leaves_http(message: RawRequestMessage) -> bool:
    """Return whether what follows `message` is kept back by aiohttp, as it may be no HTTP: for `h2c` it is not."""
    wanted = message.headers.get(hdrs.UPGRADE, "").lower()
    return message.method == hdrs.METH_CONNECT or wanted in ("websocket", "tcp")


def _head_size(message: RawRequestMessage) -> int:
    fields = sum(len(name) + len(value) + len(": \r\n") for name, value in message.raw_headers)
    return len(message.method) + len(message.path) + len("  HTTP/1.1\r\n\r\n") + fields


class Runner(web.AppRunner):
    """Start and stop an application whose requests are answered by what it holds under `PIPELINE`."""

    __slots__ = ("_settings",)

    def __init__(self, app: web.Application, settings: Settings, *, handle_signals: bool = False) -> None:
        super().__init__(app, shutdown_timeout=settings.shutdown_timeout, handle_signals=handle_signals)
        self._settings = settings

    async def _make_server(self) -> web.Server:
        # Only to start the application: the server that comes of it would take every request through a router.
        await super()._make_server()
        return Server(self._app[PIPELINE], self._settings, self._app.get(REFUSALS, Counter()))
