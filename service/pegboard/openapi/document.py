"""The OpenAPI document of all that is mounted, made from what the plugins declare."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pegboard.discovery import Plugin, State
from pegboard.openapi import answers, system
from pegboard.openapi.answers import Answers
from pegboard.openapi.content import content_paths
from pegboard.openapi.fields import ref
from pegboard.openapi.operations import OperationPaths
from pegboard.openapi.parameters import HEADERS, Parameters
from pegboard.openapi.paths import PATCH, Parts, ResourcePaths
from pegboard.openapi.schemas import Names, Schemas
from pegboard.queries import mapping
from pegboard.resources.resource import Resource

log = logging.getLogger("pegboard.openapi")

_ABOUT = """\
A service whose resources are plugins. They all behave alike: the same authentication, errors, dates, paging,
conditional requests and retries.

- Everything is JSON in UTF-8. Dates are in UTC and look like `2015-02-15T05:21:07Z`.
- Requests need HTTP Basic authentication, user names and passwords in UTF-8.
- An answer of 400 or above has a list of errors, each with a `message` for people and a `code` that never changes its
  meaning; `pointer`, `parameter` or `header` says where.
- Collections come in pages: follow `next` until it is null. Text is sorted by code points.
- Text cannot hold U+0000.
"""
_OUT = "Out of service"
_SERVICE = "What the service tells about itself."
_OWN: dict[str, Any] = {**answers.SCHEMAS, **system.SCHEMAS, "JsonPatch": PATCH}


def document(version: str, plugins: Sequence[Plugin], prefix: str = "", *, docs_public: bool = True) -> dict[str, Any]:
    """Return the document as plain values, in the same order each time.

    `prefix` is the path under which a proxy serves us. A plugin that does not serve is named, and no more; one that
    cannot be described is too, and hides none of the others.
    """
    parts = Parts(Schemas(_OWN), Parameters(), Answers())
    own = system.paths(parts, docs_public)
    serving = {plugin.name: plugin.resource for plugin in plugins if plugin.state is State.READY and plugin.resource}
    settings = {plugin.name: plugin.settings for plugin in plugins}
    names = _add_schemas(serving, parts.schemas)
    paths: dict[str, Any] = {}
    for name, own_names in names.items():
        with _apart(name):
            paths |= ResourcePaths(name, serving[name], own_names, parts).paths()
            paths |= content_paths(name, serving[name], settings[name], parts)
            paths |= OperationPaths(name, serving[name], own_names, parts).paths()
    components = {
        "schemas": parts.schemas.components | _OWN,
        "responses": parts.answers.components,
        "parameters": parts.parameters.components,
        "headers": HEADERS,
    }
    paths |= own
    security = {"basic": {"type": "http", "scheme": "basic", "description": "RFC 7617, in UTF-8."}}
    return {
        "openapi": "3.1.1",
        "info": _info(version, plugins),
        "servers": [{"url": prefix or "/", "description": "Where this document comes from."}],
        "security": [{"basic": []}],
        "tags": _tags(plugins),
        "paths": paths,
        "components": {**_used(paths, components), "securitySchemes": security},
    }


def _add_schemas(serving: Mapping[str, type[Resource]], schemas: Schemas) -> dict[str, Names]:
    """Add the schemas of every resource, and return their names; one that cannot be described is left out."""
    named = {}
    for name, resource in serving.items():
        with _apart(name):
            named[name] = schemas.names(resource, name)
    described = {}
    for name in named:
        with _apart(name):
            leading = mapping.references(serving[name].schema())
            shown = {field: ref(named[to].item) for field, to in leading.items() if to in named}
            schemas.add(serving[name], named[name], shown)
            described[name] = named[name]
    return described


@contextmanager
def _apart(name: str) -> Iterator[None]:
    """Keep what goes wrong with one plugin from the others."""
    try:
        yield
    except Exception:
        log.exception("the plugin %s cannot be described", name)


def _info(version: str, plugins: Sequence[Plugin]) -> dict[str, Any]:
    out = sorted({plugin.name for plugin in plugins if plugin.state is not State.READY})
    named = f"\n{_OUT}: {', '.join(f'`{name}`' for name in out)}.\n" if out else ""
    return {
        "title": "Pegboard",
        "version": version,
        "summary": "The resources of a Pegboard service.",
        "description": _ABOUT + named,
        "contact": {"name": "Whoever runs this service"},
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }


def _tags(plugins: Sequence[Plugin]) -> list[dict[str, str]]:
    """Return a tag for every name that a plugin claims, and one for the service's own paths."""
    found = {plugin.name: _text(plugin) for plugin in plugins} | {system.TAG: _SERVICE}
    return [{"name": name, "description": text} for name, text in found.items()]


def _text(plugin: Plugin) -> str:
    if plugin.state is not State.READY or plugin.resource is None:
        return f"{_OUT} ({plugin.state})."
    return plugin.resource.text() or f"The resource `{plugin.name}`."


def _used(paths: Any, components: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return those components that something leads to, by their kinds and in the order of their names."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in components}
    waiting = list(_references(paths))
    while waiting:
        kind, name = waiting.pop().removeprefix("#/components/").split("/")
        if name not in found[kind]:
            found[kind][name] = components[kind][name]
            waiting += _references(components[kind][name])
    return {kind: {name: members[name] for name in sorted(members)} for kind, members in found.items()}


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)
