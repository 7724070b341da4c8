"""Errors for malformed heads. The messages are ours, since the parser's repeat what the client sent."""

from __future__ import annotations

import re
from http import HTTPStatus

from aiohttp import hdrs
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong

from pegboard import errors
from pegboard.errors import ApiError

MAX_HEADERS = 128

_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch
_REQUEST_LINE = re.compile(r"""b['"][!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/\d\.\d['"]""").search

_REASONS: tuple[tuple[str, type[ApiError], str | None], ...] = (
    ("Invalid HTTP version", errors.HttpVersionNotSupported, None),
    ("PRI", errors.HttpVersionNotSupported, None),
    ("Too many headers", errors.HeadersTooLarge, f"More than {MAX_HEADERS} headers."),
    ("Missing 'Host'", errors.BadRequest, "The Host header is missing."),
    ("Duplicate", errors.BadRequest, "A header that is allowed only once was sent twice."),
    ("can't be present with", errors.BadRequest, "Content-Length and Transfer-Encoding cannot be combined."),
    ("Transfer-Encoding", errors.BadRequest, "Transfer-Encoding must be chunked."),
    ("Content-Length", errors.BadRequest, "Content-Length is not a valid number."),
    ("chunk", errors.BadRequest, "The body is not framed as HTTP requires."),
    ("header", errors.BadRequest, "A header has a name or a value that HTTP does not allow."),
    ("url", errors.BadRequest, "The request target is not a valid URL."),
)
"""The error for each part of a parser's message; the first match counts."""


def check(message: RawRequestMessage) -> type[ApiError] | None:
    """Return the error in a head that the parser accepted; None for a valid head."""
    headers = message.headers
    if message.version is not HttpVersion11 and message.version is not HttpVersion10:
        return errors.HttpVersionNotSupported
    if not _HOST(headers.get(hdrs.HOST, "")):
        return errors.BadRequest
    if message.chunked and (
        message.version is HttpVersion10 or headers.get(hdrs.TRANSFER_ENCODING, "").lower() != "chunked"
    ):
        return errors.BadRequest
    expectation = headers.get(hdrs.EXPECT)
    if expectation is not None and expectation.lower() != "100-continue":
        return errors.ExpectationFailed
    return None


def explain(status: int, error: BaseException | None, max_line: int) -> ApiError:
    """Return the API error for an `error` outside the application, for which aiohttp has `status`.

    A line that is too long is the request line if its limit was `max_line`, else a header.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LineTooLong):
        return errors.UrlTooLong() if error.args[1] == max_line else errors.HeadersTooLarge()
    if isinstance(error, HttpProcessingError):
        return _parsing_error(error)
    return errors.TimedOut() if status == HTTPStatus.GATEWAY_TIMEOUT else errors.InternalError()


def _parsing_error(error: HttpProcessingError) -> ApiError:
    if isinstance(error, BadHttpMethod):
        valid = _REQUEST_LINE(error.message) is not None
        return errors.MethodNotImplemented() if valid else errors.BadRequest()
    reason = error.message.partition("\n\n")[0]
    for part, error_class, message in _REASONS:
        if part in reason and isinstance(error, BadHttpMessage):
            return error_class(message)
    return errors.BadRequest()
