"""The error responses in the document, with an example for each code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pegboard import errors
from pegboard.endpoints.describe.errors import VALIDATION
from pegboard.endpoints.describe.json_fields import ref
from pegboard.errors import ApiError, ErrorDetail

REQUEST_ID = "4f1c2b7a9e-2a"

_SOURCES: Mapping[type[ApiError], Mapping[str, str]] = {
    errors.InvalidBody: {"pointer": ""},
    errors.LengthRequired: {"header": "Content-Length"},
    errors.UnsupportedMediaType: {"header": "Content-Type"},
    errors.NotAcceptable: {"header": "Accept"},
    errors.InvalidParameter: {"parameter": "limit"},
    errors.UnknownParameter: {"parameter": "limt"},
    errors.InvalidCursor: {"parameter": "after"},
    errors.InvalidHeader: {"header": "If-Match"},
    errors.RangeNotSatisfiable: {"header": "Range"},
    errors.DigestMismatch: {"header": "Content-Digest"},
    errors.PatchConflict: {"pointer": "/0"},
    errors.PreconditionFailed: {"header": "If-Match"},
    errors.PreconditionRequired: {"header": "If-Match"},
    errors.IdempotencyKeyReused: {"header": "Idempotency-Key"},
    errors.IdempotencyKeyInUse: {"header": "Idempotency-Key"},
}
"""The part of the request that the example of an error refers to."""

_HEADERS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    412: ("ETag",),
    415: ("Accept", "Accept-Patch", "Accept-Encoding"),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
"""The headers of an error response that help the client to recover, by status."""

_REASON_PHRASES: Mapping[int, str] = {
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    431: "Header Too Large",
}


def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status (RFC 9110)."""
    return _REASON_PHRASES.get(status) or HTTPStatus(status).phrase


class Responses:
    """Collect the error responses of a document; equal ones share a component."""

    def __init__(self) -> None:
        self._names: dict[tuple[Any, ...], str] = {}
        self._components: dict[str, dict[str, Any]] = {}

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """Return all responses by name."""
        return {name: self._components[name] for name in sorted(self._components)}

    def of(
        self, codes: Iterable[type[ApiError]], owner: str, details: Mapping[int, Sequence[ErrorDetail]] | None = None
    ) -> dict[str, Any]:
        """Return the responses for the errors `codes`, by status.

        `owner` completes the name of a response if another one of the same status exists; `details` are the real errors
        of an invalid request, by status, for the examples.
        """
        by_status: dict[int, set[type[ApiError]]] = {}
        for code in codes:
            by_status.setdefault(code.status, set()).add(code)
        found = {}
        for status in sorted(by_status):
            of_status = tuple(sorted(by_status[status], key=lambda code: code.code))
            details_of_status = tuple((details or {}).get(status, ()))
            found[str(status)] = ref(self._name(status, of_status, details_of_status, owner), "responses")
        return found

    def _name(
        self, status: int, codes: tuple[type[ApiError], ...], details: tuple[ErrorDetail, ...], owner: str
    ) -> str:
        key = (status, codes, details)
        if key not in self._names:
            plain = reason_phrase(status).title().replace(" ", "")
            name = plain if plain not in self._components else f"{plain}.{owner}"
            self._names[key] = name
            self._components[name] = _response(status, codes, details)
        return self._names[key]


def _response(status: int, codes: Sequence[type[ApiError]], details: Sequence[ErrorDetail]) -> dict[str, Any]:
    lines = "\n".join(f"- `{code.code}` {code.message}" for code in codes)
    headers = ("X-Request-Id", "Cache-Control", "X-Content-Type-Options", "Vary", *_HEADERS.get(status, ()))
    examples = {
        str(code.code): {"summary": code.message, "value": {"errors": [_example(code)]}}
        for code in codes
        # The errors of a real request are better examples of validation errors.
        if not (details and code in VALIDATION)
    }
    if details:
        complete = {
            "summary": "All errors at once.",
            "value": {"errors": [detail.as_json() for detail in details]},
        }
        examples = {"errors": complete} | examples
    return {
        "description": f"{reason_phrase(status)}.\n\n{lines}",
        "headers": {name: ref(name, "headers") for name in headers},
        "content": {"application/json": {"schema": ref("Errors"), "examples": examples}},
    }


def _example(code: type[ApiError]) -> dict[str, Any]:
    message = f"{code.message} Request ID: {REQUEST_ID}." if code.status >= 500 else code.message
    return ErrorDetail(code.code, message, **_SOURCES.get(code, {})).as_json()
