"""JSON Schemas described in English: types and constraints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pegboard import rendering
from pegboard.schema.numbers import MAX_INTEGER, MIN_INTEGER

Document = Mapping[str, Any]
Schema = Mapping[str, Any]

_LONGEST_CHAIN = 8

_FORMATS: Mapping[str, str] = {
    "date-time": "timestamp",
    "date": "date",
    "time": "time of day",
    "uuid": "UUID",
    "email": "email address",
    "uri": "URL",
    "int64": "integer",
    "double": "number",
}
"""The name of each format of JSON Schema."""

_BOUNDS = (
    ("minLength", "maxLength", "character"),
    ("minItems", "maxItems", "element"),
    ("minProperties", "maxProperties", "member"),
    ("minimum", "maximum", ""),
)
_WIDEST = (MIN_INTEGER, MAX_INTEGER)
"""Bounds that only reflect how an integer is stored."""

_KEYWORDS = (("readOnly", "read-only"), ("writeOnly", "write-only"), ("uniqueItems", "no element twice"))


def kind(document: Document, schema: Schema) -> str:
    """Return the kind of the values of a schema in a word or two."""
    plain_schema, _ = plain(document, schema)
    if "const" in plain_schema:
        return _as_json(plain_schema["const"])
    of_type = plain_schema.get("type")
    if of_type == "array":
        inner = plain_schema.get("items")
        return f"list of {_plural(kind(document, inner))}" if isinstance(inner, Mapping) and inner else "list"
    if plain_schema.get("format") in _FORMATS:
        return _FORMATS[plain_schema["format"]]
    if of_type:
        return of_type if isinstance(of_type, str) else " or ".join(of_type)
    branches = [kind(document, branch) for branch in (*plain_schema.get("anyOf", ()), *plain_schema.get("oneOf", ()))]
    return " or ".join(dict.fromkeys(branches)) or "any value"


def rules(schema: Schema) -> Iterator[str]:
    """Yield the constraints of a schema, which must be one that `plain` returned."""
    for name, words in _KEYWORDS:
        if schema.get(name):
            yield words
    for low, high, unit in _BOUNDS:
        bounds = _bounds(schema.get(low), schema.get(high), unit)
        if bounds:
            yield bounds
    if "exclusiveMinimum" in schema:
        yield f"more than {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema:
        yield f"less than {schema['exclusiveMaximum']}"
    if "enum" in schema:
        yield "one of " + ", ".join(_as_json(value) for value in schema["enum"] if value is not None)
    if schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
        yield from (f"each {rule}" for rule in rules(schema["items"]))
    if schema.get("default") is not None:
        yield f"default {_as_json(schema['default'])}"


def plain(document: Document, schema: Schema) -> tuple[Schema, bool]:
    """Return a schema without references and without null, and whether it allowed null."""
    found = resolved(document, schema)
    of_type = found.get("type")
    if isinstance(of_type, list):
        rest = [name for name in of_type if name != "null"]
        return {**found, "type": rest[0] if len(rest) == 1 else rest}, "null" in of_type
    for several in ("anyOf", "oneOf"):
        branches = found.get(several, ())
        rest = [branch for branch in branches if branch.get("type") != "null"]
        if len(rest) == 1 and len(rest) < len(branches):
            inner, _ = plain(document, rest[0])
            return {**inner, **{key: value for key, value in found.items() if key != several}}, True
    return found, False


def resolved(document: Document, described: Any) -> Mapping[str, Any]:
    """Resolve a reference within the document, and merge its other keywords; return anything else unchanged."""
    found: Mapping[str, Any] = described if isinstance(described, Mapping) else {}
    for _ in range(_LONGEST_CHAIN):
        if "$ref" not in found:
            break
        target: Any = document
        for step in found["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        found = {**target, **{key: value for key, value in found.items() if key != "$ref"}}
    return found


def _plural(of_kind: str) -> str:
    return of_kind if of_kind.startswith(("list of", "any ")) else f"{of_kind}{'es' if of_kind.endswith('s') else 's'}"


def _bounds(least: Any, most: Any, unit: str) -> str:
    if (least, most) == _WIDEST:
        return ""
    # A minimum length of 0 is not a constraint.
    low = f"{least:,}" if least is not None and (least or not unit) else ""
    high = f"{most:,}" if most is not None else ""
    if not low and not high:
        return ""
    bounds = (
        low if low == high else f"{low} to {high}" if low and high else f"at most {high}" if high else f"at least {low}"
    )
    units = f" {unit}s" if unit and bounds.rpartition(" ")[2] != "1" else f" {unit}"
    return bounds + units.rstrip()


def _as_json(value: Any) -> str:
    return rendering.dumps(value).decode()
