"""The endpoints of the service itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from pegboard import errors
from pegboard.auth import clients
from pegboard.endpoints.describe import errors as endpoint_errors
from pegboard.endpoints.describe import parameters
from pegboard.endpoints.describe.components import SERVICE
from pegboard.endpoints.describe.examples import NOTHING, example
from pegboard.endpoints.describe.json_fields import ref
from pegboard.endpoints.endpoint import ANY_CLIENT, PUBLIC, Access, Endpoint, Media, Parameter, ResponseSpec
from pegboard.errors import ApiError
from pegboard.http.negotiation import JSON
from pegboard.http.protocol import Response
from pegboard.http.request import STATE, VERBS
from pegboard.telemetry.exposition import OPENMETRICS, TEXT

TAG = "service"
"""The tag of these endpoints in the OpenAPI document."""
EVERYTHING = "*"
"""The path of `OPTIONS *`, which refers to the entire service (RFC 9110 §9.3.7)."""

DOCS = "/docs"
"""The path of the API reference; its pages are below it."""
DOCUMENT = "/openapi.json"
"""The path of the OpenAPI document."""

_HTML = "text/html"
_PAGE_HEADERS = ("Content-Security-Policy", "Referrer-Policy")


async def show_allowed(request: web.Request) -> Response:
    """Respond to OPTIONS with the methods that the path allows."""
    return Response(204, request[STATE].path.headers())


async def show_everything(_: web.Request) -> Response:
    """Respond to `OPTIONS *`."""
    return Response(204, {"Allow": ", ".join((*VERBS, "OPTIONS"))})


@dataclass(frozen=True, slots=True)
class _ServicePath:
    """Describe one of the service's own paths."""

    name: str
    summary: str
    about: str
    schema: Mapping[str, Any]
    codes: tuple[type[ApiError], ...] = ()
    public: bool = False
    media_type: str = JSON
    others: tuple[str, ...] = ()
    conditional: bool = False
    parameters: tuple[Parameter, ...] = ()
    grants: tuple[frozenset[str], ...] = ()

    @property
    def access(self) -> Access:
        """Return who may read the path."""
        return PUBLIC if self.public else Access(grants=self.grants)


_RESOURCE = Parameter(
    "resource",
    "path",
    "The name of the resource.",
    {"type": "string", "examples": ["contacts"]},
    required=True,
)


def _table(docs_public: bool) -> Mapping[str, _ServicePath]:
    page: dict[str, Any] = {
        "schema": {"type": "string"},
        "public": docs_public,
        "media_type": _HTML,
        "conditional": True,
    }
    return {
        "/": _ServicePath("catalogue", "See the catalogue", "The resources of the service.", ref("Catalogue")),
        DOCS: _ServicePath("docs", "Read the reference", "The Overview, for people.", **page),
        f"{DOCS}/{{resource}}": _ServicePath(
            "docs.resource",
            "Read about a resource",
            "Its page in the reference, for people.",
            codes=(errors.NotFound,),
            parameters=(_RESOURCE,),
            **page,
        ),
        DOCUMENT: _ServicePath(
            "openapi",
            "Get this document",
            "The entire API as OpenAPI 3.1.",
            {"type": "object"},
            public=docs_public,
            conditional=True,
        ),
        "/errors": _ServicePath(
            "errors", "List the error codes", "Every error code, including those of plugins.", ref("ErrorCodes")
        ),
        "/plugins": _ServicePath(
            "plugins",
            "List the plugins",
            "The installed plugins, and why one of them does not serve. Needs the grant `plugins:GET`.",
            ref("Plugins"),
            (errors.Forbidden,),
            grants=(clients.sufficient_grants("plugins", "GET"),),
        ),
        "/metrics": _ServicePath(
            "metrics",
            "Read the metrics",
            "In the text format of Prometheus, or in that of OpenMetrics. Needs the grant `metrics:GET`.",
            {"type": "string"},
            (errors.Forbidden,),
            grants=(clients.sufficient_grants("metrics", "GET"),),
            media_type=TEXT,
            others=(OPENMETRICS,),
        ),
        "/health": _ServicePath(
            "health", "Check the health of the process", "Does not use the database.", ref("Health"), public=True
        ),
        "/ready": _ServicePath(
            "ready",
            "Check the readiness of the service",
            "The database is available, the migrations are applied, the required plugins are ready.",
            ref("Readiness"),
            (errors.PluginUnavailable, errors.DatabaseUnavailable, errors.ShuttingDown),
            public=True,
        ),
    }


