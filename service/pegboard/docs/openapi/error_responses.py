"""The answers that tell errors: what each kind of request may meet, with an example of every code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pegboard import errors
from pegboard.endpoints.describe.json_fields import ref
from pegboard.endpoints.describe.outcomes import VALIDATION
from pegboard.errors import ApiError, ErrorDetail

REQUEST_ID = "4f1c2b7a9e-2a"

_PLACES: Mapping[type[ApiError], Mapping[str, str]] = {
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


def phrase(status: int) -> str:
    """Return what a status is called."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


class Responses:
    """Gather the answers of a document, those that are the same in one place."""

    def __init__(self) -> None:
        self._names: dict[tuple[Any, ...], str] = {}
        self._components: dict[str, dict[str, Any]] = {}

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """Return all answers by their names."""
        return {name: self._components[name] for name in sorted(self._components)}

    def of(
        self, codes: Iterable[type[ApiError]], owner: str, faults: Mapping[int, Sequence[ErrorDetail]] | None = None
    ) -> dict[str, Any]:
        """Return the answers that tell `codes`, by their status.

        `owner` names what meets them, where another meets others; `faults` are those of a request that was really held
        against it, by the status.
        """
        by_status: dict[int, set[type[ApiError]]] = {}
        for code in codes:
            by_status.setdefault(code.status, set()).add(code)
        found = {}
        for status in sorted(by_status):
            known = tuple(sorted(by_status[status], key=lambda code: code.code))
            real = tuple((faults or {}).get(status, ()))
            found[str(status)] = ref(self._name(status, known, real, owner), "responses")
        return found

    def _name(self, status: int, codes: tuple[type[ApiError], ...], real: tuple[ErrorDetail, ...], owner: str) -> str:
        key = (status, codes, real)
        if key not in self._names:
            plain = phrase(status).title().replace(" ", "")
            name = plain if plain not in self._components else f"{plain}.{owner}"
            self._names[key] = name
            self._components[name] = _response(status, codes, real)
        return self._names[key]


def _response(status: int, codes: Sequence[type[ApiError]], real: Sequence[ErrorDetail]) -> dict[str, Any]:
    lines = "\n".join(f"- `{code.code}` {code.message}" for code in codes)
    headers = ("X-Request-Id", "Cache-Control", "X-Content-Type-Options", "Vary", *_HEADERS.get(status, ()))
    examples = {
        str(code.code): {"summary": code.message, "value": {"errors": [_example(code)]}}
        for code in codes
        # Of the faults of a body, those of a real one say more.
        if not (real and code in VALIDATION)
    }
    if real:
        told = {"summary": "Every fault at once.", "value": {"errors": [fault.as_json() for fault in real]}}
        examples = {"faults": told} | examples
    return {
        "description": f"{phrase(status)}.\n\n{lines}",
        "headers": {name: ref(name, "headers") for name in headers},
        "content": {"application/json": {"schema": ref("Errors"), "examples": examples}},
    }


def _example(code: type[ApiError]) -> dict[str, Any]:
    message = f"{code.message} Request ID: {REQUEST_ID}." if code.status >= 500 else code.message
    return ErrorDetail(code.code, message, **_PLACES.get(code, {})).as_json()
