"""Heads that are not sound: what is wrong with them, in our own words, as the parser's repeat what was sent."""

from __future__ import annotations

import re
from http import HTTPStatus

from aiohttp import hdrs
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong

from pegboard import errors
from pegboard.errors import ApiError

MOST_HEADERS = 128

_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch
_REQUEST_LINE = re.compile(r"""b['"][!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/\d\.\d['"]""").search

_REASONS: tuple[tuple[str, type[ApiError], str | None], ...] = (
    ("Invalid HTTP version", errors.HttpVersionNotSupported, None),
    ("PRI", errors.HttpVersionNotSupported, None),
    ("Too many headers", errors.HeadersTooLarge, f"More than {MOST_HEADERS} headers."),
    ("Missing 'Host'", errors.BadRequest, "The Host header is missing."),
    ("Duplicate", errors.BadRequest, "A header that is allowed only once was sent twice."),
    ("can't be present with", errors.BadRequest, "Content-Length and Transfer-Encoding cannot be combined."),
    ("Transfer-Encoding", errors.BadRequest, "Transfer-Encoding must be chunked."),
    ("Content-Length", errors.BadRequest, "Content-Length is not a valid number."),
    ("chunk", errors.BadRequest, "The body is not framed as HTTP requires."),
    ("header", errors.BadRequest, "A header has a name or a value that HTTP does not allow."),
    ("url", errors.BadRequest, "The request target is not a valid URL."),
)
"""What a reason of the parser means, read from top to bottom."""


def check(message: RawRequestMessage) -> type[ApiError] | None:
    """Return what is wrong with a head that the parser took; None for a sound one."""
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
    """Return what to tell a client of an `error` outside of the application, whose own status is `status`.

    A line that is too long is the URL's where it passed `max_line` bytes, else a header's.
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
        known = _REQUEST_LINE(error.message) is not None
        return errors.MethodNotImplemented() if known else errors.BadRequest()
    reason = error.message.partition("\n\n")[0]
    for part, kind, message in _REASONS:
        if part in reason and isinstance(error, BadHttpMessage):
            return kind(message)
    return errors.BadRequest()
