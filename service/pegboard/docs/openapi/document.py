"""Generation of the OpenAPI document from the table of endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pegboard.docs.openapi.error_responses import Responses
from pegboard.docs.openapi.operation import Parameters, operation
from pegboard.endpoints.describe.components import COMPONENTS
from pegboard.endpoints.describe.plugins import Description
from pegboard.endpoints.describe.service import TAG
from pegboard.endpoints.endpoint import Endpoint
from pegboard.hosting.discovery import Plugin, State
from pegboard.http import headers
from pegboard.http.headers import Header

_ABOUT = """\
A service whose resources are plugins. They all behave alike: the same authentication, errors, dates, paging,
conditional requests and retries.

- Everything is JSON in UTF-8. Dates are in UTC and look like `2015-02-15T05:21:07Z`.
- Requests need HTTP Basic authentication, user names and passwords in UTF-8.
- A response of 400 or above has a list of errors, each with a `message` for people and a `code` that never changes its
  meaning; `pointer`, `parameter` or `header` refers to the part of the request that caused the error.
- Collections come in pages: follow `next` until it is null. Text is sorted by code points.
- Text cannot hold U+0000.
"""
_UNAVAILABLE = "Unavailable"
_SERVICE = "Information about the service itself."
_SECURITY = {"basic": {"type": "http", "scheme": "basic", "description": "RFC 7617, in UTF-8."}}


def document(
    version: str,
    plugins: Sequence[Plugin],
    endpoints: Sequence[Endpoint],
    description: Description,
    prefix: str = "",
) -> dict[str, Any]:
    """Return the document as plain values, in a deterministic order.

    `prefix` is the prefix of all paths. Of a plugin that does not serve, only the name is included.
    """
    serving = {plugin.name for plugin in plugins if plugin.state is State.READY}
    documented = [e for e in endpoints if e.documented and (not e.plugin or e.plugin in serving)]
    # The service's own endpoints come first, so that the components that they share with others get the short names.
    documented.sort(key=lambda endpoint: endpoint.plugin != "")
    responses, parameters = Responses(), Parameters()
    described = [(endpoint, operation(endpoint, parameters, responses)) for endpoint in documented]
    # But they are listed last.
    described.sort(key=lambda pair: pair[0].plugin == "")
    paths: dict[str, Any] = {}
    for endpoint, operation_object in described:
        path_parameters = parameters.of_path(endpoint)
        item = paths.setdefault(endpoint.path, {"parameters": path_parameters} if path_parameters else {})
        item[endpoint.method.lower()] = operation_object
    components = {
        "schemas": {**description.schemas, **COMPONENTS},
        "responses": responses.components,
        "parameters": parameters.components,
        "headers": {name: _header(header) for name, header in headers.RESPONSE.items()},
    }
    texts = {name: declared.text for name, declared in description.declared.items()}
    return {
        "openapi": "3.1.1",
        "info": _info(version, plugins),
        "servers": [{"url": prefix or "/", "description": "The server of this document."}],
        "security": [{"basic": []}],
        "tags": _tags(plugins, texts),
        "paths": paths,
        "components": {**_used(paths, components), "securitySchemes": _SECURITY},
    }


def _header(header: Header) -> dict[str, Any]:
    shape = {"description": header.description, "schema": header.schema}
    return shape | ({"required": True} if header.always else {})


def _info(version: str, plugins: Sequence[Plugin]) -> dict[str, Any]:
    unavailable = sorted({plugin.name for plugin in plugins if plugin.state is not State.READY})
    sentence = f"\n{_UNAVAILABLE}: {', '.join(f'`{name}`' for name in unavailable)}.\n" if unavailable else ""
    return {
        "title": "Pegboard",
        "version": version,
        "summary": "The resources of a Pegboard service.",
        "description": _ABOUT + sentence,
        "contact": {"name": "The operator of this service"},
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }


def _tags(plugins: Sequence[Plugin], texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a tag for the name of every plugin, and one for the service's own paths."""
    found = {plugin.name: _text(plugin, texts) for plugin in plugins} | {TAG: _SERVICE}
    return [{"name": name, "description": text} for name, text in found.items()]


def _text(plugin: Plugin, texts: Mapping[str, str]) -> str:
    if plugin.state is not State.READY:
        return f"{_UNAVAILABLE} ({plugin.state})."
    return texts.get(plugin.name) or f"The resource `{plugin.name}`."


def _used(paths: Any, components: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the components that are referred to, by kind and sorted by name."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in components}
    pending = list(_references(paths))
    while pending:
        kind, name = pending.pop().removeprefix("#/components/").split("/")
        if name not in found[kind]:
            found[kind][name] = components[kind][name]
            pending += _references(components[kind][name])
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
