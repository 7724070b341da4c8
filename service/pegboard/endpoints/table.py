"""The table of endpoints: the paths that they are at, and the routes of aiohttp's that lead there."""

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
from pegboard.http.protocol import leave_expectation
from pegboard.http.request import METHODS, STATE, raw_query

ROOT = "Catalogue"
"""The name of the route to the root."""

_PARAMETER = re.compile(r"\{(\w+)\}")
_RETRY = {"Retry-After": "60"}


@dataclass(frozen=True, slots=True)
class Path:
    """Hold the endpoints at one path, by their methods; none for a path that leads nowhere.

    `template` is its name in logs and metrics, `guard` the bulkhead of its plugin, None for the service's own. `public`
    are the methods of which it is told without credentials that they are not here. `location` is where the client meant
    to go, if that is known. A path that is `foreign` belongs to whoever embeds the application: nothing is known of it.
    """

    template: str = ""
    plugin: str = ""
    guard: Bulkhead | None = None
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    public: frozenset[str] = frozenset()
    location: str | None = None
    foreign: bool = False

    @property
    def allow(self) -> str:
        """Return the value of the `Allow` header."""
        return ", ".join(self.endpoints)

    def access(self, method: str) -> Access:
        """Return who may use `method` here, or be told that it is not here."""
        endpoint = self.endpoints.get(method)
        if endpoint is not None:
            return endpoint.access
        return PUBLIC if method in self.public else ANY_CLIENT

    def headers(self) -> dict[str, str]:
        """Return the headers that say what can be done here."""
        patch = self.endpoints.get("PATCH")
        return {"Allow": self.allow} | ({"Accept-Patch": ", ".join(patch.body.content)} if patch and patch.body else {})

    def endpoint(self, request: web.Request) -> Endpoint:
        """Return the endpoint that serves `request`, and note which item that is about.

        Raises `ApiError` 501, 503 where the plugin is down, 404 and 405, and `web.HTTPPermanentRedirect`.
        """
        method, guard = request.method, self.guard
        endpoint = self.endpoints.get(method)
        if endpoint is None and method not in METHODS:
            raise errors.MethodNotImplemented(f"The method {method} is not implemented.")
        if guard is not None:
            if not guard.handlers:
                raise errors.PluginUnavailable(headers=_RETRY)
            given = request.match_info.get("id")
            if given is not None:
                known = guard.identify(given)
                if known is None:
                    raise errors.NotFound
                request[STATE].item_id = known
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
    """Be the handler of every route: the middlewares have found the endpoint."""
    response: web.StreamResponse = await request[STATE].endpoint.handler(request)
    return response


class Table:
    """Know all endpoints, and the paths that they are at.

    `guards` are the bulkheads of the plugins by their names; one without endpoints is down for good. `prefix` is the
    path under which a proxy serves us, which requests come without and redirects need. `public` has the public methods
    of plugins that are down.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        guards: Mapping[str, Bulkhead],
        prefix: str = "",
        public: Mapping[str, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._prefix = prefix
        grouped: dict[str, dict[str, Endpoint]] = {}
        for endpoint in self.endpoints:
            grouped.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        self.paths = {path: _path(path, there, guards) for path, there in grouped.items()}
        # What leads nowhere, by the first segment of its path.
        self._nowhere = {
            name: Path(guard=guard, public=public.get(name, self._public(name))) for name, guard in guards.items()
        }
        docs = self.paths.get(DOCS)
        if docs is not None and docs.public:
            self._nowhere[DOCS.strip("/")] = Path(public=METHODS)
        self._down = [name for name in guards if f"/{name}" not in self.paths and not any(self.of_plugin(name))]
        self._by_route: dict[web.AbstractRoute, Path] = {}

    def of_plugin(self, name: str) -> Iterator[Endpoint]:
        """Yield the endpoints of one plugin."""
        return (endpoint for endpoint in self.endpoints if endpoint.plugin == name)

    def _public(self, name: str) -> frozenset[str]:
        return frozenset(endpoint.method for endpoint in self.of_plugin(name) if endpoint.access.public)

    def register(self, router: web.UrlDispatcher) -> None:
        """Add a route for each path to `router`, and one for all that leads nowhere."""
        for path, known in self.paths.items():
            if path != EVERYTHING:
                self._add(router, path, known)
        for name in self._down:
            known = replace(self._nowhere[name], template=f"/{name}", plugin=name)
            if re.fullmatch(r"[\w-]+", name, re.ASCII):
                self._add(router, f"/{name}", known)
                self._add(router, f"/{name}/{{tail:.*}}", known)
        router.register_resource(_Nowhere(self, router))

    def _add(self, router: web.UrlDispatcher, path: str, known: Path) -> None:
        resource = router.add_resource(_PARAMETER.sub(r"{\1:[^/]+}", path), name=route_name(path))
        self._by_route[resource.add_route("*", dispatch, expect_handler=leave_expectation)] = known

    def path_of(self, request: web.Request) -> Path:
        """Return the path that the router has found for `request`."""
        route = request.match_info.route
        known = self._by_route.get(route)
        if known is not None:
            return known
        if isinstance(route, _NowhereRoute):
            return route.path
        resource = route.resource
        if resource is None:
            # aiohttp itself answers it.
            return _FOREIGN
        known = self._by_route[route] = Path(resource.canonical, foreign=True)
        return known

    def has(self, resource: web.AbstractResource) -> bool:
        """Tell whether a resource of the router is one of this table's."""
        known = [self._by_route.get(route) for route in resource]
        return any(path is not None and not path.foreign for path in known)

    def registered(self, route: web.AbstractRoute) -> Path | None:
        """Return the path of a route; None for one that is none of this table's, or leads nowhere."""
        known = self._by_route.get(route)
        return None if known is None or known.foreign else known

    def nowhere(self, path: str, location: str | None, target: Path | None) -> Path:
        """Return what stands at a `path` that leads nowhere, or to `target` at `location` without its last slash."""
        known = self._nowhere.get(path.lstrip("/").partition("/")[0], _NOWHERE)
        if target is None or location is None:
            return known
        public = known.public
        if target.guard is not None:
            public = frozenset(method for method in METHODS if target.access(method).public)
        return Path(guard=target.guard, public=public, location=self._prefix + location)


