"""The headers of the API: those that a request may have, and those that a response may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_IDEMPOTENCY_KEY_LENGTH = 255
IDEMPOTENCY_HOURS = 24
"""How long the response for an `Idempotency-Key` is kept."""

REQUEST_ID_CHARACTERS = "A-Za-z0-9._-"
MAX_REQUEST_ID_LENGTH = 128
REQUEST_ID_PATTERN = f"[{REQUEST_ID_CHARACTERS}]{{1,{MAX_REQUEST_ID_LENGTH}}}"


@dataclass(frozen=True, slots=True)
class Header:
    """Describe one header; `always` is whether every response has it."""

    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: str | None = None
    always: bool = False


_TAGS = {"type": "string", "pattern": r'^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$'}
_TAG = '"2c1f7a90b35d8e64"'
_DATE = "Sun, 15 Feb 2015 05:21:07 GMT"
_DIGEST = Header(
    "The SHA-256 of the body (RFC 9530): a body that does not match is refused.",
    example="sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
)
_URL = {"type": "string", "format": "uri-reference"}
_COUNT = {"type": "integer", "minimum": 0}

REQUEST: Mapping[str, Header] = {
    "X-Request-Id": Header(
        "The id of the request in the response and in the log: "
        f"1 to {MAX_REQUEST_ID_LENGTH} characters of `{REQUEST_ID_CHARACTERS}`.",
        # Without a pattern, as any other id is not an error: the service uses one of its own.
    ),
    "If-Match": Header(
        "Proceed only if the item still has one of these entity tags; otherwise 412.", _TAGS, example=_TAG
    ),
    "If-None-Match": Header(
        "If the item or page still has one of these entity tags: 304 for a read, 412 for a write.", _TAGS, example=_TAG
    ),
    "If-Modified-Since": Header(
        "304 if nothing has changed since this HTTP date; ignored together with `If-None-Match`.", example=_DATE
    ),
    "If-Unmodified-Since": Header(
        "412 if the item has changed since this HTTP date; ignored together with `If-Match`.", example=_DATE
    ),
    "Range": Header(
        "Only these bytes: `bytes=0-499`, `bytes=500-` or the last 500, `bytes=-500`; several ranges return it all.",
        example="bytes=0-499",
    ),
    "If-Range": Header(
        "Return the range only if the content still has this entity tag, and everything otherwise.", example=_TAG
    ),
    "Content-Digest": _DIGEST,
    "Repr-Digest": _DIGEST,
    "Prefer": Header("`return=minimal` omits the item from the response (RFC 7240).", example="return=minimal"),
    "Idempotency-Key": Header(
        f"Makes a retry safe: the first response for this key is kept for {IDEMPOTENCY_HOURS} hours and replayed.",
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_IDEMPOTENCY_KEY_LENGTH,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
        },
        example="8e03978e-40d5-43dd-bc93-6894a57f9324",
    ),
}
"""The headers that a request may have, by name, except those that describe its body and its client."""

RESPONSE: Mapping[str, Header] = {
    "ETag": Header("The strong entity tag of the response, for `If-Match` and `If-None-Match`."),
    "Last-Modified": Header("When the item was last changed, as an HTTP date."),
    "Link": Header('Links to the neighbouring pages (RFC 8288): `rel="next"`, `"prev"` and `"first"`.'),
    "Content-Location": Header("The path of the item in the response.", _URL),
    "Location": Header("The path of the new item.", _URL),
    "X-Total-Count": Header("The number of items, if `count` requested it.", _COUNT),
    "X-Request-Id": Header("The id of the request in the log.", always=True),
    "X-Content-Type-Options": Header("Always `nosniff`.", {"type": "string", "const": "nosniff"}, always=True),
    "Cache-Control": Header("`private, no-cache` with an entity tag, otherwise `no-store`.", always=True),
    "Vary": Header("The headers of the request that the response depends on."),
    "Allow": Header("The allowed methods."),
    "Accept": Header("The accepted media types of a body."),
    "Accept-Patch": Header("The accepted media types of a patch (RFC 5789)."),
    "Accept-Encoding": Header("The accepted encoding of a body: `identity`."),
    "Idempotency-Replayed": Header(
        "`true` if this is a replay of the response to an earlier request with the same key."
    ),
    "Preference-Applied": Header("The preference that was applied (RFC 7240)."),
    "Content-Security-Policy": Header("What the page may load and run."),
    "Content-Disposition": Header("Whether a browser shows or saves the content, and its name (RFC 6266)."),
    "Content-Range": Header("The range of the bytes in the response, and the total number."),
    "Accept-Ranges": Header("The supported unit of `Range`: `bytes`."),
    "Repr-Digest": Header("The SHA-256 of the complete content (RFC 9530)."),
    "Referrer-Policy": Header("`no-referrer`: following a link does not reveal the page."),
    "Retry-After": Header("The number of seconds after which to retry.", _COUNT),
    "WWW-Authenticate": Header("How to authenticate (RFC 7617).", always=True),
}
"""The headers that a response may have, by name, except those of every HTTP response."""
