"""What a JSON schema says, in words: what kind of value it describes, and what it demands of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pegboard import rendering

Document = Mapping[str, Any]
Schema = Mapping[str, Any]

_LONGEST_CHAIN = 8

_FORMATS: Mapping[str, str] = {
    "date-time": "instant",
    "date": "date",
    "time": "time of day",
    "uuid": "UUID",
    "email": "email address",
    "uri": "URL",
    "int64": "integer",
    "double": "number",
}
"""What the formats of JSON Schema are called."""

_BOUNDS = (
    ("minLength", "maxLength", "character"),
    ("minItems", "maxItems", "element"),
    ("minProperties", "maxProperties", "member"),
    ("minimum", "maximum", ""),
)
_WIDEST = (-(2**63), 2**63 - 1)
"""Bounds that only say how a number is stored."""

_FLAGS = (("readOnly", "read-only"), ("writeOnly", "write-only"), ("uniqueItems", "no element twice"))


def kind(document: Document, schema: Schema) -> str:
    """Say in a word or two what values a schema describes."""
    meant, _ = plain(document, schema)
    if "const" in meant:
        return _written(meant["const"])
    of_type = meant.get("type")
    if of_type == "array":
        inner = meant.get("items")
        return f"list of {_plural(kind(document, inner))}" if isinstance(inner, Mapping) and inner else "list"
    if meant.get("format") in _FORMATS:
        return _FORMATS[meant["format"]]
    if of_type:
        return of_type if isinstance(of_type, str) else " or ".join(of_type)
    branches = [kind(document, one) for one in (*meant.get("anyOf", ()), *meant.get("oneOf", ()))]
    return " or ".join(dict.fromkeys(branches)) or "any value"


def rules(schema: Schema) -> Iterator[str]:
    """Yield what a schema demands beyond the kind of value; it is one that `plain` returned."""
    for name, words in _FLAGS:
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
        yield "one of " + ", ".join(_written(value) for value in schema["enum"] if value is not None)
    if schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
        yield from (f"each {rule}" for rule in rules(schema["items"]))
    if schema.get("default") is not None:
        yield f"default {_written(schema['default'])}"


def plain(document: Document, schema: Schema) -> tuple[Schema, bool]:
    """Return a schema without its references and its null, and whether it had one."""
    found = resolved(document, schema)
    of_type = found.get("type")
    if isinstance(of_type, list):
        rest = [one for one in of_type if one != "null"]
        return {**found, "type": rest[0] if len(rest) == 1 else rest}, "null" in of_type
    for several in ("anyOf", "oneOf"):
        branches = found.get(several, ())
        rest = [one for one in branches if one.get("type") != "null"]
        if len(rest) == 1 and len(rest) < len(branches):
            inner, _ = plain(document, rest[0])
            return {**inner, **{key: value for key, value in found.items() if key != several}}, True
    return found, False


def resolved(document: Document, described: Any) -> Mapping[str, Any]:
    """Return what a reference leads to within the document, with what stands beside it; anything else as it is."""
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
    # No length is less than 0: to say so would say nothing.
    low = f"{least:,}" if least is not None and (least or not unit) else ""
    high = f"{most:,}" if most is not None else ""
    if not low and not high:
        return ""
    bounds = (
        low if low == high else f"{low} to {high}" if low and high else f"at most {high}" if high else f"at least {low}"
    )
    units = f" {unit}s" if unit and bounds.rpartition(" ")[2] != "1" else f" {unit}"
    return bounds + units.rstrip()


def _written(value: Any) -> str:
    return rendering.dumps(value).decode()
