"""The served reference: pages, created once for the current plugins, and static files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from pegboard import errors, rendering
from pegboard.api.serializer import Representation
from pegboard.docs.reference import pages
from pegboard.docs.reference.frame import Site
from pegboard.docs.reference.manual import manual
from pegboard.endpoints import system
from pegboard.endpoints.describe.declaration import Declaration
from pegboard.endpoints.describe.service import DOCS
from pegboard.endpoints.read import conditional
from pegboard.endpoints.write import MAX_ITEMS
from pegboard.hosting.discovery import Plugin, State
from pegboard.http import conditions, headers
from pegboard.http.negotiation import VARY, accept
from pegboard.http.protocol import Response
from pegboard.query.query import DEFAULT_LIMIT, MAX_LIMIT
from pegboard.settings import Settings

_TEXTS = ("overview.md", "guide.md")
_ASSETS: Mapping[str, str] = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HTML = "text/html; charset=utf-8"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS = {"Vary": VARY, "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class Asset:
    """Hold a file that the pages load; its path contains the hash of its content."""

    path: str
    media_type: str
    body: bytes


@dataclass(slots=True)
class Docs:
    """Make the pages on the first request, and again when the state of a plugin has changed.

    `document` returns the OpenAPI document, `prefix` the prefix of all paths.
    """

    version: str
    settings: Settings
    plugins: Sequence[Plugin]
    declared: Mapping[str, Declaration]
    document: Callable[[], Mapping[str, Any]]
    prefix: Callable[[], str]
    _assets: dict[str, Asset] = field(init=False)
    _cached: dict[str, Representation] = field(init=False, default_factory=dict)
    _states: tuple[Any, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self._assets = {name: _asset(name, media_type) for name, media_type in _ASSETS.items()}

    def assets(self) -> dict[str, Handler]:
        """Return the handler of each file that the pages load, by path."""
        return {asset.path: _asset_handler(asset) for asset in self._assets.values()}

    async def overview(self, request: web.Request) -> Response:
        """Respond with the Overview, which applies to every resource."""
        return await self._show(request, "")

    async def resource(self, request: web.Request) -> Response:
        """Respond with the page of one resource."""
        name = request.match_info["resource"]
        if not any(plugin.name == name for plugin in self.plugins):
            renamed = next((plugin.name for plugin in self.plugins if name in plugin.aliases), None)
            if renamed is None:
                raise errors.NotFound("There is no resource at this path.")
            return Response(308, {"Location": f"{self.prefix()}{DOCS}/{renamed}"})
        return await self._show(request, name)

    async def _show(self, request: web.Request, name: str) -> Response:
        accept(request, "text/html")
        preconditions = conditions.read(request.headers)
        page = await self._page(name)
        headers = {
            "Content-Type": _HTML,
            "ETag": f'"{page.tag}"',
            "Cache-Control": "private, no-cache",
            "Content-Security-Policy": _POLICY,
            **_HEADERS,
        }
        return conditional(Response(200, headers, page.body), page, preconditions)

    async def _page(self, name: str) -> Representation:
        states = tuple((plugin.name, plugin.state) for plugin in self.plugins)
        if states != self._states:
            self._states, self._cached = states, {}
        cached = self._cached
        page = cached.get(name)
        if page is None:
            # In a thread, since it takes some tens of milliseconds.
            body = await asyncio.to_thread(self._make, name)
            page = cached[name] = Representation(body, rendering.digest(body), None)
        return page

    def _make(self, name: str) -> bytes:
        prefix = self.prefix()
        assets = {asset: prefix + self._assets[asset].path for asset in self._assets}
        site = Site(prefix, self.version, assets, self.plugins)
        if not name:
            return pages.overview(
                site, [_read(text).decode() for text in _TEXTS], self._values(), system.error_codes(self.declared)
            )
        plugins = [plugin for plugin in self.plugins if plugin.name == name]
        plugin = plugins[0]
        declared = self.declared.get(name)
        if plugin.state is not State.READY or declared is None:
            return pages.outage(site, plugins)
        described = manual(self.document(), name)
        return pages.resource(site, plugin, described, declared.rules, declared.text)

    def _values(self) -> Mapping[str, str]:
        """Return the values of the placeholders in the texts."""
        settings = self.settings
        return {
            "max_body": _size(settings.max_body),
            "max_head": _size(settings.max_head),
            "max_url": _size(settings.max_url),
            "max_nesting": str(settings.max_nesting),
            "most_items": f"{MAX_ITEMS:,}",
            "receive_timeout": f"{settings.receive_timeout:g}",
            "default_limit": str(DEFAULT_LIMIT),
            "max_limit": str(MAX_LIMIT),
            "request_id_length": str(headers.MAX_REQUEST_ID_LENGTH),
            "request_id_characters": headers.REQUEST_ID_CHARACTERS,
            "idempotency_key_length": str(headers.MAX_IDEMPOTENCY_KEY_LENGTH),
            "idempotency_hours": str(headers.IDEMPOTENCY_HOURS),
        }


def _asset_handler(asset: Asset) -> Handler:
    media_type = asset.media_type.partition(";")[0]

    async def send(request: web.Request) -> Response:
        accept(request, media_type)
        headers = {"Content-Type": asset.media_type, "Cache-Control": "max-age=31536000, immutable", **_HEADERS}
        return Response(200, headers, asset.body)

    return send


def _asset(name: str, media_type: str) -> Asset:
    body = _read(name)
    stem, _, extension = name.rpartition(".")
    return Asset(f"{DOCS}/assets/{stem}.{sha256(body).hexdigest()[:12]}.{extension}", media_type, body)


def _read(name: str) -> bytes:
    return (files("pegboard.docs.reference") / name).read_bytes()


def _size(size: int) -> str:
    """Return a number of bytes with its unit."""
    for unit, name in ((1024**2, "MiB"), (1024, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
