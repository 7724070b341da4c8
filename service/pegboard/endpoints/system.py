"""The handlers of the service's own paths: the catalogue, health and readiness, the error codes, the plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from pegboard import errors, rendering
from pegboard.endpoints.describe.declaration import Declaration
from pegboard.errors import ApiError
from pegboard.hosting.discovery import Plugin, State
from pegboard.http.negotiation import JSON, VARY, accept
from pegboard.http.protocol import Response

Readiness = Callable[[], Any]
Declarations = Mapping[str, Declaration]


def handlers(
    version: str,
    plugins: Sequence[Plugin],
    declared: Declarations,
    ready: Readiness,
    prefix: Callable[[], str],
) -> dict[str, Handler]:
    """Return the handlers of the service's own paths by name.

    `ready` is a coroutine function that returns None, or the error if the service is not ready. `prefix` returns the
    prefix of all paths.
    """
    return {
        "catalogue": _json_handler(lambda: _catalogue(version, plugins, declared, prefix())),
        "errors": _json_handler(lambda: {"items": error_codes(declared)}),
        "plugins": _json_handler(lambda: {"items": [_plugin(plugin, declared) for plugin in plugins]}),
        "health": _json_handler(lambda: {"status": "ok"}),
        "ready": _readiness(ready),
    }


def _json_handler(read: Callable[[], Any]) -> Handler:
    async def show(request: web.Request) -> Response:
        accept(request, JSON)
        return Response(200, {"Content-Type": JSON, "Vary": VARY}, rendering.dumps(read()))

    return show


def _readiness(ready: Readiness) -> Handler:
    async def show(request: web.Request) -> Response:
        accept(request, JSON)
        reason = await ready()
        if reason is not None:
            raise reason
        return Response(200, {"Content-Type": JSON, "Vary": VARY}, b'{"status":"ready"}')

    return show


def _catalogue(version: str, plugins: Sequence[Plugin], declared: Declarations, prefix: str) -> dict[str, Any]:
    resources = [
        {
            "name": plugin.name,
            "path": f"{prefix}/{plugin.name}",
            "verbs": declared[plugin.name].verbs,
            "summary": declared[plugin.name].summary,
            "plugin": plugin.distribution,
            "version": plugin.version,
        }
        for plugin in plugins
        if plugin.state is State.READY and plugin.name in declared
    ]
    return {"name": "pegboard", "version": version, "resources": resources}


def error_codes(declared: Declarations) -> list[dict[str, Any]]:
    """Return every error code that a client can receive, in ascending order, each with its plugin."""
    own: list[tuple[type[ApiError], str | None]] = [(code, None) for code in errors.CATALOGUE]
    of_plugins = [(code, name) for name, declaration in declared.items() for code in declaration.error_codes]
    return [
        {"code": code.code, "status": code.status, "message": code.message, "plugin": name}
        for code, name in sorted([*own, *of_plugins], key=lambda entry: entry[0].code)
    ]


def _plugin(plugin: Plugin, declared: Declarations) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "state": plugin.state,
        "verbs": declared[plugin.name].verbs if plugin.name in declared else (),
        "migrations": plugin.applied,
        "fault": plugin.error,
    }
