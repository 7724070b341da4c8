"""The headers of responses, as the document describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Header = dict[str, Any]


def _answered(description: str, *, always: bool = False, schema: Header | None = None) -> Header:
    header: Header = {"description": description, "schema": schema or {"type": "string"}}
    return header | ({"required": True} if always else {})


HEADERS: Mapping[str, Header] = {
    "ETag": _answered("The entity tag of what was sent, strong; for `If-Match` and `If-None-Match`."),
    "Last-Modified": _answered("When the item was last changed, as an HTTP date."),
    "Link": _answered('The pages beside this one (RFC 8288): `rel="next"`, `"prev"` and `"first"`.'),
    "Content-Location": _answered(
        "The path of the item that is shown.", schema={"type": "string", "format": "uri-reference"}
    ),
    "Location": _answered("The path of the new item.", schema={"type": "string", "format": "uri-reference"}),
    "X-Total-Count": _answered(
        "How many items there are, where `count` asked.", schema={"type": "integer", "minimum": 0}
    ),
    "X-Request-Id": _answered("What the request is called in the log.", always=True),
    "X-Content-Type-Options": _answered(
        "Always `nosniff`.", always=True, schema={"type": "string", "const": "nosniff"}
    ),
    "Cache-Control": _answered("`private, no-cache` where there is an entity tag, else `no-store`.", always=True),
    "Vary": _answered("The headers of the request that the answer depends on."),
    "Allow": _answered("The methods that are allowed here."),
    "Accept": _answered("The media types that a body may have."),
    "Accept-Patch": _answered("The media types that a patch may have (RFC 5789)."),
    "Accept-Encoding": _answered("How a body may be encoded: as it is."),
    "Idempotency-Replayed": _answered("`true` where this is the answer to an earlier request with the same key."),
    "Preference-Applied": _answered("The preference that was followed (RFC 7240)."),
    "Content-Security-Policy": _answered("What the page may load and run: as little as it needs."),
    "Content-Disposition": _answered("Whether a browser shows or saves the content, and its name (RFC 6266)."),
    "Content-Range": _answered("Which bytes these are, and of how many."),
    "Accept-Ranges": _answered("That `Range` is taken: `bytes`."),
    "Repr-Digest": _answered("The SHA-256 of the whole content (RFC 9530)."),
    "Referrer-Policy": _answered("That the page is not named to where its links lead."),
    "Retry-After": _answered("In how many seconds to try again.", schema={"type": "integer", "minimum": 0}),
    "WWW-Authenticate": _answered("How to authenticate (RFC 7617).", always=True),
}
"""The headers of answers."""
