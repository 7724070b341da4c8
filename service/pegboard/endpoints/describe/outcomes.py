"""The errors that each kind of endpoint may answer with."""

from __future__ import annotations

from collections.abc import Mapping

from pegboard import errors
from pegboard.errors import ErrorCode

CONNECTION = (
    errors.BAD_REQUEST,
    errors.TOO_SLOW,
    errors.URL_TOO_LONG,
    errors.EXPECTATION,
    errors.HEAD_TOO_LARGE,
    errors.INTERNAL,
    errors.HTTP_VERSION,
)
"""What any request may meet, wherever it goes."""

CREDENTIALS = (
    errors.NOT_AUTHENTICATED,
    errors.WRONG_CREDENTIALS,
    errors.TOO_MANY_REQUESTS,
    errors.DATABASE_UNAVAILABLE,
)
"""What a request may meet that needs credentials."""

_RESOURCE = (errors.NOT_ALLOWED, errors.PLUGIN_UNAVAILABLE, errors.TIMED_OUT, errors.BUSY)
_QUERY = (errors.BAD_PARAMETER, errors.UNKNOWN_PARAMETER)
_CONDITIONS = (errors.BAD_HEADER, errors.PRECONDITION_FAILED)
_READ = (*_RESOURCE, *_QUERY, *_CONDITIONS, errors.NOT_ACCEPTABLE)
VALIDATION = tuple(code for code in errors.CATALOGUE if 11000 <= code.code < 12000)
_BODY = (
    errors.NOT_ACCEPTABLE,
    errors.JSON_PARSING,
    errors.BODY_SHAPE,
    errors.BODY_MISSING,
    errors.MEDIA_TYPE,
    errors.BODY_TOO_LARGE,
    errors.LENGTH_REQUIRED,
    *VALIDATION,
)
_ITEM = (*_RESOURCE, *_QUERY, *_CONDITIONS, errors.NOT_FOUND)

ACTIONS: Mapping[str, tuple[ErrorCode, ...]] = {
    "list": (*_READ, errors.BAD_CURSOR),
    "retrieve": (*_READ, errors.NOT_FOUND),
    "create": (
        *_RESOURCE,
        *_QUERY,
        *_BODY,
        errors.BAD_HEADER,
        errors.CONFLICT,
        errors.STILL_REFERENCED,
        errors.KEY_REUSED,
        errors.KEY_IN_USE,
    ),
    "replace": (*_ITEM, *_BODY, errors.CONFLICT, errors.STILL_REFERENCED),
    "update": (*_ITEM, *_BODY, errors.CONFLICT, errors.STILL_REFERENCED, errors.PATCH_CONFLICT),
    "delete": (*_ITEM, errors.STILL_REFERENCED),
}
"""What each action of a resource may meet beyond that."""

_READ_CONTENT = (
    *_RESOURCE,
    *_CONDITIONS,
    errors.UNKNOWN_PARAMETER,
    errors.NOT_FOUND,
    errors.NOT_ACCEPTABLE,
)
CONTENT_ACTIONS: Mapping[str, tuple[ErrorCode, ...]] = {
    "GET": (*_READ_CONTENT, errors.RANGE),
    "HEAD": _READ_CONTENT,
    "PUT": (
        *_RESOURCE,
        *_CONDITIONS,
        errors.UNKNOWN_PARAMETER,
        errors.NOT_FOUND,
        errors.MEDIA_TYPE,
        errors.LENGTH_REQUIRED,
        errors.BODY_TOO_LARGE,
        errors.DIGEST,
        errors.CONFLICT,
        errors.INVALID,
    ),
}
"""What each verb of an item's content may meet beyond that."""


OPERATION = (*ACTIONS["create"], errors.NOT_FOUND)
"""What an operation may meet."""

OPERATION_ON_ITEM = (*OPERATION, errors.PRECONDITION_FAILED)
"""What an operation on an item may meet."""
