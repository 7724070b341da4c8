"""The schemas of the document that are no plugin's: what the service tells of itself, errors, JSON Patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pegboard import errors
from pegboard.api.resource import VERBS
from pegboard.endpoints.describe.json_fields import ref
from pegboard.schema import patching

_TEXT = {"type": "string"}
_VERBS = {"type": "array", "items": {"type": "string", "enum": list(VERBS)}}


def _object(about: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": about, "properties": properties, "required": list(properties)}


def _given(value: Any, about: str, kind: Any = "string") -> dict[str, Any]:
    return {"type": kind, "description": about, "examples": [value]}


def _items(component: str) -> dict[str, Any]:
    return _object("All there are.", items={"type": "array", "items": ref(component)})


SERVICE: Mapping[str, dict[str, Any]] = {
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
        code=_given(errors.InvalidJson.code, "What is wrong, stable for ever.", "integer"),
        status=_given(errors.InvalidJson.status, "The status that it is answered with.", "integer"),
        message=_given(errors.InvalidJson.message, "The text, where there is no better one."),
        plugin=_given(None, "The plugin whose code it is; null for the service's own.", ["string", "null"]),
    ),
    "Plugins": _items("Plugin"),
    "Plugin": _object(
        "One plugin and its state.",
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

ERRORS: Mapping[str, dict[str, Any]] = {
    "Errors": {
        "type": "object",
        "description": "What is wrong: every error that one stage of handling the request found.",
        "properties": {"errors": {"type": "array", "items": ref("Error"), "minItems": 1}},
        "required": ["errors"],
    },
    "Error": {
        "type": "object",
        "description": "One error, and where it is, if it has a place in the request.",
        "properties": {
            "message": {"type": "string", "description": "What is wrong, for people."},
            "code": {"type": "integer", "minimum": 10000, "description": "What is wrong, stable for ever."},
            "pointer": {"type": "string", "description": "Where in the request's body (RFC 6901)."},
            "parameter": {"type": "string", "description": "Which query parameter."},
            "header": {"type": "string", "description": "Which header of the request."},
        },
        "required": ["message", "code"],
    },
}

_POINTER = {"type": "string", "pattern": "^(/([^~]|~[01])*)?$"}


def _step(about: str, operations: Sequence[str], **more: Any) -> dict[str, Any]:
    properties = {
        "op": {"type": "string", "enum": list(operations)},
        "path": {**_POINTER, "description": "Where (RFC 6901)."},
        **more,
    }
    return {"type": "object", "description": about, "properties": properties, "required": list(properties)}


PATCH: Mapping[str, Any] = {
    "type": "array",
    "description": "Operations that are done in order, all or none (RFC 6902).",
    "maxItems": patching.MAX_OPERATIONS,
    "items": {
        "anyOf": [
            _step("Puts a value in, or tests it.", ("add", "replace", "test"), value={"description": "What."}),
            _step("Takes a value away.", ("remove",)),
            _step(
                "Takes a value from elsewhere.", ("move", "copy"), **{"from": {**_POINTER, "description": "Whence."}}
            ),
        ]
    },
}
"""The schema of a JSON Patch."""

COMPONENTS: Mapping[str, Any] = {**ERRORS, **SERVICE, "JsonPatch": PATCH}
"""All of them by their names."""
