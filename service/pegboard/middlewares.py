"""The middlewares: request id and log, errors, preflight requests, grants, the limits of plugins, the replica."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from time import perf_counter

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from marshmallow import ValidationError
from multidict import istr

from pegboard import errors
from pegboard.endpoints.table import Table
from pegboard.errors import ApiError
from pegboard.http import compression, tracecontext
from pegboard.http.cors import Cors
from pegboard.http.protocol import Response, error_response, is_last
from pegboard.http.request import (
    STATE,
    IncompleteBody,
    Limits,
    RequestIds,
    RequestState,
    awaits_continue,
    body_read_error,
    is_disconnected,
    reset_connection,
)
from pegboard.postgres import database
from pegboard.postgres.database import Database
from pegboard.schema import schema
from pegboard.telemetry import logs
from pegboard.telemetry.traffic import Traffic

log = logging.getLogger("pegboard")

_TRACEPARENT = istr("traceparent")
_X_REQUEST_ID = istr("X-Request-Id")
_NOSNIFF = istr("X-Content-Type-Options")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def observe(
    table: Table, ids: RequestIds, limits: Limits, traffic: Traffic, is_draining: Callable[[], bool]
) -> Middleware:
    """Return the middleware that creates the state of each request, and counts and logs it."""

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        request[STATE] = state = RequestState(ids.of(headers), limits, table.path_of(request))
        if _TRACEPARENT in headers:
            state.traceparent = tracecontext.parse(headers.getall(_TRACEPARENT))
        traffic.running += 1
        try:
            response = await handler(request)
        except BaseException:
            traffic.aborted += 1
            raise
        finally:
            traffic.running -= 1
        if response.prepared:
            record(request, state, response.status, request.writer.output_size)
            return response
        if state.closing or hdrs.EXPECT in headers or (is_draining() and is_last(request)):
            _end_connection(request, response)
        if type(response) is Response:
            size = response.size
            if size > compression.THRESHOLD or response.status == HTTPStatus.NOT_MODIFIED:
                size = await compression.apply(request, response)
            record(request, state, response.status, 0 if request.method == "HEAD" else size)
        else:
            # aiohttp's FileResponse has its status only once it is prepared.
            state.record = partial(record, request, state)
        return response

    def record(request: web.Request, state: RequestState, status: int, size: int) -> None:
        seconds = perf_counter() - state.received
        traffic.count(state, request.method, status, seconds, size)
        if logs.access.isEnabledFor(logging.INFO):
            logs.log_request(state, request.method, status, seconds, size)

    return observe


def _end_connection(request: web.Request, response: web.StreamResponse) -> None:
    """Close the connection after this response, unless the client sent `Expect` and then the complete body."""
    if request[STATE].closing or awaits_continue(request) or hdrs.EXPECT not in request.headers:
        response.force_close()


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every response has; a receiver of aiohttp's signal `on_response_prepare`.

    The response of a middleware outside of ours is left unchanged.
    """
    state = request.get(STATE)
    if state is None:
        return
    if state.record is not None:
        state.record(response.status, 0 if request.method == "HEAD" else response.content_length or 0)
        state.record = None
    headers = response.headers
    headers[_X_REQUEST_ID] = state.id
    headers.setdefault(_NOSNIFF, "nosniff")
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


def preflight(policy: Cors) -> Middleware:
    """Return the middleware that responds to CORS preflight requests, which never have credentials."""

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = policy.preflight(request)
        return await handler(request) if headers is None else Response(204, headers)

    return preflight


