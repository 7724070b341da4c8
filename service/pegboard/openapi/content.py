"""The content of a resource's items, as OpenAPI tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pegboard import errors
from pegboard.openapi.answers import CONNECTION, CONTENT_ACTIONS, CREDENTIALS
from pegboard.openapi.parameters import READING, WRITING
from pegboard.openapi.paths import Operation, Parts, identified, succeed
from pegboard.resources.content import Content
from pegboard.resources.resource import VERBS, Resource
from pegboard.resources.transfer import PLACE

_TOLD = ("ETag", "Last-Modified", "Repr-Digest", "Content-Disposition", "Content-Security-Policy")


def content_paths(
    name: str, resource: type[Resource], settings: Mapping[str, Any], parts: Parts
) -> dict[str, Operation]:
    """Return what stands at the path of an item's content; nothing where items have none."""
    declared = resource.content
    if declared is None:
        return {}
    declared = replace(declared, max_size=declared.limit(settings))
    serving = [verb for verb in VERBS if verb in declared.verbs]
    found: Operation = {"parameters": [identified(resource)]}
    for verb in serving:
        operation = _DESCRIBED[verb](resource, declared, parts)
        codes = (*CONNECTION, *CREDENTIALS, *CONTENT_ACTIONS[verb], *resource.error_codes)
        if verb == "PUT" and resource.needs_match:
            codes = (*codes, errors.PRECONDITION_REQUIRED)
        operation["responses"] |= parts.answers.of(codes, f"content.{verb.lower()}")
        found[verb.lower()] = _named(name, verb.lower()) | operation
    allowed: Operation = {
        "parameters": parts.parameters.headers(),
        "responses": {"204": succeed("What is allowed here.", "Allow")},
    }
    codes = (*CONNECTION, *CREDENTIALS, errors.PLUGIN_UNAVAILABLE, errors.NOT_FOUND)
    allowed["responses"] |= parts.answers.of(codes, "options")
    found["options"] = _named(name, "options") | allowed
    return {f"/{name}/{{id}}/{PLACE}": found}


def _named(name: str, verb: str) -> Operation:
    title, about = _SUMMARIES[verb]
    described = {"operationId": f"{name}.{PLACE}.{verb}", "summary": title, "description": about}
    return {"tags": [name], **described}


_SUMMARIES: Mapping[str, tuple[str, str]] = {
    "get": (
        "Download the content of an item",
        "The bytes, of the media type that they came with. `Range` asks for a part of them, such as the rest of a "
        "download that was cut.",
    ),
    "head": ("Read the headers of the content", "The headers that GET answers with, and no body."),
    "put": (
        "Upload the content of an item",
        "Takes bytes of any length up to the limit, as they come; what was there before stays until all have come.",
    ),
    "options": ("See what is allowed on the content", "Names the methods in `Allow`."),
}


def _bodies(types: Sequence[str]) -> dict[str, Any]:
    """Return the media types of content.

    JSON Schema knows no bytes; the format is that of OpenAPI 3.0, by which generators of clients still know them.
    """
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in types}


def _get(_: type[Resource], declared: Content, parts: Parts) -> Operation:
    bodies = _bodies(declared.types)
    return {
        "parameters": parts.parameters.headers("Range", "If-Range", *READING),
        "responses": {
            "200": succeed("The whole content.", *_TOLD, "Accept-Ranges", content=bodies),
            "206": succeed("The part that was asked for.", *_TOLD, "Accept-Ranges", "Content-Range", content=bodies),
            "304": succeed("The content is still as the client has it.", *_TOLD),
        },
    }


def _head(_: type[Resource], declared: Content, parts: Parts) -> Operation:
    return {
        "parameters": parts.parameters.headers(*READING),
        "responses": {
            "200": succeed("What GET would answer.", *_TOLD, "Accept-Ranges", content=_bodies(declared.types)),
            "304": succeed("The content is still as the client has it.", *_TOLD),
        },
    }


def _put(resource: type[Resource], declared: Content, parts: Parts) -> Operation:
    conditions = [
        "If-Match-Required" if resource.needs_match and header == "If-Match" else header for header in WRITING
    ]
    about = f"The content, of at most {declared.max_size:,} bytes."
    return {
        "parameters": parts.parameters.headers("Content-Digest", "Repr-Digest", *conditions),
        "requestBody": {"required": True, "description": about, "content": _bodies(declared.types)},
        "responses": {
            "201": succeed("The item has content now.", *_TOLD, "Location"),
            "204": succeed("The content was replaced.", *_TOLD),
        },
    }


_DESCRIBED: Mapping[str, Callable[[type[Resource], Content, Parts], Operation]] = {
    "GET": _get,
    "HEAD": _head,
    "PUT": _put,
}
