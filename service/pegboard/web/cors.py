"""Which web pages of other origins may use the service: the CORS protocol of the Fetch standard."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from pegboard.web.http import Request, Response

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
    """Let pages of `origins` read the answers, as the middleware `(request, handler)`; `*` stands for all origins.

    A preflight is answered here, as it never has credentials. A page sends those itself, in `Authorization`: what a
    browser would add of its own accord is not asked for, so a page can do no more than whoever wrote it knows how to.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)

    async def __call__(self, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        """Answer a preflight; let any other request be answered, and say who may read that."""
        origin = request.headers.get("Origin")
        if request.method == "OPTIONS" and origin and "Access-Control-Request-Method" in request.headers:
            allowed = self._allowed(origin)
            return Response(204, {**allowed, **_ALLOWED, "Vary": "Origin"} if allowed else {"Vary": "Origin"}, b"")
        response = await handler(request)
        self.tell(response.headers, origin)
        return response

    def tell(self, headers: dict[str, str], origin: str | None) -> None:
        """Add to the `headers` of an answer whether pages of `origin` may read it; None where no origin is known."""
        vary = headers.get("Vary")
        headers["Vary"] = f"{vary}, Origin" if vary else "Origin"
        allowed = self._allowed(origin)
        if allowed:
            headers.update(allowed)
            headers["Access-Control-Expose-Headers"] = _EXPOSED

    def _allowed(self, origin: str | None) -> dict[str, str]:
        """Return the header that lets pages of `origin` in; none for an origin that is not known."""
        if ANY in self._origins:
            return {"Access-Control-Allow-Origin": ANY}
        return {"Access-Control-Allow-Origin": origin} if origin is not None and origin in self._origins else {}


def origin_of(head: bytes) -> str | None:
    """Return the origin that a head names which could not be parsed; None where it names none, or more than one."""
    found = {value.strip(b" \t") for value in _ORIGIN.findall(head)}
    return found.pop().decode("latin-1") if len(found) == 1 else None
