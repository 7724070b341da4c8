"""The OpenAPI document, made from the table of endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pegboard.docs.openapi.error_responses import Responses
from pegboard.docs.openapi.headers import HEADERS
from pegboard.docs.openapi.operation import Parameters, operation
from pegboard.endpoints.describe.components import COMPONENTS
from pegboard.endpoints.describe.plugins import Description
from pegboard.endpoints.describe.service import TAG
from pegboard.endpoints.endpoint import Endpoint
from pegboard.hosting.discovery import Plugin, State

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
_SERVICE = "Information about the service itself."
_SECURITY = {"basic": {"type": "http", "scheme": "basic", "description": "RFC 7617, in UTF-8."}}


def document(
    version: str,
    plugins: Sequence[Plugin],
    endpoints: Sequence[Endpoint],
    description: Description,
    prefix: str = "",
) -> dict[str, Any]:
    """Return the document as plain values, in the same order each time.

    `prefix` is the path that stands before all paths. A plugin that does not serve is named, and no more.
    """
    serving = {plugin.name for plugin in plugins if plugin.state is State.READY}
    documented = [one for one in endpoints if one.documented and (not one.plugin or one.plugin in serving)]
    # The service's own first, so that what others share with them has the plain names.
    documented.sort(key=lambda endpoint: endpoint.plugin != "")
    responses, parameters = Responses(), Parameters()
    described = [(one, operation(one, parameters, responses)) for one in documented]
    # And they are read last.
    described.sort(key=lambda each: each[0].plugin == "")
    paths: dict[str, Any] = {}
    for endpoint, told in described:
        of_path = parameters.of_path(endpoint)
        item = paths.setdefault(endpoint.path, {"parameters": of_path} if of_path else {})
        item[endpoint.method.lower()] = told
    components = {
        "schemas": {**description.schemas, **COMPONENTS},
        "responses": responses.components,
        "parameters": parameters.components,
        "headers": HEADERS,
    }
    texts = {name: declared.text for name, declared in description.declared.items()}
    return {
        "openapi": "3.1.1",
        "info": _info(version, plugins),
        "servers": [{"url": prefix or "/", "description": "Where this document comes from."}],
        "security": [{"basic": []}],
        "tags": _tags(plugins, texts),
        "paths": paths,
        "components": {**_used(paths, components), "securitySchemes": _SECURITY},
    }


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


def _tags(plugins: Sequence[Plugin], texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a tag for every name that a plugin claims, and one for the service's own paths."""
    found = {plugin.name: _text(plugin, texts) for plugin in plugins} | {TAG: _SERVICE}
    return [{"name": name, "description": text} for name, text in found.items()]


def _text(plugin: Plugin, texts: Mapping[str, str]) -> str:
    if plugin.state is not State.READY:
        return f"{_OUT} ({plugin.state})."
    return texts.get(plugin.name) or f"The resource `{plugin.name}`."


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
