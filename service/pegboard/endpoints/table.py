"""The table of endpoints: their paths, and the routes that aiohttp's router has for them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from aiohttp import web
from yarl import URL

from pegboard import errors
from pegboard.endpoints.describe.service import DOCS, EVERYTHING
from pegboard.endpoints.endpoint import ANY_CLIENT, PUBLIC, Access, Endpoint
from pegboard.hosting.bulkheads import Bulkhead
from pegboard.http.protocol import defer_continue
from pegboard.http.request import METHODS, STATE, raw_query

ROOT = "Catalogue"
"""The name of the route to the root."""

_PARAMETER = re.compile(r"\{(\w+)\}")
_RETRY = {"Retry-After": "60"}


@dataclass(frozen=True, slots=True)
class Path:
    """Hold the endpoints at one path, by method; an unmatched path has none.

    `template` is its name in logs and metrics, `bulkhead` that of its plugin, None for the service's own paths. For the
    methods in `public`, a missing endpoint is reported without credentials. `location` is the path to redirect to, if
    there is one. A `foreign` path belongs to the application that embeds this one.
    """

    template: str = ""
    plugin: str = ""
    bulkhead: Bulkhead | None = None
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    public: frozenset[str] = frozenset()
    location: str | None = None
    foreign: bool = False

    @property
    def allow(self) -> str:
        """Return the value of the `Allow` header."""
        return ", ".join(self.endpoints)

    def access(self, method: str) -> Access:
        """Return who may use `method`, or may learn that there is no endpoint for it."""
        endpoint = self.endpoints.get(method)
        if endpoint is not None:
            return endpoint.access
        return PUBLIC if method in self.public else ANY_CLIENT

    def headers(self) -> dict[str, str]:
        """Return the headers that list the methods and the types of patches."""
        patch = self.endpoints.get("PATCH")
        return {"Allow": self.allow} | ({"Accept-Patch": ", ".join(patch.body.content)} if patch and patch.body else {})

    def endpoint(self, request: web.Request) -> Endpoint:
        """Return the endpoint for `request`, and store the id of the item in the request's state.

        Raises `ApiError` 501, 503 if the plugin is not available, 404 and 405, and `web.HTTPPermanentRedirect`.
        """
        method, bulkhead = request.method, self.bulkhead
        endpoint = self.endpoints.get(method)
        if endpoint is None and method not in METHODS:
            raise errors.MethodNotImplemented(f"The method {method} is not implemented.")
        if bulkhead is not None:
            if not bulkhead.handlers:
                raise errors.PluginUnavailable(headers=_RETRY)
            text = request.match_info.get("id")
            if text is not None:
                item_id = bulkhead.identify(text)
                if item_id is None:
                    raise errors.NotFound
                request[STATE].item_id = item_id
        if endpoint is not None:
            return endpoint
        if self.location is not None:
            query = raw_query(request)
            raise web.HTTPPermanentRedirect(URL(self.location + f"?{query}" * bool(query), encoded=True))
        if not self.endpoints:
            raise errors.NotFound("There is no resource at this path.")
        message = f"Method {method} not allowed; use {' or '.join(self.allow.rsplit(', ', 1))}."
        raise errors.MethodNotAllowed(message, headers=self.headers())


async def dispatch(request: web.Request) -> web.StreamResponse:
    """Call the handler of the endpoint that the middlewares have found: the handler of every route."""
    response: web.StreamResponse = await request[STATE].endpoint.handler(request)
    return response


class Table:
    """Hold all endpoints and their paths.

    `bulkheads` are those of the plugins, by name; a plugin without endpoints is permanently unavailable. `prefix` is
    the path under which a proxy serves the API: requests arrive without it, redirects include it. `public` has the
    public methods of plugins that are not available. `renamed` has the current names of resources by former ones;
    their paths redirect.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        bulkheads: Mapping[str, Bulkhead],
        prefix: str = "",
        public: Mapping[str, frozenset[str]] = MappingProxyType({}),
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.renamed = renamed
        self._prefix = prefix
        grouped: dict[str, dict[str, Endpoint]] = {}
        for endpoint in self.endpoints:
            grouped.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        self.paths = {path: _path(path, by_method, bulkheads) for path, by_method in grouped.items()}
        # Unmatched paths, by their first segment.
        self._unmatched = {
            name: Path(bulkhead=bulkhead, public=public.get(name, self._public(name)))
            for name, bulkhead in bulkheads.items()
        }
        docs = self.paths.get(DOCS)
        if docs is not None and docs.public:
            self._unmatched[DOCS.strip("/")] = Path(public=METHODS)
        self._unavailable = [
            name for name in bulkheads if f"/{name}" not in self.paths and not any(self.of_plugin(name))
        ]
        self._by_route: dict[web.AbstractRoute, Path] = {}

    def of_plugin(self, name: str) -> Iterator[Endpoint]:
        """Yield the endpoints of one plugin."""
        return (endpoint for endpoint in self.endpoints if endpoint.plugin == name)

    def _public(self, name: str) -> frozenset[str]:
        return frozenset(endpoint.method for endpoint in self.of_plugin(name) if endpoint.access.public)

    def register(self, router: web.UrlDispatcher) -> None:
        """Add a route for each path to `router`, and one for all unmatched paths."""
        for template, path in self.paths.items():
            if template != EVERYTHING:
                self._add(router, template, path)
        for name in self._unavailable:
            path = replace(self._unmatched[name], template=f"/{name}", plugin=name)
            if re.fullmatch(r"[\w-]+", name, re.ASCII):
                self._add(router, f"/{name}", path)
                self._add(router, f"/{name}/{{tail:.*}}", path)
        router.register_resource(_UnmatchedResource(self, router))

    def _add(self, router: web.UrlDispatcher, template: str, path: Path) -> None:
        resource = router.add_resource(_PARAMETER.sub(r"{\1:[^/]+}", template), name=route_name(template))
        self._by_route[resource.add_route("*", dispatch, expect_handler=defer_continue)] = path

    def path_of(self, request: web.Request) -> Path:
        """Return the path that the router has found for `request`."""
        route = request.match_info.route
        path = self._by_route.get(route)
        if path is not None:
            return path
        if isinstance(route, _UnmatchedRoute):
            return route.path
        resource = route.resource
        if resource is None:
            # aiohttp itself responds, with an error.
            return _FOREIGN
        path = self._by_route[route] = Path(resource.canonical, foreign=True)
        return path

    def owns(self, resource: web.AbstractResource) -> bool:
        """Return whether a resource of the router belongs to this table."""
        paths = [self._by_route.get(route) for route in resource]
        return any(path is not None and not path.foreign for path in paths)

    def own_path(self, route: web.AbstractRoute) -> Path | None:
        """Return the path of a route; None if the route is not of this table, or matches all unmatched paths."""
        path = self._by_route.get(route)
        return None if path is None or path.foreign else path

    def unmatched(self, path: str, location: str | None, target: Path | None) -> Path:
        """Return the `Path` for an unmatched `path`; one with `target` redirects to it at `location`."""
        by_segment = self._unmatched.get(path.lstrip("/").partition("/")[0], _UNMATCHED)
        if target is None or location is None:
            return by_segment
        public = by_segment.public
        if target.bulkhead is not None:
            public = frozenset(method for method in METHODS if target.access(method).public)
        return Path(bulkhead=target.bulkhead, public=public, location=self._prefix + location)


