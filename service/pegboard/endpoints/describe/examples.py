"""Deterministic, valid examples generated from a JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

JsonSchema = Mapping[str, Any]

NOTHING: Any = object()
"""Stands for a missing example, since None is a valid one."""

IDENTITY = "0192f0c1-7b3a-7c55-9d3e-5f1c2b7a9e04"
INSTANT = "2015-02-15T05:21:07Z"

_FORMATS: Mapping[str, str] = {
    "uuid": IDENTITY,
    "date": "2015-02-15",
    "date-time": INSTANT,
    "email": "ada@example.org",
    "password": "correct horse battery",
    "uri": "https://example.org/",
    "uri-reference": "/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_BY_NAME: Mapping[str, str] = {
    "name": "Ada Lovelace",
    "title": "Notes on the Analytical Engine",
    "phone": "+44 20 7946 0018",
    "city": "London",
    "country": "GB",
    "currency": "EUR",
    "language": "en",
    "username": "ada",
}
_SAMPLES = ("05:21:07", "12.50", "12", "abc", "ABC", "Abc", "a", "A", "AB", "1234", "ab-12", "#0a7bff", "en-GB", "")


def example(schema: JsonSchema, components: Mapping[str, JsonSchema], *, reading: bool = True) -> Any:
    """Return a value that is valid for `schema`; `NOTHING` if none can be made.

    It is an example of the author's or made up. An object has all its properties, but no write-only ones when
    `reading`, and no read-only ones otherwise.
    """
    return _ExampleBuilder(components, reading).value(schema, "")


class _ExampleBuilder:
    """Make examples; recursive schemas end in `NOTHING`."""

    def __init__(self, components: Mapping[str, JsonSchema], reading: bool) -> None:
        self._components = components
        self._hidden = "writeOnly" if reading else "readOnly"
        self._resolving: list[str] = []

    def value(self, schema: JsonSchema, name: str) -> Any:
        if "$ref" in schema:
            return self._resolve(schema["$ref"].rpartition("/")[2], name)
        for keyword in ("examples", "enum"):
            if schema.get(keyword):
                return schema[keyword][0]
        if "const" in schema:
            return schema["const"]
        if "anyOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            made = (self.value(rest | part, name) for part in schema["anyOf"])
            return next((value for value in made if value is not NOTHING), NOTHING)
        types = schema.get("type", "string")
        made = _BY_TYPE[types if isinstance(types, str) else types[0]](self, schema, name)
        return NOTHING if made in schema.get("not", {}).get("enum", ()) else made

    def _resolve(self, component: str, name: str) -> Any:
        if component in self._resolving:
            return NOTHING
        self._resolving.append(component)
        made = self.value(self._components[component], name)
        self._resolving.pop()
        return made

    def object(self, schema: JsonSchema, name: str) -> Any:
        made = {}
        for key, part in schema.get("properties", {}).items():
            if part.get(self._hidden):
                continue
            value = self.value(part, key)
            if value is not NOTHING:
                made[key] = value
        return made if made.keys() >= set(schema.get("required", ())) else NOTHING

    def array(self, schema: JsonSchema, name: str) -> Any:
        if "prefixItems" in schema:
            parts = [self.value(part, name) for part in schema["prefixItems"]]
            return NOTHING if NOTHING in parts else parts
        if schema.get("maxItems", 1) == 0:
            return []
        item = self.value(schema.get("items", {}), name.removesuffix("s"))
        if item is NOTHING:
            return [] if not schema.get("minItems") else NOTHING
        return [item] * max(1, schema.get("minItems", 1))

    def string(self, schema: JsonSchema, name: str) -> Any:
        formatted = _FORMATS.get(schema.get("format", ""))
        text = formatted or _BY_NAME.get(name) or (name.replace("_", " ").capitalize() or "Text")
        pattern, least, most = schema.get("pattern"), schema.get("minLength", 0), schema.get("maxLength", len(text))
        if formatted is None and pattern is None:
            return (text if least <= len(text) else text.ljust(least, "."))[:most]
        matching = (sample for sample in (text, *_SAMPLES) if _matches(sample, pattern, least, schema.get("maxLength")))
        return next(matching, NOTHING)

    def number(self, schema: JsonSchema, name: str) -> Any:
        least, most = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        for number in (1, 10, 0, least, most, above and above + 1, below and below - 1):
            if number is None or (least is not None and number < least) or (most is not None and number > most):
                continue
            if (above is None or number > above) and (below is None or number < below):
                return number
        return NOTHING


_BY_TYPE: Mapping[str, Callable[[_ExampleBuilder, JsonSchema, str], Any]] = {
    "object": _ExampleBuilder.object,
    "array": _ExampleBuilder.array,
    "string": _ExampleBuilder.string,
    "integer": _ExampleBuilder.number,
    "number": _ExampleBuilder.number,
    "boolean": lambda builder, schema, name: True,
    "null": lambda builder, schema, name: None,
}


def _matches(text: str, pattern: str | None, least: int, most: int | None) -> bool:
    if len(text) < least or (most is not None and len(text) > most):
        return False
    try:
        return pattern is None or re.search(pattern.replace("(?<", "(?P<"), text) is not None
    except re.error:
        return False
