"""The answers that tell errors: what each kind of request may meet, with an example of every code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pegboard import errors
from pegboard.errors import ErrorCode, Fault
from pegboard.openapi.fields import ref

REQUEST_ID = "4f1c2b7a9e-2a"

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
_VALIDATION = tuple(code for code in errors.CATALOGUE if 11000 <= code.code < 12000)
_BODY = (
    errors.NOT_ACCEPTABLE,
    errors.JSON_PARSING,
    errors.BODY_SHAPE,
    errors.BODY_MISSING,
    errors.MEDIA_TYPE,
    errors.BODY_TOO_LARGE,
    errors.LENGTH_REQUIRED,
    *_VALIDATION,
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

_PLACES: Mapping[ErrorCode, Mapping[str, str]] = {
    errors.BODY_SHAPE: {"pointer": ""},
    errors.LENGTH_REQUIRED: {"header": "Content-Length"},
    errors.MEDIA_TYPE: {"header": "Content-Type"},
    errors.NOT_ACCEPTABLE: {"header": "Accept"},
    errors.BAD_PARAMETER: {"parameter": "limit"},
    errors.UNKNOWN_PARAMETER: {"parameter": "limt"},
    errors.BAD_CURSOR: {"parameter": "after"},
    errors.BAD_HEADER: {"header": "If-Match"},
    errors.RANGE: {"header": "Range"},
    errors.DIGEST: {"header": "Content-Digest"},
    errors.PATCH_CONFLICT: {"pointer": "/0"},
    errors.PRECONDITION_FAILED: {"header": "If-Match"},
    errors.PRECONDITION_REQUIRED: {"header": "If-Match"},
    errors.KEY_REUSED: {"header": "Idempotency-Key"},
    errors.KEY_IN_USE: {"header": "Idempotency-Key"},
}
"""Where the fault of a code's example is."""

_HEADERS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    412: ("ETag",),
    415: ("Accept", "Accept-Patch", "Accept-Encoding"),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
"""The headers that say how to go on after a status."""

_PHRASES: Mapping[int, str] = {
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    431: "Header Too Large",
}

SCHEMAS: Mapping[str, dict[str, Any]] = {
    "Errors": {
        "type": "object",
        "description": "What is wrong: every fault that one stage of the request's handling found.",
        "properties": {"errors": {"type": "array", "items": ref("Error"), "minItems": 1}},
        "required": ["errors"],
    },
    "Error": {
        "type": "object",
        "description": "One fault, and where it is when there is a where.",
        "properties": {
            "message": {"type": "string", "description": "What is wrong, for people."},
            "code": {"type": "integer", "minimum": 10000, "description": "What is wrong, stable for ever."},
            "pointer": {"type": "string", "description": "Where in the request's body (RFC 6901)."},
            "parameter": {"type": "string", "description": "Which query parameter."},
            "header": {"type": "string", "description": "Which header of the request."},
        },
        "required": ["message", "code"],
    },
}


def phrase(status: int) -> str:
    """Return what a status is called."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


class Answers:
    """Gather the answers of a document, those that are the same in one place."""

    def __init__(self) -> None:
        self._names: dict[tuple[Any, ...], str] = {}
        self._components: dict[str, dict[str, Any]] = {}

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """Return all answers by their names."""
        return {name: self._components[name] for name in sorted(self._components)}

    def of(
        self, codes: Iterable[ErrorCode], owner: str, faults: Mapping[int, Sequence[Fault]] | None = None
    ) -> dict[str, Any]:
        """Return the answers that tell `codes`, by their status.

        `owner` names what meets them, where another meets others; `faults` are those of a request that was really held
        against it, by the status.
        """
        by_status: dict[int, set[ErrorCode]] = {}
        for code in codes:
            by_status.setdefault(code.status, set()).add(code)
        found = {}
        for status in sorted(by_status):
            known = tuple(sorted(by_status[status], key=lambda code: code.code))
            real = tuple((faults or {}).get(status, ()))
            found[str(status)] = ref(self._name(status, known, real, owner), "responses")
        return found

    def _name(self, status: int, codes: tuple[ErrorCode, ...], real: tuple[Fault, ...], owner: str) -> str:
        key = (status, codes, real)
        if key not in self._names:
            plain = phrase(status).title().replace(" ", "")
            name = plain if plain not in self._components else f"{plain}.{owner}"
            self._names[key] = name
            self._components[name] = _answer(status, codes, real)
        return self._names[key]


def _answer(status: int, codes: Sequence[ErrorCode], real: Sequence[Fault]) -> dict[str, Any]:
    lines = "\n".join(f"- `{code.code}` {code.message}" for code in codes)
    headers = ("X-Request-Id", "Cache-Control", "X-Content-Type-Options", "Vary", *_HEADERS.get(status, ()))
    examples = {
        str(code.code): {"summary": code.message, "value": {"errors": [_example(code)]}}
        for code in codes
        # Of the faults of a body, those of a real one say more.
        if not (real and code in _VALIDATION)
    }
    if real:
        told = {"summary": "Every fault at once.", "value": {"errors": [fault.as_json() for fault in real]}}
        examples = {"faults": told} | examples
    return {
        "description": f"{phrase(status)}.\n\n{lines}",
        "headers": {name: ref(name, "headers") for name in headers},
        "content": {"application/json": {"schema": ref("Errors"), "examples": examples}},
    }


def _example(code: ErrorCode) -> dict[str, Any]:
    message = f"{code.message} The request was {REQUEST_ID}." if code.status >= 500 else code.message
    return Fault(code.code, message, **_PLACES.get(code, {})).as_json()
