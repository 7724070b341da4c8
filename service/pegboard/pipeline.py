"""The way of every request: request id and log, errors, authentication, grants, the handler."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter

from aiohttp import hdrs
from marshmallow import ValidationError

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres import database
from pegboard.postgres.database import Database
from pegboard.schemas import schema
from pegboard.telemetry import logs
from pegboard.telemetry.traffic import Traffic
from pegboard.web import negotiation
from pegboard.web.http import Request, Response, Stream, error_response
from pegboard.web.routing import METHODS, Redirect, Router

Next = Callable[[Request], Awaitable[Response]]
Middleware = Callable[..., Awaitable[Response]]

log = logging.getLogger("pegboard")
_COMPRESSED_FROM = 1024
_READING = ("GET", "HEAD", "OPTIONS")


def compose(middlewares: Sequence[Middleware], handler: Next) -> Next:
    """Return `handler` inside `middlewares`, the first of them outermost; each takes `(request, handler)`."""
    for middleware in reversed(middlewares):
        handler = partial(middleware, handler=handler)
    return handler


async def finish(traffic: Traffic, request: Request, handler: Next) -> Response:
    """Give every response the request id and `Cache-Control`; compress it where that is wanted; count it."""
    traffic.running += 1
    try:
        response = await handler(request)
    except BaseException:
        traffic.aborted += 1
        raise
    finally:
        traffic.running -= 1
    headers = response.headers
    headers["X-Request-Id"] = request.id
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"
    if response.status == 304:
        _keep_variant(request, headers)
    elif len(response.body) > _COMPRESSED_FROM:
        headers.setdefault("Vary", "Accept-Encoding")
        accepted = request.headers.get(hdrs.ACCEPT_ENCODING)
        if accepted is not None and negotiation.encoding(accepted) == "gzip":
            await _compress(response)
    if isinstance(response, Stream):
        _tell_later(traffic, request, response)
    else:
        _tell(traffic, request, response.status, 0 if request._method == "HEAD" else len(response.body))
    return response


def _tell(traffic: Traffic, request: Request, status: int, size: int) -> None:
    """Count and log a request that was answered."""
    seconds = perf_counter() - request.received
    traffic.count(request, status, seconds, size)
    if logs.access.isEnabledFor(logging.INFO):
        logs.tell(request, status, seconds, size)


def _tell_later(traffic: Traffic, request: Request, response: Stream) -> None:
    """Count and log a request whose answer is made while it is sent, once that has ended."""
    before = response.ended

    def ended() -> None:
        if before is not None:
            before()
        if sys.exception() is not None:  # It is called on the way out: the answer was broken off.
            traffic.aborted += 1
        _tell(traffic, request, response.status, request.sent_bytes)

    response.ended = ended


def _keep_variant(request: Request, headers: dict[str, str]) -> None:
    """Tell a client that has the compressed form of what has not changed the tag of that form (RFC 9111 §4.3.4)."""
    compressed = f'{headers["ETag"][:-1]}-gzip"'
    if any(compressed in tags for tags in request.headers.getall(hdrs.IF_NONE_MATCH, ())):
        headers["ETag"] = compressed


async def _compress(response: Response) -> None:
    """Replace the body by its gzip form; its entity tag differs from the plain one's by a suffix."""
    large = len(response.body) > 256 * 1024
    compress = negotiation.compress
    response.body = await asyncio.to_thread(compress, response.body) if large else compress(response.body)
    response.headers["Content-Encoding"] = "gzip"
    tag = response.headers.get("ETag")
    if tag is not None:
        response.headers["ETag"] = f'{tag[:-1]}-gzip"'


async def tell_errors(request: Request, handler: Next) -> Response:
    """Turn whatever is raised into the error body that every client knows."""
    try:
        return await handler(request)
    except ApiError as error:
        known = error
    except Redirect as redirect:
        return _redirect(request, redirect.path)
    except Exception as error:
        if isinstance(error, ConnectionError) and request.transport is None:
            raise
        known = _translated(request, error)
    return error_response(known, request.id)


def _translated(request: Request, error: Exception) -> ApiError:
    known = schema.invalid(error) if isinstance(error, ValidationError) else database.translate(error)
    if known is None:
        log.error("request %s failed%s", request.id, f" in {request.plugin}" * bool(request.plugin), exc_info=error)
        known = ApiError(errors.INTERNAL)
    elif known.status >= 500:
        log.warning("request %s: %s", request.id, type(error).__name__)
    return known


async def settle(database: Database, request: Request, handler: Next) -> Response:
    """Answer a write once no read, by whatever process, can miss it."""
    response = await handler(request)
    if request.method not in _READING:
        await database.settle()
    return response


def _redirect(request: Request, path: str) -> Response:
    query = f"?{request.raw_query}" if request.raw_query else ""
    return Response(308, {"Location": path + query}, b"")


def dispatcher(router: Router) -> Next:
    """Return the innermost step: find the place, hold the grants against the client, call the handler."""

    async def dispatch(request: Request) -> Response:
        method = request.method
        if method not in METHODS:
            raise ApiError(errors.METHOD_NOT_IMPLEMENTED, f"The method {method} is not implemented.")
        place, identity = router.find(request.raw_path)
        request.template, request.plugin = place.template, place.plugin
        handler = place.handlers.get(method)
        if handler is None:
            if method == "OPTIONS":
                return Response(204, place.headers(), b"")
            message = f"{method} is not allowed here; {place.allow} are."
            raise ApiError(errors.VERB_NOT_ALLOWED, message, headers=place.headers())
        needed = place.grants.get(method)
        if needed is not None and request.client.grants.isdisjoint(needed):
            raise ApiError(errors.NOT_ALLOWED)
        return await handler(request, identity)

    return dispatch
