"""The data for the page of a resource, from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pegboard.docs.reference import wording
from pegboard.docs.reference.prose import Prose, prose
from pegboard.docs.reference.wording import Document
from pegboard.http.request import VERBS

JSON = "application/json"
_DEEPEST = 4
_LEVEL = 3
"""The level of the headings in descriptions."""
_COMMON = ("X-Request-Id",)
"""The headers that every request may have, which the Overview describes."""


@dataclass(frozen=True, slots=True)
class Field:
    """Describe one field; `name` is its path within the item, separated by dots."""

    name: str
    kind: str
    rules: tuple[str, ...]
    text: Prose


@dataclass(frozen=True, slots=True)
class Body:
    """Describe the body of a request: its media type and an example; `is_file` is true for arbitrary bytes."""

    media_type: str
    value: Any
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """Describe one response: its status, its meaning, and an example of its body."""

    status: str
    text: Prose
    value: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """Describe one method of a path."""

    verb: str
    path: str
    title: str
    text: Prose
    parameters: tuple[Field, ...]
    headers: tuple[Field, ...]
    bodies: tuple[Body, ...]
    responses: tuple[Response, ...]

    @property
    def anchor(self) -> str:
        """Return the id of the operation's section in its page."""
        return "-".join((self.verb.lower(), *self.path.strip("/").replace("{", "").replace("}", "").split("/")))

    @property
    def errors(self) -> tuple[Response, ...]:
        """Return the error responses."""
        return tuple(response for response in self.responses if response.status >= "4")

    @property
    def successes(self) -> tuple[Response, ...]:
        """Return the other responses."""
        return tuple(response for response in self.responses if response not in self.errors)

    @property
    def success(self) -> Response | None:
        """Return the first response with a status of 2xx."""
        return next((response for response in self.responses if response.status.startswith("2")), None)


@dataclass(frozen=True, slots=True)
class Manual:
    """Hold the fields and operations of one resource."""

    fields: tuple[Field, ...]
    operations: tuple[Operation, ...]


def manual(document: Document, name: str) -> Manual:
    """Return the manual of the resource `name` from `document`."""
    properties: dict[str, Any] = {}
    required: set[str] = set()
    root = f"/{name}"
    paths = {path: item for path, item in document["paths"].items() if path == root or path.startswith(f"{root}/")}
    operations = [
        _operation(document, path, verb, item) for path, item in paths.items() for verb in VERBS if verb.lower() in item
    ]
    for schema, is_new in _item_schemas(document, root):
        for field, shape in schema.get("properties", {}).items():
            # The schema of a response takes precedence; keywords that only a request has are added.
            properties[field] = {**shape, **properties.get(field, {})}
        required |= set(schema.get("required", ())) if is_new else set()
    return Manual(tuple(_fields(document, properties, required)), tuple(operations))


def _item_schemas(document: Document, root: str) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Yield the schemas of an item, and whether each is that of a request."""
    paths = document["paths"]
    item: Mapping[str, Any] = next(
        (paths[path] for path in paths if path.startswith(f"{root}/{{") and path.count("/") == 2), {}
    )
    collection = paths.get(root, {})
    for described, verb, side in ((item, "get", 0), (collection, "post", 0), (collection, "post", 1), (item, "put", 1)):
        operation = described.get(verb)
        if operation is None:
            continue
        holder = operation.get("requestBody") if side else _success(document, operation)
        schema = _object(document, _content(document, holder).get(JSON, {}).get("schema", {}))
        if schema:
            yield schema, bool(side)


def _success(document: Document, operation: Mapping[str, Any]) -> Any:
    return next((response for status, response in operation["responses"].items() if status.startswith("2")), None)


def _operation(document: Document, path: str, verb: str, item: Mapping[str, Any]) -> Operation:
    described = item[verb.lower()]
    parameters = [
        wording.resolved(document, parameter)
        for parameter in (*item.get("parameters", ()), *described.get("parameters", ()))
    ]
    return Operation(
        verb=verb,
        path=path,
        title=described.get("summary", ""),
        text=prose(described.get("description", ""), _LEVEL),
        parameters=tuple(_parameter(document, p) for p in parameters if p["in"] == "query"),
        headers=tuple(_parameter(document, p) for p in parameters if p["in"] == "header" and p["name"] not in _COMMON),
        bodies=tuple(_bodies(document, described.get("requestBody"))),
        responses=tuple(_response(document, status, response) for status, response in described["responses"].items()),
    )


def _parameter(document: Document, parameter: Mapping[str, Any]) -> Field:
    schema = parameter.get("schema", {})
    rules = ("required",) if parameter.get("required") else ()
    return Field(
        parameter["name"],
        wording.kind(document, schema),
        (*rules, *wording.rules(schema)),
        prose(parameter.get("description", ""), _LEVEL),
    )


def _bodies(document: Document, holder: Any) -> Iterator[Body]:
    for media_type, media in _content(document, holder).items():
        yield Body(media_type, _example(document, media), is_file=_is_bytes(media))


def _is_bytes(media: Mapping[str, Any]) -> bool:
    return bool(media.get("schema", {}).get("format") == "binary")


def _response(document: Document, status: str, holder: Any) -> Response:
    described = wording.resolved(document, holder)
    content = _content(document, described)
    value = _example(document, content[JSON]) if JSON in content else None
    return Response(status, prose(described.get("description", ""), _LEVEL), value)


def _content(document: Document, holder: Any) -> Mapping[str, Any]:
    content: Mapping[str, Any] = wording.resolved(document, holder or {}).get("content", {})
    return content


def _example(document: Document, media: Mapping[str, Any]) -> Any:
    """Return the first example of a body; None if there is none."""
    if "example" in media:
        return media["example"]
    for example in media.get("examples", {}).values():
        return wording.resolved(document, example).get("value")
    examples = wording.resolved(document, media.get("schema", {})).get("examples")
    return examples[0] if examples else None


def _fields(document: Document, properties: Mapping[str, Any], required: set[str], prefix: str = "") -> Iterator[Field]:
    for name, schema in properties.items():
        plain_schema, is_nullable = wording.plain(document, schema)
        rules = [rule for rule, holds in (("required", name in required), ("may be null", is_nullable)) if holds]
        text = schema.get("description") or plain_schema.get("description", "")
        kind = wording.kind(document, schema)
        yield Field(prefix + name, kind, (*rules, *wording.rules(plain_schema)), prose(text, _LEVEL))
        inner, mark = plain_schema, ""
        if plain_schema.get("type") == "array":
            inner, mark = wording.resolved(document, plain_schema.get("items", {})), "[]"
        if "properties" in inner and prefix.count(".") < _DEEPEST:
            yield from _fields(document, inner["properties"], set(inner.get("required", ())), f"{prefix}{name}{mark}.")


def _object(document: Document, schema: Any) -> Mapping[str, Any]:
    """Return the schema of the single item if the body may contain one or several."""
    plain = wording.resolved(document, schema)
    branches: Sequence[Any] = (*plain.get("oneOf", ()), *plain.get("anyOf", ()))
    objects = [
        resolved for schema in (plain, *branches) if "properties" in (resolved := wording.resolved(document, schema))
    ]
    return objects[0] if objects else {}