@web.middleware
async def handle_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn any exception into an error response.

    Once a response has started, no other can be sent: the connection is reset.
    """
    http_exception = None
    try:
        response = await handler(request)
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"a handler or a middleware returned {response!r:.100}, which is not a response")
        return response
    except ApiError as error:
        api_error = error
    except web.HTTPException as error:
        if error.status < 400:
            return _raised_response(error)
        api_error, http_exception = _from_http_exception(error), error
    except Exception as error:
        if is_disconnected(request, error):
            raise
        api_error = _from_exception(request, error)
    if request.writer.output_size > 0:
        raise reset_connection(request) from api_error
    response = error_response(api_error, request[STATE].id)
    return response if http_exception is None else _with_headers(response, http_exception)


def _raised_response(error: web.HTTPException) -> Response:
    """Return the response for an exception that is not an error; a redirect has no body."""
    if error.status >= 300:
        return _with_headers(Response(error.status, {}), error)
    body = error.body if isinstance(error.body, bytes) else b""
    content_type = error.headers.get(hdrs.CONTENT_TYPE)
    return _with_headers(Response(error.status, {hdrs.CONTENT_TYPE: content_type} if content_type else {}, body), error)


def _with_headers(response: Response, error: web.HTTPException) -> Response:
    """Return `response` with the headers and cookies of `error`, except the headers of its body."""
    names = {name for name in error.headers if name.lower() not in _BODY_HEADERS}
    for name in names:
        response.headers.popall(name, None)
        response.headers.extend((name, value) for value in error.headers.getall(name))
    for cookie in error.cookies.values():
        response.headers.add(hdrs.SET_COOKIE, cookie.OutputString())
    return response


_BODY_HEADERS = ("content-type", "content-length")
_MAX_MESSAGE = 500
_BY_STATUS = {
    error.status: error
    for error in (
        *(errors.BadRequest, errors.NotAuthenticated, errors.Forbidden, errors.NotFound, errors.MethodNotAllowed),
        *(
            errors.NotAcceptable,
            errors.RequestTimeout,
            errors.Conflict,
            errors.LengthRequired,
            errors.PreconditionFailed,
        ),
        *(
            errors.BodyTooLarge,
            errors.UrlTooLong,
            errors.UnsupportedMediaType,
            errors.RangeNotSatisfiable,
            errors.ExpectationFailed,
        ),
        *(errors.InvalidValue, errors.PreconditionRequired, errors.TooManyRequests, errors.HeadersTooLarge),
        *(errors.InternalError, errors.MethodNotImplemented, errors.Busy, errors.TimedOut),
    )
}
"""The error for each status that aiohttp or third-party code may raise."""


def _from_http_exception(error: web.HTTPException) -> ApiError:
    """Return the API error for an exception of aiohttp's; its message is the exception's body, if that has one."""
    error_class = _BY_STATUS.get(error.status) or (errors.InternalError if error.status >= 500 else errors.BadRequest)
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else ""
    has_message = error.status < 500 and body not in ("", f"{error.status}: {error.reason}")
    api_error = error_class(body[:_MAX_MESSAGE] if has_message else f"{error.reason}.")
    api_error.status = error.status
    return api_error


def _from_exception(request: web.Request, error: Exception) -> ApiError:
    state = request[STATE]
    translated: Exception | None
    if isinstance(error, ValidationError):
        translated = schema.invalid(error)
    elif isinstance(error, IncompleteBody | web.RequestPayloadError):
        translated = body_read_error(request, error)
    else:
        translated = database.translate(error)
    if not isinstance(translated, ApiError):
        plugin = state.path.plugin
        log.error("request %s failed%s", state.id, f" in {plugin}" * bool(plugin), exc_info=error)
        translated = errors.InternalError()
    elif translated.status >= 500:
        log.warning("request %s: %s", state.id, type(error).__name__)
    return translated


@web.middleware
def authorize(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Find the endpoint, and check that the client holds the grants that it requires.

    Raises `ApiError` 501, 503, 404, 405 and 403, in this order.
    """
    state = request[STATE]
    path = state.path
    if path.foreign:
        return handler(request)
    state.endpoint = endpoint = path.endpoint(request)
    for sufficing in endpoint.access.grants:
        if state.client.grants.isdisjoint(sufficing):
            raise errors.Forbidden
    return handler(request)


@web.middleware
def enforce_plugin_limits(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Handle the request within its plugin's limits: concurrent requests, and time for each."""
    bulkhead = request[STATE].path.bulkhead
    if bulkhead is None or request.method == "OPTIONS":
        return handler(request)
    response: Awaitable[web.StreamResponse] = bulkhead.serve(request, handler)
    return response


def wait_for_replica(database: Database) -> Middleware:
    """Return the middleware that delays the response to a write until reads in every process see the write."""

    @web.middleware
    async def wait_for_replica(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method not in _SAFE_METHODS:
            await database.wait_until_visible()
        return response

    return wait_for_replica
