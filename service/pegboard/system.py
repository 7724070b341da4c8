"""The service's own paths: the catalogue, health and readiness, the error codes, the plugins."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from pegboard import errors, rendering
from pegboard.access import clients
from pegboard.discovery import Plugin, State
from pegboard.errors import ErrorCode
from pegboard.resources.reading import JSON, VARY, accept
from pegboard.resources.resource import VERBS
from pegboard.web.http import Request, Response
from pegboard.web.routing import Handler, Place

Readiness = Callable[[], Any]


def places(version: str, plugins: Sequence[Plugin], ready: Readiness, prefix: str) -> list[Place]:
    """Return the places of the service itself; `ready` is a coroutine function: None, or why it is not."""
    return [
        _place("/", lambda: _catalogue(version, plugins, prefix)),
        _place("/errors", lambda: {"items": codes(plugins)}),
        _place(
            "/plugins", lambda: {"items": [_plugin(plugin) for plugin in plugins]}, clients.sufficing("plugins", "GET")
        ),
        _place("/health", lambda: {"status": "ok"}),
        Place("/ready", "", _reading(_readiness(ready))),
        Place("*", "", {"OPTIONS": _everything}),
    ]


class Public(Container[str]):
    """Tell which paths need no credentials; the reference is among them unless it is to be kept for clients."""

    def __init__(self, docs_public: bool) -> None:
        self._docs_public = docs_public

    def __contains__(self, path: object) -> bool:
        return path in _PUBLIC or (self._docs_public and (path in _REFERENCE or str(path).startswith("/docs/")))


_PUBLIC = frozenset(("/health", "/ready"))
_REFERENCE = frozenset(("/docs", "/openapi.json"))


def _place(template: str, read: Callable[[], Any], needed: frozenset[str] | None = None) -> Place:
    async def show(request: Request, _: str) -> Response:
        accept(request, JSON)
        return Response(200, {"Content-Type": JSON, "Vary": VARY}, rendering.dumps(read()))

    grants = {} if needed is None else {"GET": needed, "HEAD": needed}
    return Place(template, "", _reading(show), grants)


def _reading(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}


def _readiness(ready: Readiness) -> Handler:
    async def show(request: Request, _: str) -> Response:
        accept(request, JSON)
        reason = await ready()
        if reason is not None:
            raise reason
        return Response(200, {"Content-Type": JSON, "Vary": VARY}, b'{"status":"ready"}')

    return show


async def _everything(_: Request, __: str) -> Response:
    """Answer to `OPTIONS *`, which asks about the service as a whole (RFC 9110 §9.3.7)."""
    return Response(204, {"Allow": ", ".join((*VERBS, "OPTIONS"))}, b"")


def _catalogue(version: str, plugins: Sequence[Plugin], prefix: str) -> dict[str, Any]:
    resources = [
        {
            "name": plugin.name,
            "path": f"{prefix}/{plugin.name}",
            "verbs": plugin.verbs,
            "summary": plugin.resource.summary(),
            "plugin": plugin.distribution,
            "version": plugin.version,
        }
        for plugin in plugins
        if plugin.state is State.READY and plugin.resource is not None
    ]
    return {"name": "pegboard", "version": version, "resources": resources}


def codes(plugins: Sequence[Plugin]) -> list[dict[str, Any]]:
    """Return every error code that a client can meet, in the order of their numbers, each with its plugin."""
    own: list[tuple[ErrorCode, str | None]] = [(code, None) for code in errors.CATALOGUE]
    theirs = [(code, plugin.name) for plugin in plugins if plugin.resource for code in plugin.resource.error_codes]
    return [
        {"code": code.code, "status": code.status, "message": code.message, "plugin": name}
        for code, name in sorted([*own, *theirs], key=lambda entry: entry[0].code)
    ]


def _plugin(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": plugin.state,
        "verbs": plugin.verbs,
        "migrations": plugin.applied,
        "fault": plugin.fault,
    }