_UNMATCHED = Path()
_FOREIGN = Path(foreign=True)


class _UnmatchedRoute(web.ResourceRoute):
    """Route an unmatched request: `path` defines who may learn that nothing is there."""

    def __init__(self, resource: _UnmatchedResource, path: Path) -> None:
        super().__init__("*", dispatch, resource, expect_handler=defer_continue)
        self.path = path


class _UnmatchedResource(web.AbstractResource):
    """Match every path that no other resource matches: aiohttp's own 404 has neither our errors nor our redirects."""

    def __init__(self, table: Table, router: web.UrlDispatcher) -> None:
        super().__init__()
        self._table = table
        self._router = router
        self._prefix = ""
        self._route = _UnmatchedRoute(self, _UNMATCHED)

    @property
    def canonical(self) -> str:
        """Return the pattern, which matches every path."""
        return f"{self._prefix}/{{tail}}"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Match the request, unless another application's route matches its path with other methods."""
        path, target, parts = request.rel_url.path_safe, None, dict[str, str]()
        everything = self._table.paths.get(EVERYTHING)
        if path == EVERYTHING and everything is not None:
            matched = everything
        else:
            location = self._location(request.rel_url.raw_path)
            if location is not None:
                redirected = request.clone(rel_url=URL(location, encoded=True))
                match_info = await self._router.resolve(redirected)
                target = self._table.own_path(match_info.route)
                parts = dict(match_info)
            if target is None and await self._is_foreign(request):
                # Another application has this path, for other methods: aiohttp's 405 lists them.
                return None, set()
            matched = self._table.unmatched(path.removeprefix(self._prefix), location, target)
        return web.UrlMappingMatchInfo(parts, _UnmatchedRoute(self, matched)), set()

    async def _is_foreign(self, request: web.Request) -> bool:
        others = [resource for resource in self._router.resources() if not self._table.owns(resource)]
        return any([(await resource.resolve(request))[1] for resource in others if resource is not self])

    def _location(self, path: str) -> str | None:
        """Return the path that the client probably meant.

        It has no slash at the end, except for the root, and the current name of a renamed resource.
        """
        if self._prefix and path == self._prefix:
            return f"{path}/"
        location = path.rstrip("/")
        name, slash, rest = location.removeprefix(self._prefix).removeprefix("/").partition("/")
        if name in self._table.renamed:
            location = f"{self._prefix}/{self._table.renamed[name]}{slash}{rest}"
        # A location that starts with two slashes would name another host.
        return location if location and location != path and not location.startswith("//") else None

    def add_prefix(self, prefix: str) -> None:
        """Add `prefix` to the path, as aiohttp requires of the resources of a sub-application."""
        self._prefix = prefix + self._prefix

    def url_for(self, **_: str) -> URL:
        """Raise `RuntimeError`: unmatched paths have no URL."""
        raise RuntimeError("an unknown path has no URL")

    def get_info(self) -> Any:
        """Return a description, as aiohttp requires."""
        return {"path": self.canonical}

    def raw_match(self, path: str) -> bool:
        """Return that no path can be added to this resource."""
        return False

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter((self._route,))


def _path(template: str, by_method: Mapping[str, Endpoint], bulkheads: Mapping[str, Bulkhead]) -> Path:
    plugin = next(iter(by_method.values())).plugin
    public = METHODS if all(endpoint.access.public for endpoint in by_method.values()) else frozenset()
    return Path(template, plugin, bulkheads.get(plugin), by_method, public)


def route_name(path: str) -> str:
    """Return the name of the route to `path`: its segments, joined by dots.

    A parameter starts with an upper-case letter, as does a segment that aiohttp does not allow in a name: resource
    names never do.
    """
    if path == "/":
        return ROOT
    return ".".join(_part(part) for part in path.strip("/").split("/"))


def _part(part: str) -> str:
    if part.startswith("{"):
        return part.strip("{}").partition(":")[0].capitalize()
    if "." in part:
        return ".".join(_word(word).capitalize() for word in re.split(r"[.-]", part))
    return "-".join(_word(word) for word in part.split("-"))


def _word(word: str) -> str:
    return word if word.isidentifier() and not keyword.iskeyword(word) else f"R{word}"
