"""An endpoint as an OpenAPI operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pegboard.docs.openapi.error_responses import Responses
from pegboard.endpoints.describe.examples import NOTHING
from pegboard.endpoints.describe.json_fields import ref
from pegboard.endpoints.describe.service import TAG
from pegboard.endpoints.endpoint import Endpoint, Media, Parameter, ResponseSpec

ALWAYS = ("X-Request-Id", "Cache-Control", "X-Content-Type-Options", "Vary")
"""The headers that any response may have."""


class Parameters:
    """Collect the parameters of a document."""

    def __init__(self) -> None:
        self._components: dict[str, dict[str, Any]] = {}

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """Return all parameters by the names of their components."""
        return {name: self._components[name] for name in sorted(self._components)}

    def of(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """Return references to the parameters of an endpoint, except those of its path."""
        return [self._reference(parameter) for parameter in endpoint.parameters if parameter.location != "path"]

    def of_path(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """Return the parameters of an endpoint's path."""
        return [_parameter(parameter) for parameter in endpoint.parameters if parameter.location == "path"]

    def _reference(self, parameter: Parameter) -> dict[str, Any]:
        described, name = _parameter(parameter), parameter.component
        while self._components.get(name, described) != described:
            name += "."
        self._components[name] = described
        return ref(name, "parameters")


def operation(endpoint: Endpoint, parameters: Parameters, responses: Responses) -> dict[str, Any]:
    """Return the operation of an endpoint; add its shared components to `parameters` and `responses`."""
    errors = responses.of(endpoint.errors, endpoint.errors_of, endpoint.invalid)
    replies = {str(reply.status): _reply(reply) for reply in endpoint.responses}
    result: dict[str, Any] = {
        "tags": [endpoint.plugin or TAG],
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": endpoint.description,
    }
    if endpoint.access.public:
        result["security"] = [{}, {"basic": []}] if endpoint.plugin else []
    result["parameters"] = parameters.of(endpoint)
    if endpoint.body is not None:
        about = {"description": endpoint.body.description} if endpoint.body.description else {}
        result["requestBody"] = {"required": True, **about, "content": _content(endpoint.body.content)}
    return result | {"responses": replies | errors}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.location,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    if parameter.required:
        result["required"] = True
    return result if parameter.example is NOTHING else result | {"example": parameter.example}


def _reply(reply: ResponseSpec) -> dict[str, Any]:
    headers = {name: ref(name, "headers") for name in (*reply.headers, *ALWAYS)}
    result: dict[str, Any] = {"description": reply.description, "headers": headers}
    if reply.content:
        result["content"] = _content(reply.content)
    return result | ({"links": dict(reply.links)} if reply.links else {})


def _content(content: Mapping[str, Media]) -> dict[str, Any]:
    return {media_type: _media(media) for media_type, media in content.items()}


def _media(media: Media) -> dict[str, Any]:
    result: dict[str, Any] = {"schema": media.schema}
    if media.example is not NOTHING:
        result["example"] = media.example
    if media.examples:
        examples = media.examples.items()
        result["examples"] = {name: {"summary": summary, "value": value} for name, (summary, value) in examples}
    return result
