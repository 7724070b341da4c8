"""Hypothesis strategies generated from a JSON Schema."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

JsonSchema = Mapping[str, Any]

_EXTRA_ELEMENTS = 4
"""How many elements a list or an object has at most above its minimum."""
_EXTRA_CHARACTERS = 40
"""How many characters a text has at most above its minimum."""

_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
_OFFSETS = st.sampled_from(("Z", "+00:00", "+05:30", "-08:00"))

_FORMATS: Mapping[str, SearchStrategy[Any]] = {
    "uuid": st.uuids().map(str),
    "date": st.dates().map(str),
    "date-time": st.builds(lambda moment, offset: moment.isoformat("T", "seconds") + offset, st.datetimes(), _OFFSETS),
    "email": st.builds("{}@{}.org".format, _NAMES, _NAMES),
    "uri": st.builds("https://{}.org/{}".format, _NAMES, _NAMES),
    "password": st.text(string.ascii_letters + string.digits + " -_", min_size=12, max_size=24),
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv6": st.ip_addresses(v=6).map(str),
}

ANYTHING: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((2**31, 2**63, -(2**63) - 1, 10**30, 1e308, 0.1, -0.0))
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(_CHARACTERS, max_size=20)
    | st.sampled_from(
        ("", "\0", "x" * 11_000, "2015-02-30", "0000-00-00T00:00:00Z", "00000000-0000-0000-0000-00000000000")
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_CHARACTERS, max_size=8), inner, max_size=3),
    max_leaves=5,
)
"""Any JSON value, including ones that often cause errors."""


class StrategyBuilder:
    """Make strategies for schemas, which may refer to `components`."""

    def __init__(self, components: Mapping[str, JsonSchema]) -> None:
        self._components = components

    def of(self, schema: JsonSchema) -> SearchStrategy[Any]:
        """Return a strategy for the valid values of `schema`; prefers its examples."""
        strategy = self._of(schema)
        excluded = schema.get("not", {}).get("enum", ())
        strategy = strategy.filter(lambda value: value not in excluded) if excluded else strategy
        return st.sampled_from(schema["examples"]) | strategy if schema.get("examples") else strategy

    def _of(self, schema: JsonSchema) -> SearchStrategy[Any]:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return st.deferred(lambda: self.of(self._components[name]))
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if "anyOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            return st.one_of(*(self.of({**rest, **part}) for part in schema["anyOf"]))
        types = schema.get("type")
        if types is None:
            return ANYTHING
        types = [types] if isinstance(types, str) else types
        if "pattern" in schema and "string" in types:
            # A decimal may be text or a number, but only the text is described exactly.
            types = [kind for kind in types if kind != "number"]
        return st.one_of(*(_BY_TYPE[kind](self, schema) for kind in types))

    def outside(self, schema: JsonSchema) -> SearchStrategy[Any]:
        """Return a strategy for values just outside the bounds of `schema`; any values if it has no bounds."""
        shapes = [schema, *schema.get("anyOf", ())]
        outside = [make(shape[name]) for shape in shapes for name, make in _OUTSIDE.items() if name in shape]
        return st.sampled_from(outside) if outside else ANYTHING

    def object(self, schema: JsonSchema) -> SearchStrategy[Any]:
        """Return a strategy for objects with the declared properties, or with arbitrary ones if none are declared."""
        parts = {key: self.of(part) for key, part in schema.get("properties", {}).items() if not part.get("readOnly")}
        if parts:
            required = {key: parts.pop(key) for key in schema.get("required", ()) if key in parts}
            return st.fixed_dictionaries(required, optional=parts)
        values = schema.get("additionalProperties")
        least = schema.get("minProperties", 0)
        most = min(schema.get("maxProperties", least + _EXTRA_ELEMENTS), least + _EXTRA_ELEMENTS)
        of = self.of(values) if isinstance(values, Mapping) and values else ANYTHING
        return st.dictionaries(st.text(_CHARACTERS, max_size=12), of, min_size=least, max_size=most)

    def array(self, schema: JsonSchema) -> SearchStrategy[Any]:
        """Return a strategy for lists."""
        if "prefixItems" in schema:
            return st.tuples(*(self.of(part) for part in schema["prefixItems"])).map(list)
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", least + _EXTRA_ELEMENTS), least + _EXTRA_ELEMENTS)
        return st.lists(self.of(schema.get("items", {})), min_size=least, max_size=most)

    def string(self, schema: JsonSchema) -> SearchStrategy[Any]:
        """Return a strategy for strings."""
        least = schema.get("minLength", 0)
        most = schema.get("maxLength", least + _EXTRA_CHARACTERS)
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]].filter(lambda text: least <= len(text) <= max(most, _EXTRA_CHARACTERS))
        if "pattern" in schema:
            patterned = _matching(schema["pattern"])
            if patterned is not None:
                return patterned.filter(lambda text: least <= len(text) <= most)
        return st.text(_CHARACTERS, min_size=least, max_size=min(most, least + _EXTRA_CHARACTERS))

    def integer(self, schema: JsonSchema) -> SearchStrategy[Any]:
        """Return a strategy for integers."""
        least, most = schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1)
        least = max(least, schema.get("exclusiveMinimum", least - 1) + 1)
        most = min(most, schema.get("exclusiveMaximum", most + 1) - 1)
        return st.integers(int(least), int(most))

    def number(self, schema: JsonSchema) -> SearchStrategy[Any]:
        """Return a strategy for numbers."""
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        return st.floats(
            schema.get("minimum", above),
            schema.get("maximum", below),
            exclude_min=above is not None,
            exclude_max=below is not None,
            allow_nan=False,
            allow_infinity=False,
        )


_BY_TYPE: Mapping[str, Callable[[StrategyBuilder, JsonSchema], SearchStrategy[Any]]] = {
    "object": StrategyBuilder.object,
    "array": StrategyBuilder.array,
    "string": StrategyBuilder.string,
    "integer": StrategyBuilder.integer,
    "number": StrategyBuilder.number,
    "boolean": lambda builder, schema: st.booleans(),
    "null": lambda builder, schema: st.none(),
}


_OUTSIDE: Mapping[str, Callable[[Any], Any]] = {
    "minLength": lambda least: "x" * (least - 1) if least else 0,
    "maxLength": lambda most: "x" * (most + 1),
    "minItems": lambda least: [None] * (least - 1) if least else 0,
    "maxItems": lambda most: [None] * (most + 1),
    "minimum": lambda least: least - 1,
    "maximum": lambda most: most + 1,
    "exclusiveMinimum": lambda least: least,
    "exclusiveMaximum": lambda most: most,
    "enum": lambda choices: f"{choices[0]}x",
    "pattern": lambda pattern: "\u2028",
    "required": lambda names: {},
}


def _matching(pattern: str) -> SearchStrategy[str] | None:
    """Return a strategy for the matches of an ECMA-262 pattern; None if Python cannot compile it."""
    # In Python, unlike in ECMA-262, `$` also matches before a final line feed.
    python = re.sub(
        r"(?<!\\)\$$", r"\\Z", pattern.replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!")
    )
    try:
        compiled = re.compile(python, re.ASCII)
    except re.error:
        return None
    return st.from_regex(compiled).filter(lambda text: "\0" not in text)
