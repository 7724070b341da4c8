"""Fields as JSON Schema: apispec's result, with corrections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import marshmallow.fields
import orjson
from marshmallow import validate

from pegboard import rendering
from pegboard.schema import fields
from pegboard.schema.numbers import DECIMAL, MAX_INTEGER, MIN_INTEGER
from pegboard.values import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH

JsonSchema = dict[str, Any]

INTEGER = {"type": "integer", "format": "int64", "minimum": MIN_INTEGER, "maximum": MAX_INTEGER}
NUMBER = {"type": "number", "format": "double"}
CLOCK = r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?$"
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"

KINDS: tuple[tuple[type[marshmallow.fields.Field[Any]], JsonSchema], ...] = (
    (fields.Email, {"type": "string", "format": "email"}),
    (fields.Url, {"type": "string", "format": "uri"}),
    (
        fields.Password,
        {
            "type": "string",
            "format": "password",
            "minLength": MIN_PASSWORD_LENGTH,
            "maxLength": MAX_PASSWORD_LENGTH,
            "pattern": _PRINTABLE,
        },
    ),
    (fields.String, {"type": "string"}),
    (fields.UUID, {"type": "string", "format": "uuid"}),
    (fields.Integer, INTEGER),
    (fields.Float, NUMBER),
    (fields.Decimal, {"type": ["string", "number"], "pattern": f"^{DECIMAL}$"}),
    (fields.Boolean, {"type": "boolean"}),
    (fields.Date, {"type": "string", "format": "date"}),
    (fields.Time, {"type": "string", "pattern": CLOCK}),
    (fields.DateTime, {"type": "string", "format": "date-time"}),
    (fields.IP, {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
    (fields.Dict, {"type": "object"}),
    # Fields of marshmallow itself that apispec describes incorrectly.
    (marshmallow.fields.Url, {"type": "string", "format": "uri"}),
    (marshmallow.fields.Time, {"type": "string", "pattern": CLOCK}),
    (marshmallow.fields.IPv4, {"type": "string", "format": "ipv4"}),
    (marshmallow.fields.IPv6, {"type": "string", "format": "ipv6"}),
    (marshmallow.fields.IP, {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
)
"""The keywords that every field of a class has; the first matching class counts."""

_VALIDATOR_KEYWORDS = ("enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")
_APISPEC_KEYWORDS = ("x-minimum", "x-maximum", "example", "default", "min")


def ref(name: str, kind: str = "schemas") -> JsonSchema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def correct_property(converter: Any, field: Any, ret: JsonSchema) -> JsonSchema:
    """Correct the description `ret` that apispec made of `field`: an attribute function, run after all others."""
    for keyword in (*_VALIDATOR_KEYWORDS, *_APISPEC_KEYWORDS):
        if keyword not in field.metadata or keyword == "example":
            ret.pop(keyword, None)
    if ret.get("format", "") is None:
        del ret["format"]
    corrected: JsonSchema = {}
    for kind, shape in KINDS:
        if isinstance(field, kind):
            corrected |= shape
            break
    for kind, describe in _BY_ARGUMENTS:
        if isinstance(field, kind):
            corrected |= describe(converter, field)
    for check in _flatten(field.validators):
        for validator, constrain in _BY_VALIDATOR:
            if isinstance(check, validator):
                constrain(check, field, corrected)
                break
    corrected |= {name: plain(value) for name, value in ret.items() if name in field.metadata}
    if "example" in field.metadata:
        corrected["examples"] = [plain(field.metadata["example"])]
    default = _default(field)
    if default:
        corrected["default"] = default[0]
    ret.update(corrected)
    return with_null(ret) if field.allow_none else {}


def with_null(shape: JsonSchema) -> JsonSchema:
    """Return the keywords with which `shape` allows null, too, to be merged into it."""
    if "$ref" in shape:
        return {"anyOf": [{"$ref": shape.pop("$ref")}, {"type": "null"}]}
    if "anyOf" in shape and "type" not in shape:
        return {"anyOf": [*(part for part in shape["anyOf"] if part != {"type": "null"}), {"type": "null"}]}
    current = shape.get("type")
    changed: JsonSchema = {}
    if current is not None:
        kinds = [current] if isinstance(current, str) else current
        changed["type"] = [*(kind for kind in kinds if kind != "null"), "null"]
    if "enum" in shape and None not in shape["enum"]:
        changed["enum"] = [*shape["enum"], None]
    return changed


def plain(value: Any) -> Any:
    """Return a value as it is after serialization to JSON and back."""
    return orjson.loads(rendering.dumps(value))


def _flatten(validators: Any) -> Iterator[Any]:
    """Yield the validators of marshmallow, unwrapped and without nesting."""
    for validator in validators:
        check = getattr(validator, "check", validator)
        if isinstance(check, validate.And):
            yield from _flatten(check.validators)
        else:
            yield check


def _default(field: Any) -> tuple[Any, ...]:
    """Return the constant default of a field in a tuple; an empty tuple if it has none."""
    default = field.load_default
    if default in (list, dict):
        return (default(),)
    if default is marshmallow.missing or default is None or callable(default):
        return ()
    return (plain(field._serialize(default, "", None) if isinstance(field, fields.Enum) else default),)


def _constant(_: Any, field: Any) -> JsonSchema:
    return {"const": plain(field.constant)}


def _choices(_: Any, field: Any) -> JsonSchema:
    names = [field.field._serialize(m.value, None, None) if field.by_value else m.name for m in field.enum]
    choices = [plain(name) for name in names]
    return (
        {"type": "string", "enum": choices} if all(isinstance(choice, str) for choice in choices) else {"enum": choices}
    )


def _tuple(converter: Any, field: Any) -> JsonSchema:
    parts = [converter.field2property(part) for part in field.tuple_fields]
    return {"type": "array", "prefixItems": parts, "items": {}, "minItems": len(parts), "maxItems": len(parts)}


def _list(converter: Any, field: Any) -> JsonSchema:
    return {"type": "array", "items": converter.field2property(field.inner)}


def _integer(_: Any, field: Any) -> JsonSchema:
    return {"minimum": field.min, "maximum": field.max}


def _decimal(_: Any, field: Any) -> JsonSchema:
    # What is rounded may have any number of places.
    places = "" if field.rounding else field.places
    fraction = rf"(\.\d{{1,{places}}})?" if places != 0 else ""
    return {"pattern": rf"^-?\d{{1,{max(field.digits, 1)}}}{fraction}$"}


def _reference(_: Any, field: Any) -> JsonSchema:
    about = {"description": field.metadata.get("description", f"The id of an item of `/{field.resource}`.")}
    # A made-up id would refer to a missing item.
    return about | ({"examples": [None]} if field.allow_none and "example" not in field.metadata else {})


_BY_ARGUMENTS: tuple[tuple[Any, Callable[[Any, Any], JsonSchema]], ...] = (
    (marshmallow.fields.Constant, _constant),
    (marshmallow.fields.Enum, _choices),
    (marshmallow.fields.Tuple, _tuple),
    (marshmallow.fields.List, _list),
    (fields.Integer, _integer),
    (fields.Decimal, _decimal),
    (fields.Reference, _reference),
)
"""The keywords that depend on the arguments of a field."""


def _length(check: validate.Length, field: Any, shape: JsonSchema) -> None:
    many = getattr(field, "many", False) or shape.get("type") == "array"
    what = "Items" if many else "Properties" if shape.get("type") == "object" else "Length"
    least, most = (check.min, check.max) if check.equal is None else (check.equal, check.equal)
    _narrow(shape, {f"min{what}": least, f"max{what}": most})


def _range(check: validate.Range, field: Any, shape: JsonSchema) -> None:
    kinds = shape.get("type", ())
    if not {"integer", "number"}.intersection([kinds] if isinstance(kinds, str) else kinds):
        bounds = [("from", check.min), ("to", check.max)]
        text = " ".join(f"{word} {plain(bound)}" for word, bound in bounds if bound is not None)
        shape["description"] = f"{field.metadata.get('description', '')} In the range {text}.".strip()
        return
    lower = "minimum" if check.min_inclusive else "exclusiveMinimum"
    upper = "maximum" if check.max_inclusive else "exclusiveMaximum"
    _narrow(shape, {lower: _number(check.min), upper: _number(check.max)})


def _number(bound: Any) -> Any:
    return bound if bound is None or isinstance(bound, int) else float(bound)


def _narrow(shape: JsonSchema, bounds: Mapping[str, Any]) -> None:
    for name, bound in bounds.items():
        if bound is not None:
            choose = max if name.startswith(("min", "exclusiveMin")) else min
            shape[name] = choose(shape.get(name, bound), bound)


def _one_of(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["enum"] = plain(list(check.choices))


def _contains_only(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["items"] = shape.get("items", {}) | {"enum": plain(list(check.choices))}


def _contains_none_of(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["items"] = shape.get("items", {}) | {"not": {"enum": plain(list(check.iterable))}}


def _none_of(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["not"] = {"enum": plain(list(check.iterable))}


def _equal(check: Any, field: Any, shape: JsonSchema) -> None:
    # Not `const`, which cannot be extended with null for a nullable field.
    shape["enum"] = [plain(check.comparable)]


def _regexp(check: validate.Regexp, field: Any, shape: JsonSchema) -> None:
    pattern = ecma(check.regex)
    if pattern is not None:
        shape["pattern"] = pattern


_BY_VALIDATOR: tuple[tuple[type, Callable[[Any, Any, JsonSchema], None]], ...] = (
    (validate.Length, _length),
    (validate.Range, _range),
    (validate.ContainsOnly, _contains_only),
    (validate.OneOf, _one_of),
    (validate.ContainsNoneOf, _contains_none_of),
    (validate.NoneOf, _none_of),
    (validate.Equal, _equal),
    # These two are subclasses of Regexp; their formats are more useful than their patterns.
    (validate.Email, lambda check, field, shape: None),
    (validate.URL, lambda check, field, shape: None),
    (validate.Regexp, _regexp),
)
"""The keywords of marshmallow's validators; authors describe their own validators in the metadata of a field."""

_REPLACEMENTS = ((r"\A", "^"), (r"\Z", "$"), ("(?P<", "(?<"))
_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})")
_UNSUPPORTED = re.compile(r"\(\?[#aiLmsuxP(>-]|[+*?}]\+|\\[0-9UN]")


def ecma(regex: re.Pattern[Any]) -> str | None:
    """Return a pattern in the syntax of ECMA-262, as JSON Schema demands; None if it has no equivalent."""
    pattern = regex.pattern
    if regex.flags & ~(re.UNICODE | re.ASCII):
        return None
    for python, javascript in _REPLACEMENTS:
        pattern = pattern.replace(python, javascript)
    pattern = _ESCAPE.sub(r"\\u00\1", pattern)
    if _UNSUPPORTED.search(pattern):
        return None
    # Python matches at the beginning of the text, ECMA-262 anywhere.
    return pattern if pattern.startswith("^") and "|" not in pattern else f"^(?:{pattern})"
