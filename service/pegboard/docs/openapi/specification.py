"""The served document: created on the first request, and again when the state of a plugin changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pegboard import rendering
from pegboard.api.serializer import Representation
from pegboard.docs.openapi.document import document
from pegboard.endpoints.describe.plugins import Description
from pegboard.endpoints.read import conditional, item_headers
from pegboard.endpoints.table import Table
from pegboard.hosting.discovery import Plugin
from pegboard.http import conditions
from pegboard.http.negotiation import JSON, accept
from pegboard.http.protocol import Response


@dataclass(slots=True)
class Specification:
    """Make and cache the OpenAPI document of everything that is mounted; `prefix` is the prefix of all paths."""

    version: str
    plugins: Sequence[Plugin]
    table: Table
    description: Description
    prefix: Callable[[], str]
    _cached: Representation | None = field(init=False, default=None)
    _states: tuple[Any, ...] = field(init=False, default=())

    def document(self) -> Mapping[str, Any]:
        """Make the document."""
        return document(self.version, self.plugins, self.table.endpoints, self.description, self.prefix())

    async def show(self, request: web.Request) -> Response:
        """Respond with the document."""
        accept(request, JSON)
        preconditions = conditions.read(request.headers)
        states = tuple((plugin.name, plugin.state) for plugin in self.plugins)
        cached = self._cached
        if cached is None or states != self._states:
            # In a thread, since it takes some milliseconds.
            body = await asyncio.to_thread(lambda: rendering.dumps(self.document()))
            self._cached = cached = Representation(body, rendering.digest(body), None)
            self._states = states
        return conditional(Response(200, item_headers(cached), cached.body), cached, preconditions)
