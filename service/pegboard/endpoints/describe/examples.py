"""Examples that are made from a JSON Schema, the same each time, and that it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

JsonSchema = Mapping[str, Any]

NOTHING: Any = object()
"""What there is where no example is known."""

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
_NAMED: Mapping[str, str] = {
    "name": "Ada Lovelace",
    "title": "Notes on the Analytical Engine",
    "phone": "+44 20 7946 0018",
    "city": "London",
    "country": "GB",
    "currency": "EUR",
    "language": "en",
    "username": "ada",
}
_PATTERNED = ("05:21:07", "12.50", "12", "abc", "ABC", "Abc", "a", "A", "AB", "1234", "ab-12", "#0a7bff", "en-GB", "")


def example(schema: JsonSchema, components: Mapping[str, JsonSchema], name: str = "", *, reading: bool = True) -> Any:
    """Return a value that `schema` takes, `NOTHING` where none is known.

    It is what the author gave, a default, or made up; `name` is what the value is called. An object has all its
    properties, without those that are only written when `reading`, or only read when not.
    """
    return _Making(components, reading).value(schema, name)


class _Making:
    """Make values, not going round in circles."""

    def __init__(self, components: Mapping[str, JsonSchema], reading: bool) -> None:
        self._components = components
        self._hidden = "writeOnly" if reading else "readOnly"
        self._within: list[str] = []

    def value(self, schema: JsonSchema, name: str) -> Any:
        if "$ref" in schema:
            return self._referred(schema["$ref"].rpartition("/")[2], name)
        for given in ("examples", "enum"):
            if schema.get(given):
                return schema[given][0]
        if "const" in schema:
            return schema["const"]
        if "anyOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            made = (self.value(rest | part, name) for part in schema["anyOf"])
            return next((one for one in made if one is not NOTHING), NOTHING)
        kinds = schema.get("type", "string")
        made = _KINDS[kinds if isinstance(kinds, str) else kinds[0]](self, schema, name)
        return NOTHING if made in schema.get("not", {}).get("enum", ()) else made

    def _referred(self, component: str, name: str) -> Any:
        if component in self._within:
            return NOTHING
        self._within.append(component)
        made = self.value(self._components[component], name)
        self._within.pop()
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
        one = self.value(schema.get("items", {}), name.removesuffix("s"))
        if one is NOTHING:
            return [] if not schema.get("minItems") else NOTHING
        return [one] * max(1, schema.get("minItems", 1))

    def string(self, schema: JsonSchema, name: str) -> Any:
        known = _FORMATS.get(schema.get("format", ""))
        text = known or _NAMED.get(name) or (name.replace("_", " ").capitalize() or "Text")
        pattern, least, most = schema.get("pattern"), schema.get("minLength", 0), schema.get("maxLength", len(text))
        if known is None and pattern is None:
            return (text if least <= len(text) else text.ljust(least, "."))[:most]
        fitting = (one for one in (text, *_PATTERNED) if _fits(one, pattern, least, schema.get("maxLength")))
        return next(fitting, NOTHING)

    def number(self, schema: JsonSchema, name: str) -> Any:
        least, most = schema.get("minimum"), schema.get("maximum")
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        for one in (1, 10, 0, least, most, above and above + 1, below and below - 1):
            if one is None or (least is not None and one < least) or (most is not None and one > most):
                continue
            if (above is None or one > above) and (below is None or one < below):
                return one
        return NOTHING


_KINDS: Mapping[str, Callable[[_Making, JsonSchema, str], Any]] = {
    "object": _Making.object,
    "array": _Making.array,
    "string": _Making.string,
    "integer": _Making.number,
    "number": _Making.number,
    "boolean": lambda making, schema, name: True,
    "null": lambda making, schema, name: None,
}


def _fits(text: str, pattern: str | None, least: int, most: int | None) -> bool:
    if len(text) < least or (most is not None and len(text) > most):
        return False
    try:
        return pattern is None or re.search(pattern.replace("(?<", "(?P<"), text) is not None
    except re.error:
        return False
