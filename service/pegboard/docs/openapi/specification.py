"""The OpenAPI document as it is served: made when it is first asked for, and again when a plugin changes its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pegboard import rendering
from pegboard.api.resource import Representation
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
    """Tell what is mounted, in a document for machines; `prefix` is what stands before all paths."""

    version: str
    plugins: Sequence[Plugin]
    table: Table
    description: Description
    prefix: Callable[[], str]
    _made: Representation | None = field(init=False, default=None)
    _states: tuple[Any, ...] = field(init=False, default=())

    def document(self) -> Mapping[str, Any]:
        """Make the document."""
        return document(self.version, self.plugins, self.table.endpoints, self.description, self.prefix())

    async def show(self, request: web.Request) -> Response:
        """Answer with the document."""
        accept(request, JSON)
        demanded = conditions.read(request.headers)
        states = tuple((plugin.name, plugin.state) for plugin in self.plugins)
        made = self._made
        if made is None or states != self._states:
            # Beside the loop, as it takes some milliseconds.
            body = await asyncio.to_thread(lambda: rendering.dumps(self.document()))
            self._made = made = Representation(body, rendering.digest(body), None)
            self._states = states
        return conditional(Response(200, item_headers(made), made.body), made, demanded)
