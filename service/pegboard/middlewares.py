"""The way of every request: request id and log, errors, authentication, grants, the plugin's bulkhead."""

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
from pegboard.http.protocol import Response, error_response
from pegboard.http.request import (
    STATE,
    BrokenBody,
    Limits,
    RequestIds,
    RequestState,
    awaits_continue,
    broken_body,
    is_gone,
    reset,
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
_READING = ("GET", "HEAD", "OPTIONS")


def observe(
    table: Table, ids: RequestIds, limits: Limits, traffic: Traffic, is_draining: Callable[[], bool]
) -> Middleware:
    """Return the middleware that gives each request its state, and counts and logs it."""

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
            account(request, state, response.status, request.writer.output_size)
            return response
        if state.closing or hdrs.EXPECT in headers or is_draining():
            _end_connection(request, response)
        if type(response) is Response:
            size = response.size
            if size > compression.FROM or response.status == HTTPStatus.NOT_MODIFIED:
                size = await compression.apply(request, response)
            account(request, state, response.status, 0 if request.method == "HEAD" else size)
        else:
            # A file of aiohttp's knows its status only when it begins.
            state.account = partial(account, request, state)
        return response

    def account(request: web.Request, state: RequestState, status: int, size: int) -> None:
        seconds = perf_counter() - state.received
        traffic.count(state, request.method, status, seconds, size)
        if logs.access.isEnabledFor(logging.INFO):
            logs.tell(state, request.method, status, seconds, size)

    return observe


def _end_connection(request: web.Request, response: web.StreamResponse) -> None:
    """Let the connection end with this response, unless it was only asked whether the body should come, and it has."""
    if request[STATE].closing or awaits_continue(request) or hdrs.EXPECT not in request.headers:
        response.force_close()


async def complete(request: web.Request, response: web.StreamResponse) -> None:
    """Add to a response what every response has; one of aiohttp's signals `on_response_prepare`.

    What a middleware before ours has answered by itself is left to it.
    """
    state = request.get(STATE)
    if state is None:
        return
    if state.account is not None:
        state.account(response.status, 0 if request.method == "HEAD" else response.content_length or 0)
        state.account = None
    headers = response.headers
    headers[_X_REQUEST_ID] = state.id
    headers.setdefault(_NOSNIFF, "nosniff")
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


def cross_origin(policy: Cors) -> Middleware:
    """Return the middleware that answers preflight requests, which never have credentials."""

    @web.middleware
    async def cross_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = policy.preflight(request)
        return await handler(request) if headers is None else Response(204, headers)

    return cross_origin


@web.middleware
async def tell_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into the error body that every client knows.

    Once a response has begun, there is nothing to be told any more: the connection is reset.
    """
    raised = None
    try:
        response = await handler(request)
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"a handler or a middleware returned {response!r:.100}, which is no response")
        return response
    except ApiError as error:
        known = error
    except web.HTTPException as error:
        if error.status < 400:
            return _unraised(error)
        known, raised = _of_aiohttp(error), error
    except Exception as error:
        if is_gone(request, error):
            raise
        known = _translated(request, error)
    if request.writer.output_size > 0:
        raise reset(request) from known
    told = error_response(known, request[STATE].id)
    return told if raised is None else _with_headers(told, raised)


def _unraised(error: web.HTTPException) -> Response:
    """Return a response that was raised; a redirect has no body."""
    if error.status >= 300:
        return _with_headers(Response(error.status, {}), error)
    body = error.body if isinstance(error.body, bytes) else b""
    kind = error.headers.get(hdrs.CONTENT_TYPE)
    return _with_headers(Response(error.status, {hdrs.CONTENT_TYPE: kind} if kind else {}, body), error)


def _with_headers(response: Response, error: web.HTTPException) -> Response:
    """Return `response` with the headers and cookies of `error`, but for those of its body."""
    names = {name for name in error.headers if name.lower() not in _OF_BODIES}
    for name in names:
        response.headers.popall(name, None)
        response.headers.extend((name, value) for value in error.headers.getall(name))
    for cookie in error.cookies.values():
        response.headers.add(hdrs.SET_COOKIE, cookie.OutputString())
    return response


_OF_BODIES = ("content-type", "content-length")
_LONGEST_MESSAGE = 500
_KINDS = {
    code.status: code
    for code in (
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
"""The code that tells a status which aiohttp, or a handler of somebody else's, has raised."""


def _of_aiohttp(error: web.HTTPException) -> ApiError:
    """Return the error that tells what somebody else has raised; what they say of it themselves is its message."""
    kind = _KINDS.get(error.status) or (errors.InternalError if error.status >= 500 else errors.BadRequest)
    own = error.body.decode(errors="replace") if isinstance(error.body, bytes) else ""
    says_more = error.status < 500 and own not in ("", f"{error.status}: {error.reason}")
    known = kind(own[:_LONGEST_MESSAGE] if says_more else f"{error.reason}.")
    known.status = error.status
    return known


def _translated(request: web.Request, error: Exception) -> ApiError:
    state = request[STATE]
    known: Exception | None
    if isinstance(error, ValidationError):
        known = schema.invalid(error)
    elif isinstance(error, BrokenBody | web.RequestPayloadError):
        known = broken_body(request, error)
    else:
        known = database.translate(error)
    if not isinstance(known, ApiError):
        plugin = state.path.plugin
        log.error("request %s failed%s", state.id, f" in {plugin}" * bool(plugin), exc_info=error)
        known = errors.InternalError()
    elif known.status >= 500:
        log.warning("request %s: %s", state.id, type(error).__name__)
    return known


@web.middleware
def authorize(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Find the endpoint, and hold the grants that it needs against those of the client.

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
def guard(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Hold the plugin that serves the request to its share and its deadline."""
    bulkhead = request[STATE].path.guard
    if bulkhead is None or request.method == "OPTIONS":
        return handler(request)
    response: Awaitable[web.StreamResponse] = bulkhead.serve(request, handler)
    return response


def settle(database: Database) -> Middleware:
    """Return the middleware that answers a write once no read, by whatever process, can miss it."""

    @web.middleware
    async def settle(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.method not in _READING:
            await database.settle()
        return response

    return settle
