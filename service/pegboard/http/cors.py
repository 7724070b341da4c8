"""Which web pages of other origins may use the service: the CORS protocol of the Fetch standard."""

from __future__ import annotations

import re
from collections.abc import MutableMapping

from aiohttp import web

ANY = "*"

_ORIGIN = re.compile(rb"\n(?i:origin):([^\r\n]*)(?=\r?\n)")

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Match, "
        "If-Unmodified-Since, Prefer, X-Request-Id"
    ),
    # What Chromium takes at most.
    "Access-Control-Max-Age": "7200",
}
_EXPOSED = (
    "ETag, Last-Modified, Link, Location, Content-Location, Retry-After, X-Request-Id, X-Total-Count, "
    "Idempotency-Replayed, Preference-Applied"
)


class Cors:
    """Let pages of `origins` read the responses; `*` stands for all origins.

    A page sends its credentials itself, in `Authorization`: what a browser would add of its own accord is not asked
    for, so a page can do no more than whoever wrote it knows how to.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    def preflight(self, request: web.BaseRequest) -> dict[str, str] | None:
        """Return the headers that answer a preflight request; None for any other."""
        origin = request.headers.get("Origin")
        if request.method != "OPTIONS" or not origin or "Access-Control-Request-Method" not in request.headers:
            return None
        return {**_ALLOWED} if self._allowed(origin) else {}

    async def on_response_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say in a response who may read it; one of aiohttp's signals."""
        self.add_headers(response.headers, request.headers.get("Origin"))

    def add_headers(self, headers: MutableMapping[str, str], origin: str | None) -> None:
        """Add to the `headers` of a response whether pages of `origin` may read it; None where no origin is known."""
        vary = headers.get("Vary")
        headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
        allowed = self._allowed(origin)
        if allowed:
            headers["Access-Control-Allow-Origin"] = allowed
            if "Access-Control-Allow-Methods" not in headers:
                headers["Access-Control-Expose-Headers"] = _EXPOSED

    def _allowed(self, origin: str | None) -> str | None:
        """Return what lets pages of `origin` in; None for an origin that is not known."""
        if ANY in self._origins:
            return ANY
        return origin if origin in self._origins else None


def origin_of(head: bytes) -> str | None:
    """Return the origin that a head names which could not be parsed; None where it names none, or more than one."""
    found = {value.strip(b" \t") for value in _ORIGIN.findall(head)}
    return found.pop().decode("latin-1") if len(found) == 1 else None
