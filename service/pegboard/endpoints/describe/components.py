"""The OpenAPI schemas of the service's own responses, errors and JSON Patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pegboard import errors
from pegboard.endpoints.describe.json_fields import ref
from pegboard.http.request import VERBS
from pegboard.schema import patching

_TEXT = {"type": "string"}
_VERBS = {"type": "array", "items": {"type": "string", "enum": list(VERBS)}}


def _object(about: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": about, "properties": properties, "required": list(properties)}


def _example(value: Any, about: str, kind: Any = "string") -> dict[str, Any]:
    return {"type": kind, "description": about, "examples": [value]}


def _items(component: str) -> dict[str, Any]:
    return _object("All of them.", items={"type": "array", "items": ref(component)})


SERVICE: Mapping[str, dict[str, Any]] = {
    "Catalogue": _object(
        "The resources of the service.",
        name={**_TEXT, "const": "pegboard"},
        version=_example("0.1.0", "The version of the service."),
        resources={"type": "array", "items": ref("CatalogueEntry")},
    ),
    "CatalogueEntry": _object(
        "One resource.",
        name=_example("contacts", "The name of the resource."),
        path=_example("/contacts", "The path of the collection."),
        verbs=_VERBS,
        summary=_example("People you keep in touch with.", "A summary of the resource."),
        plugin=_example("pegboard-contacts", "The distribution that it comes from."),
        version=_example("0.1.0", "The version of the distribution."),
    ),
    "ErrorCodes": _items("ErrorCode"),
    "ErrorCode": _object(
        "One kind of error.",
        code=_example(errors.InvalidJson.code, "The code of the error; it never changes.", "integer"),
        status=_example(errors.InvalidJson.status, "The status of the response.", "integer"),
        message=_example(errors.InvalidJson.message, "The default message."),
        plugin=_example(None, "The plugin that declares the code; null for the service.", ["string", "null"]),
    ),
    "Plugins": _items("Plugin"),
    "Plugin": _object(
        "One plugin and its state.",
        name=_example("contacts", "The name of its resource."),
        distribution=_example("pegboard-contacts", "The distribution that it comes from."),
        version=_example("0.1.0", "The version of the distribution."),
        state={"type": "string", "enum": ["ready", "failed", "conflict", "disabled"]},
        verbs=_VERBS,
        migrations={"type": "array", "items": _example("schema", "The name of an applied migration.")},
        fault=_example(None, "The reason why the plugin is not ready; null if it is.", ["string", "null"]),
    ),
    "Health": _object("The health of the process.", status={**_TEXT, "const": "ok"}),
    "Readiness": _object("The readiness of the service for requests.", status={**_TEXT, "const": "ready"}),
}

ERRORS: Mapping[str, dict[str, Any]] = {
    "Errors": {
        "type": "object",
        "description": "The errors of the request that one stage of its processing found.",
        "properties": {"errors": {"type": "array", "items": ref("Error"), "minItems": 1}},
        "required": ["errors"],
    },
    "Error": {
        "type": "object",
        "description": "One error, and the part of the request that it refers to, if any.",
        "properties": {
            "message": {"type": "string", "description": "The error, described for people."},
            "code": {"type": "integer", "minimum": 10000, "description": "The code of the error; it never changes."},
            "pointer": {"type": "string", "description": "A JSON Pointer into the body of the request (RFC 6901)."},
            "parameter": {"type": "string", "description": "The name of a query parameter."},
            "header": {"type": "string", "description": "The name of a header of the request."},
        },
        "required": ["message", "code"],
    },
}

_POINTER = {"type": "string", "pattern": "^(/([^~]|~[01])*)?$"}


def _step(about: str, operations: Sequence[str], **more: Any) -> dict[str, Any]:
    properties = {
        "op": {"type": "string", "enum": list(operations)},
        "path": {**_POINTER, "description": "A JSON Pointer (RFC 6901)."},
        **more,
    }
    return {"type": "object", "description": about, "properties": properties, "required": list(properties)}


PATCH: Mapping[str, Any] = {
    "type": "array",
    "description": "Operations that are applied in order, all or none (RFC 6902).",
    "maxItems": patching.MAX_OPERATIONS,
    "items": {
        "anyOf": [
            _step("Adds, replaces or tests a value.", ("add", "replace", "test"), value={"description": "The value."}),
            _step("Removes a value.", ("remove",)),
            _step(
                "Moves or copies a value.",
                ("move", "copy"),
                **{"from": {**_POINTER, "description": "The source, as a JSON Pointer."}},
            ),
        ]
    },
}
"""The schema of a JSON Patch document."""

COMPONENTS: Mapping[str, Any] = {**ERRORS, **SERVICE, "JsonPatch": PATCH}
"""All schemas of this module by name."""
