"""CORS (the Fetch standard): which origins' web pages may use the service."""

from __future__ import annotations

import re
from collections.abc import MutableMapping

from aiohttp import web

from pegboard.http import headers as api_headers
from pegboard.http.request import VERBS

ANY = "*"

_ORIGIN = re.compile(rb"\n(?i:origin):([^\r\n]*)(?=\r?\n)")

_ALLOWED = {
    "Access-Control-Allow-Methods": ", ".join(VERBS),
    "Access-Control-Allow-Headers": ", ".join(("Authorization", "Content-Type", *api_headers.REQUEST)),
    # The maximum in Chromium.
    "Access-Control-Max-Age": "7200",
}
_SAFELISTED = ("Cache-Control", "Last-Modified")
"""The headers of the service's responses that a browser shows to every page."""
_EXPOSED = ", ".join(name for name in api_headers.RESPONSE if name not in _SAFELISTED)


class Cors:
    """Allow pages of `origins` to read responses; `*` allows all origins.

    A page sends its credentials itself, in `Authorization`. Credentials that a browser adds automatically are not
    allowed, so a page has no more access than the credentials it sends.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    def preflight(self, request: web.BaseRequest) -> dict[str, str] | None:
        """Return the headers of the response to a preflight request; None for any other request."""
        origin = request.headers.get("Origin")
        if request.method != "OPTIONS" or not origin or "Access-Control-Request-Method" not in request.headers:
            return None
        return {**_ALLOWED} if self._allow_origin(origin) else {}

    async def on_response_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the CORS headers to a response; a receiver of aiohttp's signal."""
        self.add_headers(response.headers, request.headers.get("Origin"))

    def add_headers(self, headers: MutableMapping[str, str], origin: str | None) -> None:
        """Add the CORS headers for pages of `origin`, which is None for a request without an origin."""
        vary = headers.get("Vary")
        headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
        allow_origin = self._allow_origin(origin)
        if allow_origin:
            headers["Access-Control-Allow-Origin"] = allow_origin
            if "Access-Control-Allow-Methods" not in headers:
                headers["Access-Control-Expose-Headers"] = _EXPOSED

    def _allow_origin(self, origin: str | None) -> str | None:
        """Return the value of `Access-Control-Allow-Origin`; None for an origin that is not allowed."""
        if ANY in self._origins:
            return ANY
        return origin if origin in self._origins else None


def parse_origin(head: bytes) -> str | None:
    """Return the origin in a head that aiohttp could not parse; None if it has none, or more than one."""
    origins = {value.strip(b" \t") for value in _ORIGIN.findall(head)}
    return origins.pop().decode("latin-1") if len(origins) == 1 else None
