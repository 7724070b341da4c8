"""The possible errors of each kind of endpoint."""

from __future__ import annotations

from collections.abc import Mapping

from pegboard import error_codes, errors
from pegboard.errors import ApiError

_Errors = tuple[type[ApiError], ...]

CONNECTION: _Errors = (
    errors.BadRequest,
    errors.RequestTimeout,
    errors.UrlTooLong,
    errors.ExpectationFailed,
    errors.HeadersTooLarge,
    errors.InternalError,
    errors.HttpVersionNotSupported,
)
"""The possible errors of every request."""

CREDENTIALS: _Errors = (
    errors.NotAuthenticated,
    errors.WrongCredentials,
    errors.TooManyRequests,
    errors.DatabaseUnavailable,
)
"""The further errors of a request that needs credentials."""

_RESOURCE: _Errors = (errors.Forbidden, errors.PluginUnavailable, errors.TimedOut, errors.Busy)
_QUERY: _Errors = (errors.InvalidParameter, errors.UnknownParameter)
_CONDITIONS: _Errors = (errors.InvalidHeader, errors.PreconditionFailed)
_READ: _Errors = (*_RESOURCE, *_QUERY, *_CONDITIONS, errors.NotAcceptable)
VALIDATION: _Errors = tuple(code for code in errors.CATALOGUE if code.code in error_codes.VALIDATION)
_BODY: _Errors = (
    errors.NotAcceptable,
    errors.InvalidJson,
    errors.InvalidBody,
    errors.MissingBody,
    errors.UnsupportedMediaType,
    errors.BodyTooLarge,
    errors.LengthRequired,
    *VALIDATION,
)
_ITEM: _Errors = (*_RESOURCE, *_QUERY, *_CONDITIONS, errors.NotFound)

ACTIONS: Mapping[str, _Errors] = {
    "list": (*_READ, errors.InvalidCursor),
    "retrieve": (*_READ, errors.NotFound),
    "create": (
        *_RESOURCE,
        *_QUERY,
        *_BODY,
        errors.InvalidHeader,
        errors.Conflict,
        errors.StillReferenced,
        errors.IdempotencyKeyReused,
        errors.IdempotencyKeyInUse,
    ),
    "replace": (*_ITEM, *_BODY, errors.Conflict, errors.StillReferenced),
    "update": (*_ITEM, *_BODY, errors.Conflict, errors.StillReferenced, errors.PatchConflict),
    "delete": (*_ITEM, errors.StillReferenced),
}
"""The further errors of each action of a resource."""

_READ_CONTENT = (
    *_RESOURCE,
    *_CONDITIONS,
    errors.UnknownParameter,
    errors.NotFound,
    errors.NotAcceptable,
)
CONTENT_ACTIONS: Mapping[str, _Errors] = {
    "GET": (*_READ_CONTENT, errors.RangeNotSatisfiable),
    "HEAD": _READ_CONTENT,
    "PUT": (
        *_RESOURCE,
        *_CONDITIONS,
        errors.UnknownParameter,
        errors.NotFound,
        errors.UnsupportedMediaType,
        errors.LengthRequired,
        errors.BodyTooLarge,
        errors.DigestMismatch,
        errors.Conflict,
        errors.InvalidValue,
    ),
}
"""The further errors of each verb for the content of an item."""


OPERATION = (*ACTIONS["create"], errors.NotFound)
"""The further errors of an operation."""

OPERATION_ON_ITEM: _Errors = (*OPERATION, errors.PreconditionFailed)
"""The further errors of an operation on an item."""
