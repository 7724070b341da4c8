"""The catalogue of errors: an exception class for each code, with its status and message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """Describe one error, and the part of the request that caused it: one entry of the list `errors` of a response.

    At most one of `pointer` (a JSON Pointer of RFC 6901 into the request body), `parameter` (a query parameter) and
    `header` (a request header) is set.
    """

    code: int
    message: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None

    def as_json(self) -> dict[str, str | int]:
        """Return the entry as a JSON object, without the members that are not set."""
        entry: dict[str, str | int] = {"message": self.message, "code": self.code}
        for name in ("pointer", "parameter", "header"):
            value = getattr(self, name)
            if value is not None:
                entry[name] = value
        return entry


class ApiError(Exception):
    """End a request with an error response. Raise a subclass: one of this module, or one of your own.

    A subclass is declared with its number, 0 to 99, its HTTP status, 400 to 599, and its message:
    `class Taken(ApiError, number=1, status=409, message="...")`. Its code is the number in the block of codes of its
    distribution, and is known once the plugin is loaded; it never changes its meaning.

    The response has one entry, with `message` (by default the class's) and one of `pointer`, `parameter` and `header`.
    `details` replaces it by several entries. `headers` are added to the response.
    """

    code: ClassVar[int]
    number: ClassVar[int]
    status: int
    message: str

    def __init_subclass__(
        cls,
        *,
        code: int | None = None,
        number: int | None = None,
        status: int | None = None,
        message: str | None = None,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        if code is not None and cls.__module__ != __name__:
            raise TypeError(f"{cls.__name__} declares a code: declare a number from 0 to 99 instead")
        declared = {"code": code, "number": number, "status": status, "message": message}
        for name, value in declared.items():
            if value is not None:
                setattr(cls, name, value)

    def __init__(
        self,
        message: str | None = None,
        pointer: str | None = None,
        *,
        parameter: str | None = None,
        header: str | None = None,
        details: Iterable[ErrorDetail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not hasattr(self, "code"):
            raise TypeError(f"{type(self).__name__} has no code: list it in error_codes, or raise one of errors.*")
        if message is not None:
            self.message = message
        self.details = tuple(details) or (ErrorDetail(self.code, self.message, pointer, parameter, header),)
        self.headers: Mapping[str, str] = headers or {}
        super().__init__(self.details[0].message)

    def with_details(self, details: Iterable[ErrorDetail]) -> Self:
        """Return a copy of the error with other entries."""
        changed = copy(self)
        changed.details = tuple(details)
        return changed

    def within(self, step: str | int) -> Self:
        """Return a copy of the error whose pointers are prefixed with `step`: for an error in a part of the body."""
        prefix = pointer((step,))
        return self.with_details(
            ErrorDetail(detail.code, detail.message, f"{prefix}{detail.pointer or ''}", detail.parameter, detail.header)
            for detail in self.details
        )


class InvalidJson(ApiError, code=10000, status=400, message="JSON parsing error."): ...


class InvalidBody(ApiError, code=10001, status=400, message="The structure of the body is not valid."): ...


class MissingBody(ApiError, code=10002, status=400, message="A request body is required."): ...


class UnsupportedMediaType(
    ApiError, code=10003, status=415, message="The media type of the body is not supported."
): ...


class NotAcceptable(ApiError, code=10004, status=406, message="No acceptable representation is available."): ...


class BodyTooLarge(ApiError, code=10005, status=413, message="The body is too large."): ...


class UrlTooLong(ApiError, code=10006, status=414, message="The URL is too long."): ...


class ExpectationFailed(
    ApiError, code=10007, status=417, message="The expectation is not supported; only 100-continue is."
): ...


class HeadersTooLarge(ApiError, code=10008, status=431, message="The request headers are too large."): ...


class RequestTimeout(ApiError, code=10009, status=408, message="The request took too long to arrive."): ...


class LengthRequired(
    ApiError, code=10010, status=411, message="The request has a Content-Type but no length; send Content-Length."
): ...


class HttpVersionNotSupported(
    ApiError, code=10011, status=505, message="The HTTP version is not supported; use HTTP/1.0 or HTTP/1.1."
): ...


class InvalidParameter(ApiError, code=10012, status=400, message="The value of the query parameter is not valid."): ...


class UnknownParameter(ApiError, code=10013, status=400, message="Unknown query parameter."): ...


class InvalidCursor(
    ApiError,
    code=10014,
    status=400,
    message="The cursor does not match this collection, sort and filters; use next or prev.",
): ...


class InvalidHeader(ApiError, code=10015, status=400, message="The value of the header is not valid."): ...


class BadRequest(ApiError, code=10016, status=400, message="The request is not valid HTTP."): ...


class RangeNotSatisfiable(ApiError, code=10017, status=416, message="The range is not satisfiable."): ...


class DigestMismatch(ApiError, code=10018, status=400, message="The body does not match its digest."): ...


class InvalidValue(ApiError, code=11000, status=422, message="Invalid value."): ...


class MissingField(ApiError, code=11001, status=422, message="Missing data for required field."): ...


class UnknownField(ApiError, code=11002, status=422, message="Unknown field."): ...


class NullNotAllowed(ApiError, code=11003, status=422, message="Field may not be null."): ...


class WrongType(ApiError, code=11004, status=422, message="Wrong type."): ...


class TooShort(ApiError, code=11005, status=422, message="Too short."): ...


class TooLong(ApiError, code=11006, status=422, message="Too long."): ...


class OutOfRange(ApiError, code=11007, status=422, message="Out of range."): ...


class InvalidChoice(ApiError, code=11008, status=422, message="Not one of the choices."): ...


class InvalidEmail(ApiError, code=11009, status=422, message="Not a valid email address."): ...


class InvalidUrl(ApiError, code=11010, status=422, message="Not a valid URL."): ...


class InvalidUuid(ApiError, code=11011, status=422, message="Not a valid UUID."): ...


class InvalidDate(ApiError, code=11012, status=422, message="Not a valid date."): ...


class InvalidCharacters(ApiError, code=11013, status=422, message="Contains characters that cannot be stored."): ...


class NotAuthenticated(
    ApiError, code=12000, status=401, message="Authentication required; send a user name and a password."
): ...


class WrongCredentials(ApiError, code=12001, status=401, message="The user name or the password is wrong."): ...


class Forbidden(ApiError, code=12002, status=403, message="The client does not hold the required grant."): ...


class TooManyRequests(ApiError, code=12003, status=429, message="Too many requests; wait before the next one."): ...


class NotFound(ApiError, code=13000, status=404, message="Not found."): ...


class MethodNotAllowed(ApiError, code=13001, status=405, message="Method not allowed."): ...


class Conflict(ApiError, code=13002, status=409, message="Another item already has this value."): ...


class StillReferenced(ApiError, code=13003, status=409, message="Other items still refer to this one."): ...


class PatchConflict(ApiError, code=13004, status=409, message="The patch does not apply to the current item."): ...


class PreconditionFailed(ApiError, code=13005, status=412, message="The item has changed; read it again."): ...


class PreconditionRequired(ApiError, code=13006, status=428, message="Send If-Match with the ETag of the item."): ...


class IdempotencyKeyReused(
    ApiError, code=13007, status=422, message="The Idempotency-Key was already used with a different body."
): ...


class IdempotencyKeyInUse(
    ApiError,
    code=13008,
    status=409,
    message="The first request with this Idempotency-Key is still running; try again later.",
): ...


class InternalError(ApiError, code=15000, status=500, message="Internal error."): ...


class MethodNotImplemented(ApiError, code=15001, status=501, message="The method is not implemented."): ...


class PluginUnavailable(ApiError, code=15002, status=503, message="The plugin of this resource is unavailable."): ...


class DatabaseUnavailable(ApiError, code=15003, status=503, message="The database is unavailable."): ...


class ShuttingDown(ApiError, code=15004, status=503, message="The service is shutting down."): ...


class TimedOut(ApiError, code=15005, status=504, message="The request took too long to serve."): ...


class Busy(ApiError, code=15006, status=503, message="Too many requests are in progress; try again later."): ...


CATALOGUE: tuple[type[ApiError], ...] = tuple(ApiError.__subclasses__())
"""The errors of the service itself, in the order of their codes."""


def pointer(steps: Iterable[str | int]) -> str:
    """Return the JSON Pointer (RFC 6901) for a sequence of keys and indexes."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def gather(*checks: Callable[[], Any]) -> list[Any]:
    """Return the results of `checks`; raises the first `ApiError` with the details of all that failed."""
    results, failed = [], []
    for check in checks:
        try:
            results.append(check())
        except ApiError as error:
            failed.append(error)
    if failed:
        raise failed[0].with_details(detail for error in failed for detail in error.details)
    return results
