"""Every error a client can meet: its code, its status and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """Name one kind of error.

    `code` is an integer that never changes its meaning (20000 and up belong to plugins), `status` the
    HTTP status from 400 to 599 it is answered with, and `message` the text used where no better one is at hand.
    """

    code: int
    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Say one thing that is wrong, and where.

    At most one of `pointer` (RFC 6901, into the request body), `parameter` (a query parameter) and
    `header` (a field of the request's head) is given.
    """

    code: int
    message: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None

    def as_json(self) -> dict[str, str | int]:
        """Return the object that stands in the `errors` list of an answer."""
        entry: dict[str, str | int] = {"message": self.message, "code": self.code}
        for place in ("pointer", "parameter", "header"):
            value = getattr(self, place)
            if value is not None:
                entry[place] = value
        return entry


@dataclass(eq=False)
class ApiError(Exception):
    """End a request with an error of the catalogue.

    Raise it from any action, operation or hook: the client gets `kind.status` and every fault at once.
    Without `faults` there is one, made of `message` (or the code's own) and the place given.
    """

    kind: ErrorCode
    message: str | None = None
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.faults:
            text = self.kind.message if self.message is None else self.message
            self.faults = (Fault(self.kind.code, text, self.pointer, self.parameter, self.header),)
        super().__init__(self.faults[0].message)

    @property
    def status(self) -> int:
        """Return the HTTP status, 400 to 599."""
        return self.kind.status

    def within(self, step: str | int) -> ApiError:
        """Return the same error about a part of the body: its pointers begin with `step`."""
        faults = tuple(
            Fault(one.code, one.message, f"{pointer((step,))}{one.pointer or ''}", one.parameter, one.header)
            for one in self.faults
        )
        return ApiError(self.kind, faults=faults, headers=self.headers)


JSON_PARSING = ErrorCode(10000, 400, "JSON parsing error.")
BODY_SHAPE = ErrorCode(10001, 400, "The body has the wrong shape.")
BODY_MISSING = ErrorCode(10002, 400, "A request body is required.")
MEDIA_TYPE = ErrorCode(10003, 415, "The media type of the body is not supported.")
NOT_ACCEPTABLE = ErrorCode(10004, 406, "No acceptable representation is available.")
BODY_TOO_LARGE = ErrorCode(10005, 413, "The body is too large.")
URL_TOO_LONG = ErrorCode(10006, 414, "The URL is too long.")
EXPECTATION = ErrorCode(10007, 417, "The expectation is not supported; only 100-continue is.")
HEAD_TOO_LARGE = ErrorCode(10008, 431, "The request headers are too large.")
TOO_SLOW = ErrorCode(10009, 408, "The request took too long to arrive.")
LENGTH_REQUIRED = ErrorCode(10010, 411, "The request has a Content-Type but no length; send Content-Length.")
HTTP_VERSION = ErrorCode(10011, 505, "The HTTP version is not supported; use HTTP/1.0 or HTTP/1.1.")
BAD_PARAMETER = ErrorCode(10012, 400, "The value of the query parameter is not valid.")
UNKNOWN_PARAMETER = ErrorCode(10013, 400, "Unknown query parameter.")
BAD_CURSOR = ErrorCode(10014, 400, "The cursor does not match this collection, sort and filters; use next or prev.")
BAD_HEADER = ErrorCode(10015, 400, "The value of the header is not valid.")
BAD_REQUEST = ErrorCode(10016, 400, "The request is not valid HTTP.")
RANGE = ErrorCode(10017, 416, "The range is not satisfiable.")
DIGEST = ErrorCode(10018, 400, "The body does not match its digest.")

INVALID = ErrorCode(11000, 422, "Invalid value.")
REQUIRED = ErrorCode(11001, 422, "Missing data for required field.")
UNKNOWN_FIELD = ErrorCode(11002, 422, "Unknown field.")
NULL = ErrorCode(11003, 422, "Field may not be null.")
WRONG_TYPE = ErrorCode(11004, 422, "Wrong type.")
TOO_SHORT = ErrorCode(11005, 422, "Too short.")
TOO_LONG = ErrorCode(11006, 422, "Too long.")
OUT_OF_RANGE = ErrorCode(11007, 422, "Out of range.")
NOT_A_CHOICE = ErrorCode(11008, 422, "Not one of the choices.")
BAD_EMAIL = ErrorCode(11009, 422, "Not a valid email address.")
BAD_URL = ErrorCode(11010, 422, "Not a valid URL.")
BAD_UUID = ErrorCode(11011, 422, "Not a valid UUID.")
BAD_DATE = ErrorCode(11012, 422, "Not a valid date.")
BAD_CHARACTERS = ErrorCode(11013, 422, "Contains characters that cannot be stored.")

NOT_AUTHENTICATED = ErrorCode(12000, 401, "Authentication required; send a user name and a password.")
WRONG_CREDENTIALS = ErrorCode(12001, 401, "The user name or the password is wrong.")
NOT_ALLOWED = ErrorCode(12002, 403, "The client does not hold the required grant.")
TOO_MANY_REQUESTS = ErrorCode(12003, 429, "Too many requests; wait before the next one.")

NOT_FOUND = ErrorCode(13000, 404, "Not found.")
VERB_NOT_ALLOWED = ErrorCode(13001, 405, "Method not allowed.")
CONFLICT = ErrorCode(13002, 409, "Another item already has this value.")
STILL_REFERENCED = ErrorCode(13003, 409, "Other items still refer to this one.")
PATCH_CONFLICT = ErrorCode(13004, 409, "The patch does not apply to the current item.")
PRECONDITION_FAILED = ErrorCode(13005, 412, "The item has changed; read it again.")
PRECONDITION_REQUIRED = ErrorCode(13006, 428, "Send If-Match with the ETag of the item.")
KEY_REUSED = ErrorCode(13007, 422, "The Idempotency-Key was already used with a different body.")
KEY_IN_USE = ErrorCode(13008, 409, "The first request with this Idempotency-Key is still running; try again later.")

INTERNAL = ErrorCode(15000, 500, "Internal error.")
METHOD_NOT_IMPLEMENTED = ErrorCode(15001, 501, "The method is not implemented.")
PLUGIN_UNAVAILABLE = ErrorCode(15002, 503, "The plugin of this resource is unavailable.")
DATABASE_UNAVAILABLE = ErrorCode(15003, 503, "The database is unavailable.")
SHUTTING_DOWN = ErrorCode(15004, 503, "The service is shutting down.")
TIMED_OUT = ErrorCode(15005, 504, "The request took too long to serve.")
BUSY = ErrorCode(15006, 503, "Too many requests are in progress; try again later.")

CATALOGUE: tuple[ErrorCode, ...] = tuple(value for value in list(globals().values()) if isinstance(value, ErrorCode))
"""The codes of the service itself, in the order of their numbers."""


def pointer(steps: Iterable[str | int]) -> str:
    """Return the JSON Pointer (RFC 6901) that leads through `steps`."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def gather(*checks: Callable[[], Any]) -> list[Any]:
    """Return what each of `checks` returns; raise one `ApiError` with the faults of all that failed."""
    results, failed = [], []
    for check in checks:
        try:
            results.append(check())
        except ApiError as error:
            failed.append(error)
    if failed:
        raise ApiError(failed[0].kind, faults=tuple(fault for error in failed for fault in error.faults))
    return results