_NOWHERE = Path()
_FOREIGN = Path(foreign=True)


class _NowhereRoute(web.ResourceRoute):
    """Lead nowhere: `path` says who is told so."""

    def __init__(self, resource: _Nowhere, path: Path) -> None:
        super().__init__("*", dispatch, resource, expect_handler=leave_expectation)
        self.path = path


class _Nowhere(web.AbstractResource):
    """Take what no other resource of the router takes: aiohttp's own 404 knows neither our errors nor our redirects."""

    def __init__(self, table: Table, router: web.UrlDispatcher) -> None:
        super().__init__()
        self._table = table
        self._router = router
        self._prefix = ""
        self._route = _NowhereRoute(self, _NOWHERE)

    @property
    def canonical(self) -> str:
        """Return the pattern of what it takes: everything."""
        return f"{self._prefix}/{{tail}}"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Take the request."""
        path, target, parts = request.rel_url.path_safe, None, dict[str, str]()
        everything = self._table.paths.get(EVERYTHING)
        if path == EVERYTHING and everything is not None:
            known = everything
        else:
            location = self._location(request.rel_url.raw_path)
            if location is not None:
                there = request.clone(rel_url=URL(location, encoded=True))
                found = await self._router.resolve(there)
                target = self._table.registered(found.route)
                parts = dict(found)
            if target is None and await self._is_known(request):
                # Somebody else's handler is here, for other methods: aiohttp says which.
                return None, set()
            known = self._table.nowhere(path.removeprefix(self._prefix), location, target)
        return web.UrlMappingMatchInfo(parts, _NowhereRoute(self, known)), set()

    async def _is_known(self, request: web.Request) -> bool:
        others = [resource for resource in self._router.resources() if not self._table.has(resource)]
        return any([(await resource.resolve(request))[1] for resource in others if resource is not self])

    def _location(self, path: str) -> str | None:
        """Return where the client probably meant to go: without a slash at the end, or to the root with one."""
        if self._prefix and path == self._prefix:
            return f"{path}/"
        shorter = path.rstrip("/")
        # Two slashes at the beginning would name another host.
        return shorter if shorter and shorter != path and not shorter.startswith("//") else None

    def add_prefix(self, prefix: str) -> None:
        """Stand below `prefix`, as aiohttp asks of the resources of a sub-application."""
        self._prefix = prefix + self._prefix

    def url_for(self, **_: str) -> URL:
        """Raise `RuntimeError`: it has no URL."""
        raise RuntimeError("an unknown path has no URL")

    def get_info(self) -> Any:
        """Return what there is to know, as aiohttp asks."""
        return {"path": self.canonical}

    def raw_match(self, path: str) -> bool:
        """Tell that no path is added to it."""
        return False

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter((self._route,))


def _path(path: str, there: Mapping[str, Endpoint], guards: Mapping[str, Bulkhead]) -> Path:
    plugin = next(iter(there.values())).plugin
    public = METHODS if all(endpoint.access.public for endpoint in there.values()) else frozenset()
    return Path(path, plugin, guards.get(plugin), there, public)


def route_name(path: str) -> str:
    """Return the name of the route to `path`: its segments, with dots between them.

    A parameter begins in upper case, as does a segment that aiohttp does not take in a name: no resource's name does.
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
