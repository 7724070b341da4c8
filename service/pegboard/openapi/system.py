"""The service's own paths, as OpenAPI tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pegboard import errors
from pegboard.errors import ErrorCode
from pegboard.openapi.answers import CONNECTION, CREDENTIALS
from pegboard.openapi.examples import example
from pegboard.openapi.fields import ref
from pegboard.openapi.paths import Operation, Parts, succeed
from pegboard.resources.reading import JSON
from pegboard.resources.resource import VERBS
from pegboard.telemetry.exposition import OPENMETRICS, TEXT

TAG = "service"
HTML = "text/html"

_TEXT = {"type": "string"}
_VERBS = {"type": "array", "items": {"type": "string", "enum": list(VERBS)}}


def _object(about: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": about, "properties": properties, "required": list(properties)}


def _given(value: Any, about: str, kind: Any = "string") -> dict[str, Any]:
    return {"type": kind, "description": about, "examples": [value]}


def _items(component: str) -> dict[str, Any]:
    return _object("All there are.", items={"type": "array", "items": ref(component)})


SCHEMAS: Mapping[str, dict[str, Any]] = {
    "Catalogue": _object(
        "What the service has.",
        name={**_TEXT, "const": "pegboard"},
        version=_given("0.1.0", "The version of the service."),
        resources={"type": "array", "items": ref("CatalogueEntry")},
    ),
    "CatalogueEntry": _object(
        "One resource.",
        name=_given("contacts", "What it is called."),
        path=_given("/contacts", "Where it answers."),
        verbs=_VERBS,
        summary=_given("People you keep in touch with.", "What it is about."),
        plugin=_given("pegboard-contacts", "The distribution that it comes from."),
        version=_given("0.1.0", "The version of that."),
    ),
    "ErrorCodes": _items("ErrorCode"),
    "ErrorCode": _object(
        "One kind of error.",
        code=_given(errors.JSON_PARSING.code, "What is wrong, stable for ever.", "integer"),
        status=_given(errors.JSON_PARSING.status, "The status that it is answered with.", "integer"),
        message=_given(errors.JSON_PARSING.message, "The text, where there is no better one."),
        plugin=_given(None, "The plugin whose code it is; null for the service's own.", ["string", "null"]),
    ),
    "Plugins": _items("Plugin"),
    "Plugin": _object(
        "One plugin, and how it fares.",
        name=_given("contacts", "The name of its resource."),
        distribution=_given("pegboard-contacts", "The distribution that it comes from."),
        version=_given("0.1.0", "The version of that."),
        state={"type": "string", "enum": ["ready", "failed", "conflict", "disabled"]},
        verbs=_VERBS,
        migrations={"type": "array", "items": _given("schema", "One that was applied.")},
        fault=_given(None, "Why it does not serve.", ["string", "null"]),
    ),
    "Health": _object("That the process serves.", status={**_TEXT, "const": "ok"}),
    "Readiness": _object("That requests are welcome.", status={**_TEXT, "const": "ready"}),
}


@dataclass(frozen=True, slots=True)
class _Own:
    """Describe what is read at one of the service's own paths."""

    name: str
    summary: str
    about: str
    schema: Mapping[str, Any]
    codes: tuple[ErrorCode, ...] = ()
    public: bool = False
    media_type: str = JSON
    others: tuple[str, ...] = ()
    conditional: bool = False
    parameters: tuple[Mapping[str, Any], ...] = ()


_RESOURCE = {
    "name": "resource",
    "in": "path",
    "required": True,
    "description": "The name of the resource.",
    "schema": {"type": "string", "examples": ["contacts"]},
}


