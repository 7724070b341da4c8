"""The OpenAPI document as it is served: made when it is first asked for, and again when a plugin fares otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pegboard import rendering
from pegboard.discovery import Plugin
from pegboard.resources.reading import JSON, accept, conditional, item_headers
from pegboard.resources.resource import Representation
from pegboard.settings import Settings
from pegboard.web import conditions
from pegboard.web.http import Request, Response
from pegboard.web.routing import Place


@dataclass(slots=True)
class Specification:
    """Tell what is mounted, in a document for machines."""

    version: str
    settings: Settings
    plugins: Sequence[Plugin]
    _made: Representation | None = field(init=False, default=None)
    _standing: tuple[Any, ...] = field(init=False, default=())

    def document(self) -> Mapping[str, Any]:
        """Make the document; it takes some tens of milliseconds."""
        # Only here: a worker that is never asked for it does without what makes it.
        from pegboard.openapi.document import document

        settings = self.settings
        return document(self.version, self.plugins, settings.path_prefix, docs_public=settings.docs_public)

    def place(self) -> Place:
        """Return the place where the document is read."""
        return Place("/openapi.json", "", {"GET": self._show, "HEAD": self._show})

    async def _show(self, request: Request, _: str) -> Response:
        accept(request, JSON)
        demanded = conditions.read(request.headers)
        standing = tuple((plugin.name, plugin.state) for plugin in self.plugins)
        made = self._made
        if made is None or standing != self._standing:
            body = await asyncio.to_thread(lambda: rendering.dumps(self.document()))
            self._made = made = Representation(body, rendering.digest(body), None)
            self._standing = standing
        return conditional(Response(200, item_headers(made), made.body), made, demanded)
