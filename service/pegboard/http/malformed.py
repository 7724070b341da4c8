"""Heads that are not sound: what is wrong with them, in our own words, as the parser's repeat what was sent."""

from __future__ import annotations

import re
from http import HTTPStatus

from aiohttp import hdrs
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, HttpProcessingError, LineTooLong

from pegboard import errors
from pegboard.errors import ApiError, ErrorCode

MOST_HEADERS = 128

_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*").fullmatch
_REQUEST_LINE = re.compile(r"""b['"][!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/\d\.\d['"]""").search

_REASONS: tuple[tuple[str, ErrorCode, str | None], ...] = (
    ("Invalid HTTP version", errors.HTTP_VERSION, None),
    ("PRI", errors.HTTP_VERSION, None),
    ("Too many headers", errors.HEAD_TOO_LARGE, f"More than {MOST_HEADERS} headers."),
    ("Missing 'Host'", errors.BAD_REQUEST, "The Host header is missing."),
    ("Duplicate", errors.BAD_REQUEST, "A header that is allowed only once was sent twice."),
    ("can't be present with", errors.BAD_REQUEST, "Content-Length and Transfer-Encoding cannot be combined."),
    ("Transfer-Encoding", errors.BAD_REQUEST, "Transfer-Encoding must be chunked."),
    ("Content-Length", errors.BAD_REQUEST, "Content-Length is not a valid number."),
    ("chunk", errors.BAD_REQUEST, "The body is not framed as HTTP requires."),
    ("header", errors.BAD_REQUEST, "A header has a name or a value that HTTP does not allow."),
    ("url", errors.BAD_REQUEST, "The request target is not a valid URL."),
)
"""What a reason of the parser means, read from top to bottom."""


def check(message: RawRequestMessage) -> ErrorCode | None:
    """Return what is wrong with a head that the parser took; None for a sound one."""
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


def explain(status: int, error: BaseException | None, max_line: int) -> ApiError:
    """Return what to tell a client of an `error` outside of the application, whose own status is `status`.

    A line that is too long is the URL's where it passed `max_line` bytes, else a header's.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LineTooLong):
        return ApiError(errors.URL_TOO_LONG if error.args[1] == max_line else errors.HEAD_TOO_LARGE)
    if isinstance(error, HttpProcessingError):
        return _parsing_error(error)
    return ApiError(errors.TIMED_OUT if status == HTTPStatus.GATEWAY_TIMEOUT else errors.INTERNAL)


def _parsing_error(error: HttpProcessingError) -> ApiError:
    if isinstance(error, BadHttpMethod):
        known = _REQUEST_LINE(error.message) is not None
        return ApiError(errors.METHOD_NOT_IMPLEMENTED if known else errors.BAD_REQUEST)
    reason = error.message.partition("\n\n")[0]
    for part, kind, message in _REASONS:
        if part in reason and isinstance(error, BadHttpMessage):
            return ApiError(kind, message)
    return ApiError(errors.BAD_REQUEST)