def service_endpoints(
    handlers: Mapping[str, Handler], assets: Mapping[str, Handler], *, docs_public: bool
) -> Iterator[Endpoint]:
    """Yield the endpoints; `handlers` has their handlers by name, `assets` those of the pages' assets by path."""
    for path, own in _table(docs_public).items():
        yield from _at(path, own, handlers[own.name])
    for path, handler in assets.items():
        yield from _undocumented(path, ("GET", "HEAD"), handler, PUBLIC if docs_public else ANY_CLIENT)
        yield from _undocumented(path, ("OPTIONS",), show_allowed, PUBLIC if docs_public else ANY_CLIENT)
    yield from _undocumented(EVERYTHING, ("OPTIONS",), show_everything, ANY_CLIENT)


def _undocumented(path: str, methods: Iterable[str], handler: Handler, access: Access) -> Iterator[Endpoint]:
    for method in methods:
        name = f"{TAG}.{path}.{method}"
        yield Endpoint(method, path, handler, "", access, name, "read", "", "", documented=False)


def _at(path: str, own: _ServicePath, handler: Handler) -> Iterator[Endpoint]:
    title = own.summary[:1].lower() + own.summary[1:]
    yield _read("GET", path, own, handler, own.name, own.summary, own.about)
    head = "The headers of the response to GET, without its body."
    yield _read("HEAD", path, own, handler, f"{own.name}.head", f"Only the headers: {title}", head)
    yield Endpoint(
        method="OPTIONS",
        path=path,
        handler=show_allowed,
        plugin="",
        access=PUBLIC if own.public else ANY_CLIENT,
        name=f"{TAG}.{own.name}.options",
        action="options",
        summary=f"See what is allowed at {own.name}",
        description="Names the methods in `Allow`.",
        responses=(ResponseSpec(204, "The allowed methods.", ("Allow",)),),
        errors=(*_errors(own), errors.NotFound) if own.parameters else _errors(own),
        parameters=(*own.parameters, *parameters.headers()),
        errors_of="options",
    )


def _read(method: str, path: str, own: _ServicePath, handler: Handler, name: str, summary: str, about: str) -> Endpoint:
    media = Media(own.schema, example(own.schema, SERVICE) if "$ref" in own.schema else NOTHING)
    tagged = ("ETag", *(_PAGE_HEADERS if own.media_type == _HTML else ())) if own.conditional else ()
    replies = [ResponseSpec(200, own.about, tagged, dict.fromkeys((own.media_type, *own.others), media))]
    codes = (*_errors(own), errors.NotAcceptable, *own.codes)
    conditions: tuple[str, ...] = ()
    if own.conditional:
        conditions = ("If-None-Match", "If-Match")
        codes = (*codes, errors.InvalidHeader, errors.PreconditionFailed)
        replies.append(ResponseSpec(304, "It has not changed.", tagged))
    return Endpoint(
        method=method,
        path=path,
        handler=handler,
        plugin="",
        access=own.access,
        name=f"{TAG}.{name}",
        action="read",
        summary=summary,
        description=about,
        responses=tuple(replies),
        errors=codes,
        parameters=(*own.parameters, *parameters.headers(*conditions)),
        errors_of=name,
    )


def _errors(own: _ServicePath) -> tuple[type[ApiError], ...]:
    return endpoint_errors.CONNECTION if own.public else (*endpoint_errors.CONNECTION, *endpoint_errors.CREDENTIALS)
