"""The response headers in the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Header = dict[str, Any]


def _header(description: str, *, always: bool = False, schema: Header | None = None) -> Header:
    header: Header = {"description": description, "schema": schema or {"type": "string"}}
    return header | ({"required": True} if always else {})


HEADERS: Mapping[str, Header] = {
    "ETag": _header("The strong entity tag of the response, for `If-Match` and `If-None-Match`."),
    "Last-Modified": _header("When the item was last changed, as an HTTP date."),
    "Link": _header('Links to the neighbouring pages (RFC 8288): `rel="next"`, `"prev"` and `"first"`.'),
    "Content-Location": _header(
        "The path of the item in the response.", schema={"type": "string", "format": "uri-reference"}
    ),
    "Location": _header("The path of the new item.", schema={"type": "string", "format": "uri-reference"}),
    "X-Total-Count": _header("The number of items, if `count` requested it.", schema={"type": "integer", "minimum": 0}),
    "X-Request-Id": _header("The id of the request in the log.", always=True),
    "X-Content-Type-Options": _header("Always `nosniff`.", always=True, schema={"type": "string", "const": "nosniff"}),
    "Cache-Control": _header("`private, no-cache` with an entity tag, otherwise `no-store`.", always=True),
    "Vary": _header("The headers of the request that the response depends on."),
    "Allow": _header("The allowed methods."),
    "Accept": _header("The accepted media types of a body."),
    "Accept-Patch": _header("The accepted media types of a patch (RFC 5789)."),
    "Accept-Encoding": _header("The accepted encoding of a body: `identity`."),
    "Idempotency-Replayed": _header(
        "`true` if this is a replay of the response to an earlier request with the same key."
    ),
    "Preference-Applied": _header("The preference that was applied (RFC 7240)."),
    "Content-Security-Policy": _header("What the page may load and run."),
    "Content-Disposition": _header("Whether a browser shows or saves the content, and its name (RFC 6266)."),
    "Content-Range": _header("The range of the bytes in the response, and the total number."),
    "Accept-Ranges": _header("The supported unit of `Range`: `bytes`."),
    "Repr-Digest": _header("The SHA-256 of the complete content (RFC 9530)."),
    "Referrer-Policy": _header("`no-referrer`: following a link does not reveal the page."),
    "Retry-After": _header("The number of seconds after which to retry.", schema={"type": "integer", "minimum": 0}),
    "WWW-Authenticate": _header("How to authenticate (RFC 7617).", always=True),
}
"""The headers of responses by name."""