def _table(docs_public: bool) -> Mapping[str, _Own]:
    page: dict[str, Any] = {
        "schema": {"type": "string"},
        "public": docs_public,
        "media_type": HTML,
        "conditional": True,
    }
    return {
        "/": _Own("catalogue", "See the catalogue", "The resources that are there.", ref("Catalogue")),
        "/docs": _Own("docs", "Read the reference", "The Overview, for people.", **page),
        "/docs/{resource}": _Own(
            "docs.resource",
            "Read about a resource",
            "Its page in the reference, for people.",
            codes=(errors.NOT_FOUND,),
            parameters=(_RESOURCE,),
            **page,
        ),
        "/openapi.json": _Own(
            "openapi",
            "Get this document",
            "All that is mounted, as OpenAPI 3.1.",
            {"type": "object"},
            public=docs_public,
            conditional=True,
        ),
        "/errors": _Own("errors", "List the error codes", "Every code, those of plugins included.", ref("ErrorCodes")),
        "/plugins": _Own(
            "plugins",
            "List the plugins",
            "What is installed, and why one of them does not serve. Needs the grant `plugins:GET`.",
            ref("Plugins"),
            (errors.NOT_ALLOWED,),
        ),
        "/metrics": _Own(
            "metrics",
            "Read the metrics",
            "In the text format of Prometheus, or in that of OpenMetrics. Needs the grant `metrics:GET`.",
            {"type": "string"},
            (errors.NOT_ALLOWED,),
            media_type=TEXT,
            others=(OPENMETRICS,),
        ),
        "/health": _Own("health", "Ask whether the process serves", "Touches no database.", ref("Health"), public=True),
        "/ready": _Own(
            "ready",
            "Ask whether requests are welcome",
            "The database answers, the migrations are applied, the required plugins are up.",
            ref("Readiness"),
            (errors.PLUGIN_UNAVAILABLE, errors.DATABASE_UNAVAILABLE, errors.SHUTTING_DOWN),
            public=True,
        ),
    }


def paths(parts: Parts, docs_public: bool) -> dict[str, Any]:
    """Return what stands at each of the service's own paths."""
    return {path: _item(own, parts) for path, own in _table(docs_public).items()}


def _item(own: _Own, parts: Parts) -> dict[str, Any]:
    title = own.summary[:1].lower() + own.summary[1:]
    head = "The headers that GET answers with, and no body."
    item: dict[str, Any] = {"parameters": list(own.parameters)} if own.parameters else {}
    return item | {
        "get": _operation(own, parts, own.name, own.summary, own.about),
        "head": _operation(own, parts, f"{own.name}.head", f"Only the headers: {title}", head),
        "options": _options(own, parts),
    }


def _operation(own: _Own, parts: Parts, name: str, summary: str, about: str) -> Operation:
    media: dict[str, Any] = {"schema": own.schema}
    if "$ref" in own.schema:
        media["example"] = example(own.schema, SCHEMAS)
    guarded = ("Content-Security-Policy", "Referrer-Policy") if own.media_type == HTML else ()
    tagged = ("ETag", *guarded) if own.conditional else ()
    responses = {"200": succeed(own.about, *tagged, content=dict.fromkeys((own.media_type, *own.others), media))}
    conditions: tuple[str, ...] = ()
    codes = (*_codes(own), errors.NOT_ACCEPTABLE, *own.codes)
    if own.conditional:
        conditions = ("If-None-Match", "If-Match")
        codes = (*codes, errors.BAD_HEADER, errors.PRECONDITION_FAILED)
        responses["304"] = succeed("It is still as the client has it.", *tagged)
    return {
        "tags": [TAG],
        "operationId": f"{TAG}.{name}",
        "summary": summary,
        "description": about,
        **_open(own),
        "parameters": parts.parameters.headers(*conditions),
        "responses": responses | parts.answers.of(codes, name),
    }


def _options(own: _Own, parts: Parts) -> Operation:
    codes = (*_codes(own), errors.NOT_FOUND) if own.parameters else _codes(own)
    return {
        "tags": [TAG],
        "operationId": f"{TAG}.{own.name}.options",
        "summary": f"See what is allowed at {own.name}",
        "description": "Names the methods in `Allow`.",
        **_open(own),
        "parameters": parts.parameters.headers(),
        "responses": {"204": succeed("What is allowed here.", "Allow")} | parts.answers.of(codes, "options"),
    }


def _open(own: _Own) -> dict[str, Any]:
    return {"security": []} if own.public else {}


def _codes(own: _Own) -> tuple[ErrorCode, ...]:
    return CONNECTION if own.public else (*CONNECTION, *CREDENTIALS)
